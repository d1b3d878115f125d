"""``gwm bench`` over the live graph: processes killed, disks filled, the console under attack."""

from __future__ import annotations

import sys

from gwm.cli import options
from gwm.tools.terminal import natural, positive, shipped, verb, writable
from gwm_core.errors import InputError


def benchmark(kinds, name: str, help_: str, example: str, run):
    """Declare a benchmark, with a file for its figures."""
    p = verb(kinds, name, help_, example, lambda args: _in_repository(run, args))
    options.json_file(p)
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
    options.count(p, "kills", 200, "200 take ten minutes")
    options.count(p, "joint-hz", 100, "rate of the arm's joint states [Hz]")


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
    options.count(p, "episodes", 10)
    options.task(p)
    options.count(p, "seed", 9000, "of the first episode")
    options.bundle(p)
    options.count(p, "rounds", 2, "rounds with and without imagination")
    p.add_argument("--out", default="runs", help="folder for logs (default runs)")


def bench_e2e(args) -> int:
    from gwm.graph.environment import refuse_mixed_ros

    refuse_mixed_ros()
    positive("episodes", args.episodes)
    positive("rounds", args.rounds)
    writable(args.json)
    from benchmarks.live import latency

    args.difficulty, args.headless, args.controller = "nominal", True, "crisp"
    return latency.bench_e2e(args, args.policy or shipped())


def add_graph(kinds) -> None:
    p = benchmark(
        kinds,
        "graph",
        "Measure the processor time of every process, with busy loops beside the graph.",
        "gwm bench graph --json graph.json",
        bench_graph,
    )
    options.count(p, "episodes", 5, "of the demo, for each number of busy loops")
    options.count(p, "idle", 20, "time that the graph does nothing before them [s]")
    options.count(p, "busy", 2, "loops beside the graph in the last run, each on a core")
    options.task(p)
    options.count(p, "seed", 9000, "of the first episode")
    options.bundle(p)
    p.add_argument("--out", default="runs", help="folder for logs (default runs)")


def bench_graph(args) -> int:
    from gwm.graph.environment import refuse_mixed_ros

    refuse_mixed_ros()
    positive("episodes", args.episodes)
    positive("idle", args.idle)
    natural("busy", args.busy)
    writable(args.json)
    from benchmarks.live import graph

    args.difficulty, args.headless, args.imagination = "nominal", True, True
    args.controller = "crisp"
    return graph.bench_graph(args, args.policy or shipped())


def add_console(kinds) -> None:
    p = benchmark(
        kinds,
        "console",
        "Press STOP in a browser under full load, and attack the console.",
        "gwm bench console --stops 50 --json console.json",
        bench_console,
    )
    options.count(p, "stops", 50, "presses of STOP; 50 take ten minutes")
    options.seed(p)


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
    options.count(p, "kills", 500, "500 take twenty minutes")
    options.count(p, "full", 100, "disks that end at a random byte")
    options.seed(p)


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
    for name, default in (("width", 640), ("height", 480), ("hz", 30), ("seconds", 60)):
        options.count(p, name, default)


def bench_recording(args) -> int:
    from benchmarks.live import recording

    writable(args.json)
    names = ("width", "height", "hz", "seconds")
    return recording.bench_recording(
        *(positive(name, getattr(args, name)) for name in names), args.json
    )
