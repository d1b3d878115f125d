"""The figures of ``gwm demo`` and their table."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from gwm.ros.operator_client import OperatorClient
from gwm_core import topics
from gwm_core.evaluation.stats.success_rates import interval

EPISODE_GAP = 2.0  # [s] between plans of two episodes, at least
COLUMNS = 100  # of the table
# what the words in the table mean, for those that are no fault
REFUSED = {
    "state": "the plan came while the arm was at rest, stopping, or not armed",
    "moved": "the arm had moved since the frame that the plan is of, so it may not start from rest",
    "age": "the frame that the plan is of was too old: the machine was busy",
    "alive": "the policy's heartbeat was late: the machine was busy",
    "too soon": "another plan had been taken less than 50 ms before",
}
STOPS = {
    "held by operator": "the demo holds the arm after each episode",
    "stopped by operator": "the demo stops the arm at its end",
    "policy silent": "no heartbeat of the policy for 50 ms; the arm rests until the next plan",
    "plan stale": "no new plan in time; the arm rests until the next one",
    "plan done": "the plan ended before the next one came",
}


@dataclass
class DemoRun:
    """The episodes of a demo so far.

    Attributes:
        rows: one per episode that was begun: seed, success (None: it did not end), seconds, why,
            and trouble (whether the graph failed, not the policy).
        before: messages sent and received by topic, counted at rest before the first episode.
        after: the same after the last one.
        cores: mean cores that each process took, in the "idle" time and the "episodes".
        begun: whether the graph came up.
    """

    rows: list[dict] = field(default_factory=list)
    before: dict[str, dict[str, int]] = field(default_factory=dict)
    after: dict[str, dict[str, int]] = field(default_factory=dict)
    cores: dict[str, dict[str, float]] = field(default_factory=dict)
    begun: bool = False


def outcome_text(row: dict) -> str:
    """Return an episode's outcome in words."""
    words = {True: "success", False: "FAILED", None: "NOT ENDED"}[row["success"]]
    after = "" if row["seconds"] is None else f" after {row['seconds']:.1f} s"
    return f"{words}{after}{', ' * bool(row['why'])}{row['why']}"


def message_counts(operator: OperatorClient) -> dict[str, dict[str, int]]:
    """Return how many messages were sent and received so far, by topic."""
    sim, policy = operator.simulation, operator.reports["policy"]
    counts = {
        key[5:]: {"sent": int(value), "received": int(policy[f"received {key[5:]}"])}
        for key, value in sim.items()
        if key.startswith("sent ")
    }
    sent = operator.last_status.sent
    counts |= {
        key[9:]: {"sent": sent, "received": int(value)}
        for key, value in sim.items()
        if key.startswith("received ")
    }
    counts[topics.COMMAND] = {"sent": sent, "received": len(operator.commands)}
    return counts


def demo_figures(operator: OperatorClient, args, run: DemoRun, idle: dict) -> dict:
    """Return the figures of a demo. A graph that never came up leaves zeros, blanks or None."""
    ended = [row for row in run.rows if row["success"] is not None]
    won = sum(row["success"] for row in ended)
    latency = sorted(operator.latencies.values())
    sim, policy = operator.simulation, operator.reports.get("policy", {})
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
        "gate": _gate_figures(operator, idle),
        "robot": _robot(sim),
        "topics": _passed(run.before, run.after),
        "cores": run.cores,
        "sim_slipped_s": float(sim.get("slipped_s", 0)),
        "frames_not_drawn": int(sim.get("frames_due", 0)) - int(sim.get("frames_drawn", 0)),
        "plans_rejected": int(policy.get("rejected", 0)),
    }


def _gate_figures(operator: OperatorClient, idle: dict) -> dict:
    """Return rates, violations, stops and refusals of the gate."""
    status = operator.last_status.to_fields() if operator.last_status else {}
    broken = operator.command_check()
    return {
        "rate_hz": float(status.get("rate_hz", 0)),
        "late_fraction": int(status.get("late", 0)) / max(int(status.get("periods", 0)), 1),
        "idle_late_fraction": idle.get("late_fraction", 0.0),
        **{k: float(v) for k, v in status.items() if k.startswith(("joints_", "beats_", "step_"))},
        "violations": broken.total,
        "samples": broken.samples,
        "latches": broken.resets,
        "broken": {k: n for k, n in broken.violations.items() if n},
        "limit_use": {k: round(v, 3) for k, v in broken.use.items()},
        "stops": {k[6:]: int(v) for k, v in status.items() if k.startswith("stops ")},
        "refused": {k[8:]: int(v) for k, v in status.items() if k.startswith("refused ")},
    }


def _robot(sim: dict[str, str]) -> dict | None:
    """Return reflexes, and the largest use of each limit, of a robot that checks its conditions."""
    if "reflexes" not in sim:
        return None
    use = {key[4:]: float(value) for key, value in sim.items() if key.startswith("use ")}
    return {"reflexes": int(sim["reflexes"]), "limit_use": use}


def _passed(before: dict, after: dict) -> dict[str, dict[str, int]]:
    return {
        t: {k: n - before.get(t, {}).get(k, 0) for k, n in counts.items()}
        for t, counts in after.items()
    }


def _imagined(operator: OperatorClient) -> dict[str, float]:
    """Return how many futures were shown a second while plans came, and their age [ms]."""
    plans = sorted(map(int, operator.futures))  # ids are stamps [ns]
    seconds = [b - a for a, b in pairwise(plans) if b - a < EPISODE_GAP * 1e9]
    ages = [future["age_ms"] for future in operator.futures.values()]
    return {
        "futures": len(plans),
        "per_s": 1e9 * len(seconds) / sum(seconds) if seconds else 0.0,
        "age_ms_p50": float(np.median(ages)) if ages else 0.0,
    }


def _stages(operator: OperatorClient) -> dict[str, dict[str, float]]:
    """Return p50 and p99 [ms] of each part of the time from frame to command.

    Only plans that were followed count.
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


def cores_text(cores: dict[str, float]) -> str:
    """Return how many cores the processes took, the greediest by name."""
    if not cores:
        return "not measured"
    first = ", ".join(f"{name} {share:.2f}" for name, share in list(cores.items())[:4])
    return f"{sum(cores.values()):.2f} of {os.cpu_count()}: {first}, ..."


def robot_text(robot: dict) -> str:
    """Return the reflexes of a robot, and what came nearest to its limit."""
    name, use = max(robot["limit_use"].items(), key=lambda item: item[1], default=("none", 0.0))
    return f"{robot['reflexes']} reflexes, {name} at {100 * use:.0f} % of its limit"


def _lost_text(topics: dict[str, dict[str, int]]) -> str:
    """Return how many messages were lost, and the topics that lost some."""
    sent = sum(counts["sent"] for counts in topics.values())
    lossy = {
        topic: counts["sent"] - counts["received"]
        for topic, counts in topics.items()
        if counts["sent"] > counts["received"]
    }
    lost = ", ".join(f"{count} on {topic}" for topic, count in lossy.items())
    return f"{lost or 'none'} lost of {sent} on {len(topics)} topics"


def _explanations(gate: dict) -> list[str]:
    """Return what the refusals and stops in the table mean."""
    refused = [f"refused, {kind}: {REFUSED[kind]}" for kind in gate["refused"] if kind in REFUSED]
    return refused + [f"stop, {cause}: {STOPS[cause]}" for cause in gate["stops"] if cause in STOPS]


def _wrapped(head: str, text: str) -> str:
    """Return a line of the table, broken at ``COLUMNS``."""
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
    )


def _percentiles(latency: list[float]) -> dict:
    """Return percentiles over the accepted plans [ms]; None where there were none."""
    if not latency:
        return {"p50": None, "p99": None, "deciles": None}
    p50, p99, *deciles = (
        round(float(x), 2) for x in np.percentile(latency, [50, 99, *range(0, 101, 10)])
    )
    return {"p50": p50, "p99": p99, "deciles": deciles}


def print_table(f: dict) -> None:
    """Print the figures of a demo."""
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
        ("command check", f"{gate['violations']} violations in {gate['samples']} commands"),
        *([("robot", robot_text(f["robot"]))] if f["robot"] else []),
        ("cores", cores_text(f["cores"].get("episodes", {}))),
        ("stops", ", ".join(f"{k} {v}" for k, v in gate["stops"].items()) or "none"),
        (
            "simulation",
            (
                f"{f['sim_slipped_s']:.1f} s behind real time, {f['frames_not_drawn']} frames not"
                " drawn"
            ),
        ),
    ]
    lines.append(("messages", _lost_text(f["topics"])))
    width = max(len(name) for name, _ in lines)
    print(f"\n{f['task']} ({f['difficulty']}), policy {f['policy']}, simulation")
    for name, text in lines:
        print(_wrapped(f"  {name:<{width}}  ", text))
    for text in _explanations(gate):
        print(_wrapped("  note: ", text))
    for row in f["rows"]:
        if row["why"]:
            print(f"  seed {row['seed']}: {outcome_text(row)}")
