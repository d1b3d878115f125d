"""``gwm bench`` over the live graph: processes killed, disks filled, the console under attack."""

from __future__ import annotations

import sys

from gwm.tools.terminal import TASKS, natural, positive, shipped, verb, writable
from gwm_core.errors import InputError


def benchmark(kinds, name: str, help_: str, example: str, run):
    """Declare a benchmark, with a file for its figures."""
    p = verb(kinds, name, help_, example, lambda args: _in_repository(run, args))
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    return p


def _in_repository(run, args) -> int:
    """Run a benchmark; no wheel contains one. Raises InputError outside the repository."""
    from gwm.graph.environment import ROOT

    if not (ROOT / "benchmarks" / "__init__.py").is_file():
        raise InputError(
            "benchmarks are in the repository alone: clone it and run `./gwm bench` there"
        )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return run(args)


def add_kill(kinds) -> None:
    p = benchmark(
        kinds,
        "kill",
        "Kill a policy's process during motion, over live topics: when does the arm slow down?",
        "gwm bench kill --kills 200 --json kill.json",
        bench_kill,
    )
    p.add_argument("--kills", type=int, default=200, help="default 200, which takes ten minutes")
    p.add_argument(
        "--joint-hz",
        type=int,
        default=100,
        metavar="HZ",
        help="rate of the arm's joint states (default 100)",
    )


def bench_kill(args) -> int:
    from gwm.graph.environment import refuse_mixed_ros

    refuse_mixed_ros()
    writable(args.json)
    from benchmarks.live import kill

    return kill.bench_kill(
        positive("kills", args.kills), positive("joint-hz", args.joint_hz), args.json
    )


def add_e2e(kinds) -> None:
    p = benchmark(
        kinds,
        "e2e",
        "Measure the parts of the time from a frame to its first command, over the live graph.",
        "gwm bench e2e --json e2e.json",
        bench_e2e,
    )
    p.add_argument("--episodes", type=int, default=10, help="default 10")
    p.add_argument("--task", default="pick_place", help=f"{TASKS} (default pick_place)")
    p.add_argument("--seed", type=int, default=9000, help="of the first episode (default 9000)")
    p.add_argument("--policy", metavar="BUNDLE", help="default: shipped")
    p.add_argument(
        "--rounds", type=int, default=2, help="rounds with and without imagination (default 2)"
    )
    p.add_argument("--out", default="runs", help="folder for logs (default runs)")


def bench_e2e(args) -> int:
    from gwm.graph.environment import refuse_mixed_ros

    refuse_mixed_ros()
    positive("episodes", args.episodes)
    positive("rounds", args.rounds)
    writable(args.json)
    from benchmarks.live import latency

    args.difficulty, args.headless = "nominal", True
    return latency.bench_e2e(args, args.policy or shipped())


def add_console(kinds) -> None:
    p = benchmark(
        kinds,
        "console",
        "Press STOP in a browser under full load, and attack the console.",
        "gwm bench console --stops 50 --json console.json",
        bench_console,
    )
    p.add_argument(
        "--stops", type=int, default=50, help="presses of STOP (default 50, ten minutes)"
    )
    p.add_argument("--seed", type=int, default=0)


def bench_console(args) -> int:
    from gwm.graph.environment import refuse_mixed_ros

    refuse_mixed_ros()
    writable(args.json)
    from benchmarks.live import console

    return console.bench_console(
        positive("stops", args.stops), natural("seed", args.seed), shipped(), args.json
    )


def add_recorder(kinds) -> None:
    p = benchmark(
        kinds,
        "recorder",
        "Kill the recorder, and fill its disk, at random times: is anything lost?",
        "gwm bench recorder --kills 500 --full 100 --json recorder.json",
        bench_recorder,
    )
    p.add_argument("--kills", type=int, default=500, help="default 500, twenty minutes")
    p.add_argument(
        "--full", type=int, default=100, help="disks that end at a random byte (default 100)"
    )
    p.add_argument("--seed", type=int, default=0)


def bench_recorder(args) -> int:
    from benchmarks.live import recorder

    writable(args.json)
    kills, full = natural("kills", args.kills), natural("full", args.full)
    return recorder.bench_recorder(kills, full, natural("seed", args.seed), args.json)


def add_recording(kinds) -> None:
    p = benchmark(
        kinds,
        "recording",
        "Record two cameras beside the graph: what was sent, and what the episode has.",
        "gwm bench recording --hz 30 --json recording.json",
        bench_recording,
    )
    p.add_argument("--width", type=int, default=640)
    p.add_argument("--height", type=int, default=480)
    p.add_argument("--hz", type=int, default=30)
    p.add_argument("--seconds", type=int, default=60)


def bench_recording(args) -> int:
    from benchmarks.live import recording

    writable(args.json)
    names = ("width", "height", "hz", "seconds")
    return recording.bench_recording(
        *(positive(name, getattr(args, name)) for name in names), args.json
    )
