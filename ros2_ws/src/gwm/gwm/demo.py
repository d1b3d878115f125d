"""``gwm demo``: the whole stack over live ROS 2 topics, a few episodes, and a table of what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import rclpy

from gwm.console_address import to_say
from gwm.graph import environment, graph
from gwm.operator import GraphOver, Operator
from gwm.supervise import Supervisor
from gwm_core import topics
from gwm_core.control.judge import judge
from gwm_core.data.contact_sheet import contact_sheet
from gwm_core.deploy.build import compiled, load
from gwm_core.deploy.bundle import is_bundle
from gwm_core.deploy.runtimes import choose
from gwm_core.errors import InputError, one_of
from gwm_core.evaluate.statistics import interval
from gwm_core.imagination import GRAPHS
from gwm_core.model.weights import read_weights
from gwm_core.sim.tasks import TIME_LIMIT, sample_layout

GAP = 2.0  # [s] between plans of an episode
START_TIME = 90.0  # [s] for everything to come up on a slow machine


def run_demo(args, policy: str) -> int:
    """Run the demo as the command line asks; returns the exit code."""
    figures, out = drive(args, policy)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")
    _table(figures, out)
    contact_sheet(out)
    return 0


def drive(args, policy: str) -> tuple[dict, Path]:
    """Start the graph, run the episodes, end it: figures, also in ``summary.json`` of the folder returned."""
    sample_layout(args.task, args.seed, args.difficulty)
    nodes = graph(task=args.task, policy=policy, imagination=args.imagination)
    imagine = any(node.name == "imagination" for node in nodes)
    _check_policy(policy, args.task, ("chunk", *(GRAPHS if imagine else ())))
    out = Path(args.out) / time.strftime("%Y%m%d-%H%M%S")
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write to {args.out}: {error.strerror}; choose another --out") from None
    nodes = graph(task=args.task, policy=policy, record=str(out), imagination=args.imagination)
    os.environ.update(environment())
    rclpy.init(args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    operator = Operator()
    with open(out / "nodes.log", "w") as log:
        supervisor = Supervisor(nodes, log)
        idle = subprocess.Popen([sys.executable, "-m", "gwm.idle"], stdout=subprocess.PIPE, text=True, process_group=0)
        try:
            supervisor.start()
            rows, before, after = _episodes(operator, supervisor, args, out / "console.url")
        except GraphOver as error:
            raise InputError(f"the demo stopped: {error}; {_last_words(out / 'nodes.log')}") from None
        finally:
            idle.terminate()
            supervisor.stop()
            operator.destroy_node()
            rclpy.try_shutdown()
    figures = _figures(operator, args, rows, before, after, json.loads(idle.communicate()[0]))
    figures["respawns"] = supervisor.respawns
    (out / "summary.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures, out


def _last_words(log: Path) -> str:
    lines = log.read_text().strip().splitlines()
    clear = [line for line in lines if line.startswith("gwm: ")] or lines
    return f"last in {log}: " + " | ".join(clear[-2:])


def _check_policy(policy: str, task: str, graphs: tuple[str, ...]) -> None:
    """Raise InputError where it cannot do the task, and compile it where that was not done before."""
    if policy == "expert":
        return
    folder = Path(policy)
    one_of("task", task, read_weights(folder, "policy").config.tasks)
    for name in graphs if is_bundle(folder) else ():
        runtime = choose("auto", "coarse" if name in GRAPHS else "auto")
        if not compiled(folder, name, *runtime):
            print(f"compiling {name} for this machine, once ...", flush=True)
            load(folder, name, *runtime, threads=1)


def _say(args, text: str, end: str = "\n") -> None:
    live = sys.stdout.isatty() and not args.headless
    if live:
        print(f"\r\033[K{text}", end=end, flush=True)
    elif end == "\n":
        print(text, flush=True)


def _episodes(operator: Operator, supervisor: Supervisor, args, page: Path) -> tuple[list[dict], dict, dict]:
    """Results of all episodes, and the message counts before the first and after the last."""
    _say(args, "starting simulation, policy, gate and recorder ...")
    poll = supervisor.poll
    if not operator.wait("start", lambda: operator.ready, START_TIME, poll):
        reports = {"gate": operator.status, **{n: operator.reports.get(n) for n in ("sim", "policy", "recorder")}}
        raise GraphOver(f"not ready after {START_TIME:.0f} s: {[n for n, r in reports.items() if not r]}")
    _say(args, f"ready: renderer {operator.reports['sim']['renderer']}, policy {operator.reports['policy']['message']}")
    if page.exists():
        _say(args, f"watch, hold and stop it at {to_say(page)}")
    before = _rest_and_count(operator, poll)
    operator.wish("gate/arm", poll)
    rows = [_episode(operator, args, number, poll) for number in range(args.episodes)]
    operator.wish("gate/stop", poll)
    operator.need("rest", lambda: operator.status.get("state") == "DISARMED", 5.0, poll)
    return rows, before, _rest_and_count(operator, poll)


def _rest_and_count(operator: Operator, poll) -> dict[str, dict[str, int]]:
    """With the gate disarmed and the cameras off nothing is on its way, so sent and received may be compared."""
    operator.film(False)
    operator.wait("the last counts", lambda: False, 1.5, poll)
    counts = _counts(operator)
    operator.film(True)
    return counts


def _episode(operator: Operator, args, number: int, poll) -> dict:
    """Home, lay the table, record, run until success or the time is up, hold, save."""
    seed, label = args.seed + number, f"episode {number + 1}/{args.episodes} seed {args.seed + number}"
    operator.hold(poll)
    operator.home(poll)
    operator.lay(args.task, seed, args.difficulty)
    operator.need("layout", lambda: operator.result.get("seed") == seed, 5.0, poll)
    operator.wish("recorder/start", poll)
    operator.wish("gate/arm", poll)

    def over() -> bool:
        seconds, status = operator.result["seconds"], operator.status
        _say(args, f"{label} {status['state']} {seconds:.1f} s, latency {status['latency_ms']} ms", end="")
        return operator.result["success"] or seconds > TIME_LIMIT or status["state"] == "FAULT"

    operator.need("end of the episode", over, 3 * TIME_LIMIT, poll)
    row = dict(operator.result)
    if operator.status["state"] == "FAULT":
        row["success"] = False
        operator.wish("gate/reset", poll)
        operator.wish("gate/arm", poll)
    operator.hold(poll)
    operator.wish("recorder/save", poll)
    _say(args, f"{label}: {'success' if row['success'] else 'FAILED'} after {row['seconds']:.1f} s")
    return row


def _counts(operator: Operator) -> dict[str, dict[str, int]]:
    """Messages sent and received so far, by topic."""
    sim, policy = operator.reports["sim"], operator.reports["policy"]
    counts = {
        key[5:]: {"sent": int(value), "received": int(policy[f"received {key[5:]}"])}
        for key, value in sim.items()
        if key.startswith("sent ")
    }
    sent = int(operator.status["sent"])
    counts[topics.TARGET_JOINT] = {"sent": sent, "received": int(sim[f"received {topics.TARGET_JOINT}"])}
    counts[topics.COMMAND] = {"sent": sent, "received": len(operator.commands)}
    return counts


def _figures(operator: Operator, args, rows, before, after, idle) -> dict:
    q, dq, ddq, latched, stamps = (np.array(column) for column in zip(*operator.commands))
    verdict = judge(q, dq, ddq, latched, stamps=stamps)
    won, latency = sum(r["success"] for r in rows), sorted(operator.latencies.values())
    status = operator.status
    return {
        "task": args.task, "difficulty": args.difficulty, "seed": args.seed,
        "policy": operator.reports["policy"]["message"], "renderer": operator.reports["sim"]["renderer"],
        "episodes": len(rows), "successes": won, "ci95": list(interval(won, len(rows))),
        "seconds": [r["seconds"] for r in rows],
        "failed_seeds": [r["seed"] for r in rows if not r["success"]],
        "latency_ms": {
            **_percentiles(latency), "plans": len(latency),
        },
        "stages_ms": _stages(operator),
        "imagination": _imagined(operator),
        "gate": {
            "rate_hz": float(status["rate_hz"]), "late_fraction": int(status["late"]) / int(status["periods"]),
            "idle_late_fraction": idle["late_fraction"],
            **{k: float(v) for k, v in status.items() if k.startswith(("joints_", "beats_", "step_"))},
            "violations": verdict.total, "samples": verdict.samples,
            "latches": verdict.latches, "broken": {k: n for k, n in verdict.violations.items() if n},
            "limit_use": {k: round(v, 3) for k, v in verdict.use.items()},
            "stops": {k[6:]: int(v) for k, v in status.items() if k.startswith("stops ")},
            "refused": {k[8:]: int(v) for k, v in status.items() if k.startswith("refused ")},
        },
        "topics": {t: {k: after[t][k] - before[t][k] for k in after[t]} for t in after},
        "sim_slipped_s": float(operator.reports["sim"]["slipped_s"]),
        "frames_not_drawn": int(operator.reports["sim"]["frames_due"]) - int(operator.reports["sim"]["frames_drawn"]),
        "plans_rejected": int(operator.reports["policy"]["rejected"]),
    }  # fmt: skip


def _imagined(operator: Operator) -> dict[str, float]:
    """How many futures were shown a second while plans came, and how old they were [ms]."""
    plans = sorted(operator.futures)
    seconds = [b - a for a, b in pairwise(plans) if b - a < GAP * 1e9]
    ages = [future["age_ms"] for future in operator.futures.values()]
    return {
        "futures": len(plans),
        "per_s": 1e9 * len(seconds) / sum(seconds) if seconds else 0.0,
        "age_ms_p50": float(np.median(ages)) if ages else 0.0,
    }


def _stages(operator: Operator) -> dict[str, dict[str, float]]:
    """Where the time from frame to command went, over the plans that were followed: p50 and p99 [ms] of each part."""
    whole = operator.latencies
    parts: dict[str, list[float]] = {}
    for plan in whole.keys() & operator.stages.keys():
        stages = operator.stages[plan]
        rest = {"gate": whole[plan] - sum(stages.values()), "all but capture": whole[plan] - stages["capture"]}
        for name, value in (stages | rest).items():
            parts.setdefault(name, []).append(value)
    return {name: dict(zip(("p50", "p99"), np.percentile(v, [50, 99]).round(2).tolist())) for name, v in parts.items()}


def _percentiles(latency: list[float]) -> dict:
    """Of the accepted plans [ms]; null where there were none."""
    if not latency:
        return {"p50": None, "p99": None, "deciles": None}
    p50, p99, *deciles = (round(float(x), 2) for x in np.percentile(latency, [50, 99, *range(0, 101, 10)]))
    return {"p50": p50, "p99": p99, "deciles": deciles}


def _table(f: dict, out: Path) -> None:
    gate, latency, stages = f["gate"], f["latency_ms"], f["stages_ms"].get("all but capture")
    timing = f"p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms" if latency["plans"] else "no plan was accepted"
    lines = [
        ("successes", f"{f['successes']}/{f['episodes']}  [{f['ci95'][0]:.2f}, {f['ci95'][1]:.2f}] 95 %"),
        ("latency, frame to command", timing),
        *([("without capture", "p50 {p50:.0f} ms, p99 {p99:.0f} ms".format(**stages))] if stages else []),
        ("plans", f"{latency['plans']} followed, {sum(gate['refused'].values())} refused by the gate "
                  f"({', '.join(gate['refused']) or 'none'}), {f['plans_rejected']} out of reach"),
        ("gate", f"{gate['rate_hz']:.2f} Hz, {100 * gate['late_fraction']:.2f} % of periods over 15 ms "
                 f"(idle loop beside it: {100 * gate['idle_late_fraction']:.2f} %)"),
        ("judge", f"{gate['violations']} violations in {gate['samples']} commands"),
        ("stops", ", ".join(f"{k} {v}" for k, v in gate["stops"].items()) or "none"),
        ("simulation", f"{f['sim_slipped_s']:.1f} s behind real time, {f['frames_not_drawn']} frames not drawn"),
    ]  # fmt: skip
    lines += [(t, f"{n['sent'] - n['received']} lost of {n['sent']}") for t, n in f["topics"].items()]
    width = max(len(name) for name, _ in lines)
    print(f"\n{f['task']} ({f['difficulty']}), policy {f['policy']}, simulation")
    print("\n".join(f"  {name:<{width}}  {text}" for name, text in lines))
    print(f"\nlog, summary.json and contact_sheet.png: {out}")
