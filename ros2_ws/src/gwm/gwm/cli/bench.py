"""``gwm bench``: speed, measured against a named reference in the same run; and everything put to
the test.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from gwm.tools.terminal import (
    TASKS,
    ProgressBar,
    natural,
    positive,
    renderer,
    shipped,
    verb,
    writable,
)
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json


def add(verbs) -> None:
    """Declare the verbs."""
    kinds = verb(
        verbs,
        "bench",
        "Measure speed, and put the gate to the test.",
        "gwm bench render --json FILE",
        None,
    )
    kinds = kinds.add_subparsers(metavar="WHAT", required=True)
    p = _bench(
        kinds,
        "render",
        "Every renderer that works here against the plain torch one, forward and backward.",
        "gwm bench render --json render.json",
        bench_render,
    )
    p.add_argument(
        "--repeats",
        type=int,
        default=25,
        help="rounds; the slow reference runs in every fifth (default 25)",
    )
    p = _bench(
        kinds,
        "lift",
        "RGB-D frames of two simulated cameras to one scene, milliseconds.",
        "gwm bench lift --json lift.json",
        bench_lift,
    )
    p.add_argument("--repeats", type=int, default=200)
    p = _bench(
        kinds,
        "scene",
        "A simulated camera that the scene was not built from, against projected points.",
        "gwm bench scene --seed 4000 --scenes 20",
        bench_scene,
    )
    p.add_argument("--seed", type=int, default=4000, help="first seed (default 4000)")
    p.add_argument("--scenes", type=int, default=20)
    p = _bench(
        kinds,
        "gate",
        "Fuzz the gate: an action is one of its 100 Hz steps, and everything sent is judged.",
        "gwm bench gate --actions 100000 --seed 7 --json gate.json",
        bench_gate,
    )
    p.add_argument(
        "--actions",
        type=int,
        default=100_000,
        metavar="N",
        help="steps of the gate (default 100000)",
    )
    p.add_argument("--seed", type=int, default=7, help="default 7")
    p = _bench(
        kinds,
        "faults",
        "Stage every fault that needs no hardware, each at many random moments.",
        "gwm bench faults --json faults.json",
        bench_faults,
    )
    p.add_argument("--seed", type=int, default=0)
    p = _bench(
        kinds,
        "kill",
        "Kill a policy's process in mid-motion, over live topics: how soon the arm slows down.",
        "gwm bench kill --kills 200 --json kill.json",
        bench_kill,
    )
    p.add_argument("--kills", type=int, default=200, help="default 200, which takes ten minutes")
    p.add_argument(
        "--joint-hz",
        type=int,
        default=100,
        metavar="HZ",
        help="of the arm's joint states (default 100)",
    )
    p = _bench(
        kinds,
        "policy",
        "Every runtime that works here against the trained network in torch: speed and parity.",
        "gwm bench policy --json policy.json",
        bench_policy,
    )
    p.add_argument("--policy", metavar="BUNDLE", help="default: shipped")
    p.add_argument(
        "--moments", type=int, default=100, help="observations they are compared on (default 100)"
    )
    p.add_argument(
        "--seed", type=int, default=5000, help="of the first simulated episode (default 5000)"
    )
    p.add_argument(
        "--data", metavar="DIR", help="take the observations from these episodes instead"
    )
    p.add_argument(
        "--threads",
        type=int,
        default=1,
        help="of every runtime, torch too (default 1, as in the graph)",
    )
    p = _bench(
        kinds,
        "e2e",
        "Where the time from a frame to its first command goes, over the live graph.",
        "gwm bench e2e --json e2e.json",
        bench_e2e,
    )
    p.add_argument("--episodes", type=int, default=10, help="default 10")
    p.add_argument("--task", default="pick_place", help=f"{TASKS} (default pick_place)")
    p.add_argument("--seed", type=int, default=9000, help="of the first episode (default 9000)")
    p.add_argument("--policy", metavar="BUNDLE", help="default: shipped")
    p.add_argument(
        "--rounds", type=int, default=2, help="with imagination and without, in turns (default 2)"
    )
    p.add_argument("--out", default="runs", help="folder for logs (default runs)")
    p = _bench(
        kinds,
        "bundle",
        "Damage a bundle, a bit or a piece at a time: everything has to be refused.",
        "gwm bench bundle --flips 10000 --json bundle.json",
        bench_bundle,
    )
    p.add_argument("--policy", metavar="BUNDLE", help="default: shipped")
    p.add_argument("--flips", type=int, default=10_000, help="single bits (default 10000)")
    p.add_argument("--cuts", type=int, default=100, help="truncations (default 100)")
    p.add_argument("--seed", type=int, default=0)
    _add_trials(kinds)


def _add_trials(kinds) -> None:
    """Those in which something is broken, attacked or disturbed on purpose, around the arm."""
    p = _bench(
        kinds,
        "console",
        "STOP pressed in a browser while everything streams; the console under attack.",
        "gwm bench console --stops 50 --json console.json",
        bench_console,
    )
    p.add_argument(
        "--stops", type=int, default=50, help="presses of STOP (default 50, ten minutes)"
    )
    p.add_argument("--seed", type=int, default=0)
    p = _bench(
        kinds,
        "recorder",
        "Kill the recorder, and fill its disk, at random moments: is anything lost?",
        "gwm bench recorder --kills 500 --full 100 --json recorder.json",
        bench_recorder,
    )
    p.add_argument("--kills", type=int, default=500, help="default 500, twenty minutes")
    p.add_argument(
        "--full", type=int, default=100, help="disks that end at a random byte (default 100)"
    )
    p.add_argument("--seed", type=int, default=0)
    p = _bench(
        kinds,
        "recording",
        "Two cameras beside the graph: what was sent, and what is in the episode.",
        "gwm bench recording --hz 30 --json recording.json",
        bench_recording,
    )
    p.add_argument("--width", type=int, default=640)
    p.add_argument("--height", type=int, default=480)
    p.add_argument("--hz", type=int, default=30)
    p.add_argument("--seconds", type=int, default=60)
    p = _bench(
        kinds,
        "data",
        "Datasets damaged and forged in every format: refused in one line, or unharmed.",
        "gwm bench data --cases 2000 --json data.json",
        bench_data,
    )
    p.add_argument("--cases", type=int, default=2000, help="default 2000")
    p.add_argument("--seed", type=int, default=0)
    p = _bench(
        kinds,
        "divergence",
        "Things happen that no plan expected: is it noticed, and how often for nothing.",
        "gwm bench divergence --json divergence.json",
        bench_divergence,
    )
    p.add_argument("--policy", metavar="BUNDLE", help="default: shipped")
    p.add_argument("--cases", type=int, default=50, help="of every kind (default 50)")
    p.add_argument("--normal", type=int, default=100, help="episodes without any (default 100)")
    p.add_argument("--task", default="pick_place", help=f"{TASKS} (default pick_place)")
    p.add_argument(
        "--seed", type=int, default=5000, help="first seed (default 5000; with --fit 4000)"
    )
    p.add_argument(
        "--fit",
        action="store_true",
        help="write the limits into the checkpoint at --policy instead",
    )


def _bench(kinds, name: str, help_: str, example: str, run):
    """Declare one, with a file for its figures."""
    p = verb(kinds, name, help_, example, lambda args: _in_repository(run, args))
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    return p


def _in_repository(run, args) -> int:
    """Run a benchmark, which no wheel contains. Raises InputError outside the repository."""
    from gwm.graph.environment import ROOT

    if not (ROOT / "benchmarks" / "__init__.py").is_file():
        raise InputError(
            "benchmarks are in the repository alone: clone it and run `./gwm bench` there"
        )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return run(args)


def bench_render(args) -> int:
    from benchmarks.speed import rendering

    writable(args.json)
    return rendering.bench_render(args.json, positive("repeats", args.repeats))


def bench_lift(args) -> int:
    from benchmarks.speed import rendering

    writable(args.json)
    return rendering.bench_lift(args.json, positive("repeats", args.repeats))


def bench_scene(args) -> int:
    from benchmarks.speed import rendering

    writable(args.json)
    return rendering.bench_scene(
        args.json, range(args.seed, args.seed + positive("scenes", args.scenes))
    )


def bench_gate(args) -> int:
    from benchmarks.gate import report

    writable(args.json)
    return report.bench_gate(
        positive("actions", args.actions), natural("seed", args.seed), args.json
    )


def bench_faults(args) -> int:
    from benchmarks.gate import report

    writable(args.json)
    return report.bench_faults(natural("seed", args.seed), args.json)


def bench_kill(args) -> int:
    from gwm.graph.environment import refuse_mixed_ros

    refuse_mixed_ros()
    writable(args.json)
    from benchmarks.live import kill

    return kill.bench_kill(
        positive("kills", args.kills), positive("joint-hz", args.joint_hz), args.json
    )


def bench_policy(args) -> int:
    from benchmarks.speed import policy

    writable(args.json)
    counts = positive("moments", args.moments), positive("threads", args.threads)
    data = Path(args.data) if args.data else None
    return policy.bench_policy(
        Path(args.policy or shipped()), *counts, args.seed, data, renderer(), args.json
    )


def bench_e2e(args) -> int:
    from gwm.graph.environment import refuse_mixed_ros

    refuse_mixed_ros()
    positive("episodes", args.episodes)
    positive("rounds", args.rounds)
    writable(args.json)
    from benchmarks.live import latency

    args.difficulty, args.headless = "nominal", True
    return latency.bench_e2e(args, args.policy or shipped())


def bench_bundle(args) -> int:
    from benchmarks.speed import policy

    writable(args.json)
    counts = positive("flips", args.flips), positive("cuts", args.cuts)
    return policy.bench_bundle(
        Path(args.policy or shipped()), *counts, natural("seed", args.seed), args.json
    )


def bench_console(args) -> int:
    from gwm.graph.environment import refuse_mixed_ros

    refuse_mixed_ros()
    writable(args.json)
    from benchmarks.live import console

    return console.bench_console(
        positive("stops", args.stops), natural("seed", args.seed), shipped(), args.json
    )


def bench_divergence(args) -> int:
    from benchmarks.divergence import report

    writable(args.json)
    count = positive("normal", args.normal)
    policy = args.policy or shipped()
    if args.fit:
        if not args.policy:
            raise InputError("--fit writes into --policy DIR, a checkpoint that is not sealed yet")
        first = 4000 if args.seed == 5000 else args.seed
        return report.fit(policy, args.task, range(first, first + count), renderer())
    seeds = range(args.seed, args.seed + positive("cases", args.cases))
    normal = range(args.seed, args.seed + count)
    return report.bench_divergence(policy, args.task, seeds, normal, renderer(), args.json)


def bench_recorder(args) -> int:
    from benchmarks.live import recorder

    writable(args.json)
    kills, full = natural("kills", args.kills), natural("full", args.full)
    return recorder.bench_recorder(kills, full, natural("seed", args.seed), args.json)


def bench_recording(args) -> int:
    from benchmarks.live import recording

    writable(args.json)
    names = ("width", "height", "hz", "seconds")
    return recording.bench_recording(
        *(positive(name, getattr(args, name)) for name in names), args.json
    )


def bench_data(args) -> int:
    from benchmarks.data.hostile_data import fuzz

    writable(args.json)
    bar = ProgressBar(positive("cases", args.cases), "damage")
    report = fuzz(args.cases, natural("seed", args.seed), bar.step)
    print(
        f"{report.cases} damaged datasets: {report.refused} refused, {report.accepted_unharmed}"
        f" read unharmed, {len(report.altered)} read otherwise, {len(report.crashes)} crashes;"
        f" worst {report.worst_seconds:.1f} s, {report.worst_rss_mb:.0f} MB"
    )
    if args.json:
        write_json(args.json, asdict(report))
    return int(bool(report.crashes or report.altered))
