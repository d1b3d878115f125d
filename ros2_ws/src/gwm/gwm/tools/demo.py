"""``gwm demo``: the whole stack over live ROS 2 topics, a few episodes, and a table of what
happened.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from gwm.console.address import to_say
from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes
from gwm.process.session import INTERRUPTED, IdleLoop, ending, live
from gwm.ros.operator_client import GraphEnded, OperatorClient, RequestFailed
from gwm.tools.terminal import say_next
from gwm_core import topics
from gwm_core.data.contact_sheet import contact_sheet
from gwm_core.data.episode_recovery import unfinished
from gwm_core.errors import InputError, one_of
from gwm_core.evaluation.stats.success_rates import interval
from gwm_core.files.json_files import write_json
from gwm_core.model.weights_file import read_weights
from gwm_core.runtime.backends import choose
from gwm_core.runtime.bundle import is_bundle
from gwm_core.runtime.compile import compiled, load
from gwm_core.runtime.world_runner import GRAPHS
from gwm_core.sim.tasks import TIME_LIMIT, sample_layout

GAP = 2.0  # [s] between plans of an episode
START_TIME = 180.0  # [s] for everything to come up on a slow machine


@dataclass
class DemoEpisode:
    """What came of the episodes so far.

    Attributes:
        before, after: messages sent and received by topic, while nothing ran.
        rows: of every episode that was begun: seed, success (None: it came to no end), seconds,
            why, and whether that
        is trouble of the graph and not of the policy.
    """

    rows: list[dict] = field(default_factory=list)
    before: dict[str, dict[str, int]] = field(default_factory=dict)
    after: dict[str, dict[str, int]] = field(default_factory=dict)
    begun: bool = False


def run_demo(args, policy: str) -> int:
    """Run the demo as the command line asks; 0 where every episode came to an end and nothing was
    violated.
    """
    figures, out = drive(args, policy)
    if args.json:
        write_json(args.json, figures)
    _table(figures)
    if any(out.glob("episode_*[0-9]")):
        contact_sheet(out)
        say_next(f"gwm replay {out} --html replay.html")
    print(f"\nlog, summary.json and what was recorded: {out}")
    for path in unfinished(out):
        print(f"{path}.partial was not saved: `gwm data recover {path}.partial`")
    return figures["code"]


def drive(args, policy: str) -> tuple[dict, Path]:
    """Start the graph, run the episodes, end it: figures, also in ``summary.json`` of the folder
    returned.

    Whatever goes wrong on the way is in them: ``trouble``, ``rows`` and the exit ``code``.
    """
    sample_layout(args.task, args.seed, args.difficulty)
    nodes = processes(GraphConfig(task=args.task, policy=policy, imagination=args.imagination))
    imagine = any(node.name == "imagination" for node in nodes)
    _check_policy(policy, args.task, ("chunk", *(GRAPHS if imagine else ())))
    out = Path(args.out) / time.strftime("%Y%m%d-%H%M%S")
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {args.out}: {error.strerror}; choose another --out"
        ) from None
    nodes = processes(
        GraphConfig(task=args.task, policy=policy, record=str(out), imagination=args.imagination)
    )
    run, idle = DemoEpisode(), IdleLoop()
    with ending() as end, idle, live(nodes, out / "nodes.log") as (operator, supervisor):
        run.begun = True
        operator.say = lambda text: _say(args, f"  {text}")
        _episodes(run, operator, supervisor.poll_all, args, out / "console.url")
    if not run.begun:
        raise end.error
    figures = _figures(operator, args, run, idle.figures) | {
        "trouble": end.trouble,
        "respawns": supervisor.respawns,
    }
    all_ended = figures["episodes"] == args.episodes and not any(row["trouble"] for row in run.rows)
    well = all_ended and not figures["gate"]["violations"]
    figures["code"] = (
        INTERRUPTED if end.code == INTERRUPTED else supervisor.code or end.code or int(not well)
    )
    write_json(out / "summary.json", figures)
    return figures, out


def _check_policy(policy: str, task: str, graphs: tuple[str, ...]) -> None:
    """Raise InputError where it cannot do the task, and compile it where that was not done
    before.
    """
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


def _episodes(run: DemoEpisode, operator: OperatorClient, poll, args, page: Path) -> None:
    """All episodes, and the message counts around them. Raises Trouble when no more can be run."""
    _say(args, "starting simulation, policy, gate and recorder ...")
    if not operator.wait("start", lambda: operator.ready, START_TIME, poll):
        raise RequestFailed(f"not ready after {START_TIME:.0f} s: {', '.join(operator.missing)}")
    _say(
        args,
        f"ready: renderer {operator.reports['sim']['renderer']}, policy"
        f" {operator.reports['policy']['policy']}",
    )
    if page.exists():
        _say(args, f"watch, hold and stop it at {to_say(page)}")
    run.before = _rest_and_count(operator, poll)
    for number in range(args.episodes):
        seed = args.seed + number
        label = f"episode {number + 1}/{args.episodes} seed {seed}"
        run.rows.append(
            {"seed": seed, "success": None, "seconds": None, "why": "interrupted", "trouble": False}
        )
        try:
            _episode(run.rows[-1], operator, args, label, poll)
        except RequestFailed as error:
            run.rows[-1] |= {"why": str(error), "trouble": True}
            if isinstance(error, GraphEnded):
                raise
        _say(args, f"{label}: {_outcome(run.rows[-1])}")
    operator.wish("gate/stop", poll)
    operator.need("rest", lambda: operator.status.get("state") == "DISARMED", 5.0, poll)
    run.after = _rest_and_count(operator, poll)


def _outcome(row: dict) -> str:
    words = {True: "success", False: "FAILED", None: "NOT ENDED"}[row["success"]]
    after = "" if row["seconds"] is None else f" after {row['seconds']:.1f} s"
    return f"{words}{after}{', ' * bool(row['why'])}{row['why']}"


def _rest_and_count(operator: OperatorClient, poll) -> dict[str, dict[str, int]]:
    """With the gate disarmed and the cameras off nothing is on its way, so sent and received may be
    compared.
    """
    operator.film(False)
    operator.wait("the last counts", lambda: False, 1.5, poll)
    counts = _counts(operator)
    operator.film(True)
    return counts


def _episode(row: dict, operator: OperatorClient, args, label: str, poll) -> None:
    """Home, lay the table, record, run until success or the time is up, hold, save. Fills ``row``
    on the way.
    """
    operator.home(poll)
    operator.lay(args.task, row["seed"], args.difficulty)
    operator.need("layout", lambda: operator.result.get("seed") == row["seed"], 5.0, poll)
    operator.record(poll)
    operator.arm(poll)

    def over() -> bool:
        seconds, status = operator.result["seconds"], operator.status
        _say(
            args,
            f"{label} {status['state']} {seconds:.1f} s, latency {status['latency_ms']} ms",
            end="",
        )
        return operator.result["success"] or seconds > TIME_LIMIT or status["state"] == "FAULT"

    operator.need("end of the episode", over, 3 * TIME_LIMIT, poll)
    fault = operator.status["state"] == "FAULT"
    row["success"] = operator.result["success"] and not fault
    row["seconds"] = operator.result["seconds"]
    row["why"] = (
        f"fault: {operator.status['cause']}"
        if fault
        else ""
        if row["success"]
        else "not done in time"
    )
    operator.hold(poll)
    operator.wish("recorder/save", poll)


def _counts(operator: OperatorClient) -> dict[str, dict[str, int]]:
    """Messages sent and received so far, by topic."""
    sim, policy = operator.reports["sim"], operator.reports["policy"]
    counts = {
        key[5:]: {"sent": int(value), "received": int(policy[f"received {key[5:]}"])}
        for key, value in sim.items()
        if key.startswith("sent ")
    }
    sent = int(operator.last_status["sent"])
    counts[topics.TARGET_JOINT] = {
        "sent": sent,
        "received": int(sim[f"received {topics.TARGET_JOINT}"]),
    }
    counts[topics.COMMAND] = {"sent": sent, "received": len(operator.commands)}
    return counts


def _figures(operator: OperatorClient, args, run: DemoEpisode, idle: dict) -> dict:
    """Of what there was: parts that a graph which never came up cannot tell are zero, empty or
    None.
    """
    broken = operator.verdict()
    ended, latency = (
        [r for r in run.rows if r["success"] is not None],
        sorted(operator.latencies.values()),
    )
    won, status = sum(r["success"] for r in ended), operator.last_status
    sim, policy = operator.reports.get("sim", {}), operator.reports.get("policy", {})
    return {
        "task": args.task,
        "difficulty": args.difficulty,
        "seed": args.seed,
        "policy": policy.get("policy", "not started"),
        "renderer": sim.get("renderer", "not started"),
        "rows": run.rows,
        "wanted": args.episodes,
        "episodes": len(ended),
        "successes": won,
        "ci95": list(interval(won, len(ended))) if ended else None,
        "seconds": [r["seconds"] for r in ended],
        "failed_seeds": [r["seed"] for r in ended if not r["success"]],
        "latency_ms": {**_percentiles(latency), "plans": len(latency)},
        "stages_ms": _stages(operator),
        "imagination": _imagined(operator),
        "gate": {
            "rate_hz": float(status.get("rate_hz", 0)),
            "late_fraction": int(status.get("late", 0)) / max(int(status.get("periods", 0)), 1),
            "idle_late_fraction": idle.get("late_fraction", 0.0),
            **{
                k: float(v)
                for k, v in status.items()
                if k.startswith(("joints_", "beats_", "step_"))
            },
            "violations": broken.total,
            "samples": broken.samples,
            "latches": broken.latches,
            "broken": {k: n for k, n in broken.violations.items() if n},
            "limit_use": {k: round(v, 3) for k, v in broken.use.items()},
            "stops": {k[6:]: int(v) for k, v in status.items() if k.startswith("stops ")},
            "refused": {k[8:]: int(v) for k, v in status.items() if k.startswith("refused ")},
        },
        "topics": _passed(run.before, run.after),
        "sim_slipped_s": float(sim.get("slipped_s", 0)),
        "frames_not_drawn": int(sim.get("frames_due", 0)) - int(sim.get("frames_drawn", 0)),
        "plans_rejected": int(policy.get("rejected", 0)),
    }


def _passed(before: dict, after: dict) -> dict[str, dict[str, int]]:
    return {
        t: {k: n - before.get(t, {}).get(k, 0) for k, n in counts.items()}
        for t, counts in after.items()
    }


def _imagined(operator: OperatorClient) -> dict[str, float]:
    """How many futures were shown a second while plans came, and how old they were [ms]."""
    plans = sorted(operator.futures)
    seconds = [b - a for a, b in pairwise(plans) if b - a < GAP * 1e9]
    ages = [future["age_ms"] for future in operator.futures.values()]
    return {
        "futures": len(plans),
        "per_s": 1e9 * len(seconds) / sum(seconds) if seconds else 0.0,
        "age_ms_p50": float(np.median(ages)) if ages else 0.0,
    }


def _stages(operator: OperatorClient) -> dict[str, dict[str, float]]:
    """Where the time from frame to command went, over the plans that were followed: p50 and p99
    [ms] of each part.
    """
    whole = operator.latencies
    parts: dict[str, list[float]] = {}
    for plan in whole.keys() & operator.stages.keys():
        stages = operator.stages[plan]
        rest = {
            "gate": whole[plan] - sum(stages.values()),
            "all but capture": whole[plan] - stages["capture"],
        }
        for name, value in (stages | rest).items():
            parts.setdefault(name, []).append(value)
    return {
        name: dict(zip(("p50", "p99"), np.percentile(v, [50, 99]).round(2).tolist()))
        for name, v in parts.items()
    }


def _percentiles(latency: list[float]) -> dict:
    """Of the accepted plans [ms]; null where there were none."""
    if not latency:
        return {"p50": None, "p99": None, "deciles": None}
    p50, p99, *deciles = (
        round(float(x), 2) for x in np.percentile(latency, [50, 99, *range(0, 101, 10)])
    )
    return {"p50": p50, "p99": p99, "deciles": deciles}


def _table(f: dict) -> None:
    gate, latency, stages = f["gate"], f["latency_ms"], f["stages_ms"].get("all but capture")
    timing = (
        f"p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms"
        if latency["plans"]
        else "no plan was accepted"
    )
    low, high = f["ci95"] or (0.0, 1.0)
    lines = [
        (
            "episodes",
            f"{f['episodes']} of {f['wanted']} ended"
            + (f"; {f['trouble']}" if f["trouble"] else ""),
        ),
        ("successes", f"{f['successes']}/{f['episodes']}  [{low:.2f}, {high:.2f}] 95 %"),
        ("latency, frame to command", timing),
        *(
            [("without capture", "p50 {p50:.0f} ms, p99 {p99:.0f} ms".format(**stages))]
            if stages
            else []
        ),
        (
            "plans",
            (
                f"{latency['plans']} followed, {sum(gate['refused'].values())} refused by the gate "
                f"({', '.join(gate['refused']) or 'none'}), {f['plans_rejected']} out of reach"
            ),
        ),
        (
            "gate",
            (
                f"{gate['rate_hz']:.2f} Hz, {100 * gate['late_fraction']:.2f} % of periods over 15"
                f" ms (idle loop beside it: {100 * gate['idle_late_fraction']:.2f} %)"
            ),
        ),
        ("judge", f"{gate['violations']} violations in {gate['samples']} commands"),
        ("stops", ", ".join(f"{k} {v}" for k, v in gate["stops"].items()) or "none"),
        (
            "simulation",
            (
                f"{f['sim_slipped_s']:.1f} s behind real time, {f['frames_not_drawn']} frames not"
                " drawn"
            ),
        ),
    ]
    lines += [
        (t, f"{n['sent'] - n['received']} lost of {n['sent']}") for t, n in f["topics"].items()
    ]
    width = max(len(name) for name, _ in lines)
    print(f"\n{f['task']} ({f['difficulty']}), policy {f['policy']}, simulation")
    print("\n".join(f"  {name:<{width}}  {text}" for name, text in lines))
    for row in f["rows"]:
        if row["why"]:
            print(f"  seed {row['seed']}: {_outcome(row)}")
