"""``gwm bench`` of speed: rendering, runtimes and training against a reference of the same run."""

from __future__ import annotations

from pathlib import Path

from gwm.cli import options
from gwm.cli.bench.live import benchmark
from gwm.tools.terminal import positive, renderer, shipped, writable


def add_render(kinds) -> None:
    p = benchmark(
        kinds,
        "render",
        "Time every renderer that works here against plain torch, forward and backward.",
        "gwm bench render --json render.json",
        bench_render,
    )
    options.count(p, "repeats", 25, "rounds; the slow reference runs in every fifth")


def bench_render(args) -> int:
    from benchmarks.speed import rendering

    writable(args.json)
    return rendering.bench_render(args.json, positive("repeats", args.repeats))


def add_lift(kinds) -> None:
    p = benchmark(
        kinds,
        "lift",
        "Time the lift of two simulated RGB-D cameras to one scene [ms].",
        "gwm bench lift --json lift.json",
        bench_lift,
    )
    options.count(p, "repeats", 200)


def bench_lift(args) -> int:
    from benchmarks.speed import rendering

    writable(args.json)
    return rendering.bench_lift(args.json, positive("repeats", args.repeats))


def add_scene(kinds) -> None:
    p = benchmark(
        kinds,
        "scene",
        "Compare a held-out simulated camera with the scene, and with projected points.",
        "gwm bench scene --seed 4000 --scenes 20",
        bench_scene,
    )
    options.count(p, "seed", 4000, "first seed")
    options.count(p, "scenes", 20)


def bench_scene(args) -> int:
    from benchmarks.speed import rendering

    writable(args.json)
    return rendering.bench_scene(
        args.json, range(args.seed, args.seed + positive("scenes", args.scenes))
    )


def add_policy(kinds) -> None:
    p = benchmark(
        kinds,
        "policy",
        "Compare every runtime that works here with the network in torch: speed and parity.",
        "gwm bench policy --json policy.json",
        bench_policy,
    )
    options.bundle(p)
    options.count(p, "moments", 100, "number of observations")
    options.count(p, "seed", 5000, "of the first simulated episode")
    options.folders(p, "data", "take the observations from these episodes")
    options.count(p, "threads", 1, "threads of every runtime, as in the graph")


def bench_policy(args) -> int:
    from benchmarks.speed import policy

    writable(args.json)
    counts = positive("moments", args.moments), positive("threads", args.threads)
    data = Path(args.data) if args.data else None
    return policy.bench_policy(
        Path(args.policy or shipped()), *counts, args.seed, data, renderer(), args.json
    )


def add_gpu(kinds) -> None:
    p = benchmark(
        kinds,
        "gpu",
        "Measure everything that an NVIDIA GPU does here, in under 8 minutes.",
        "gwm bench gpu --json gpu.json --report gpu.html",
        bench_gpu,
    )
    p.add_argument("--report", metavar="FILE", help="write a page that can be sent to FILE")
    p.add_argument("--quick", action="store_true", help="once, on small networks: does it run?")


def bench_gpu(args) -> int:
    from benchmarks.gpu import report

    writable(args.json)
    writable(args.report)
    return report.bench_gpu(args.json, args.report, args.quick)


def add_train(kinds) -> None:
    p = benchmark(
        kinds,
        "train",
        "Measure how fast training is, and its memory, on few and on many made-up episodes.",
        "gwm bench train --episodes 10 100 1000 --json train.json",
        bench_train,
    )
    p.add_argument(
        "--episodes", type=int, nargs="+", default=[10, 100, 1000], help="numbers of episodes"
    )
    options.count(p, "steps", 20, "that are timed")
    p.add_argument("--config", default="demo", help="demo or tiny (default: %(default)s)")


def bench_train(args) -> int:
    from benchmarks.speed import training
    from gwm_core.model.config import named_config

    writable(args.json)
    named_config(args.config)
    episodes = [positive("episodes", count) for count in args.episodes]
    return training.bench_train(episodes, positive("steps", args.steps), args.config, args.json)
