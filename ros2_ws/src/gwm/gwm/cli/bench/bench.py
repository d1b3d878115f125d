"""``gwm bench``: measures speed, and tests gate and data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from gwm.cli import options
from gwm.cli.bench import live, speed
from gwm.cli.bench.live import benchmark
from gwm.tools.terminal import ProgressBar, natural, positive, renderer, shipped, verb, writable
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json


def add(verbs) -> None:
    """Declare the verbs."""
    kinds = verb(
        verbs,
        "bench",
        "Measure speed, and test the gate and the data formats.",
        "gwm bench render --json FILE",
        None,
    )
    kinds = kinds.add_subparsers(metavar="WHAT", required=True)
    for declare in (
        speed.add_render,
        speed.add_lift,
        speed.add_scene,
        add_gate,
        add_faults,
        add_fci,
        live.add_kill,
        speed.add_policy,
        speed.add_gpu,
        speed.add_train,
        live.add_e2e,
        live.add_graph,
        add_bundle,
        live.add_console,
        live.add_recorder,
        live.add_recording,
        add_data,
        add_divergence,
    ):
        declare(kinds)


def add_gate(kinds) -> None:
    p = benchmark(
        kinds,
        "gate",
        "Fuzz the gate: an action is one of its 100 Hz steps, and every command is checked.",
        "gwm bench gate --actions 100000 --seed 7 --json gate.json",
        bench_gate,
    )
    options.count(p, "actions", 100_000, "steps of the gate")
    options.count(p, "seed", 7)


def bench_gate(args) -> int:
    from benchmarks.gate import report

    writable(args.json)
    return report.bench_gate(
        positive("actions", args.actions), natural("seed", args.seed), args.json
    )


def add_faults(kinds) -> None:
    p = benchmark(
        kinds,
        "faults",
        "Inject every fault that needs no hardware, each at many random times.",
        "gwm bench faults --json faults.json",
        bench_faults,
    )
    options.seed(p)


def bench_faults(args) -> int:
    from benchmarks.gate import report

    writable(args.json)
    return report.bench_faults(natural("seed", args.seed), args.json)


def add_fci(kinds) -> None:
    p = benchmark(
        kinds,
        "fci",
        "Drive a simulated robot through libfranka: tracking, lost commands, faults.",
        "gwm bench fci --minutes 2 --losses 20 --injections 2",
        bench_fci,
    )
    options.count(p, "minutes", 30, "of plans")
    options.count(p, "losses", 200, "of each number of commands in a row")
    options.count(p, "injections", 20, "of each fault")
    options.seed(p)


def bench_fci(args) -> int:
    from benchmarks.fci import report

    writable(args.json)
    counts = [positive(name, getattr(args, name)) for name in ("minutes", "losses", "injections")]
    return report.bench_fci(*counts, natural("seed", args.seed), args.json)


def add_bundle(kinds) -> None:
    p = benchmark(
        kinds,
        "bundle",
        "Damage a bundle, a bit or a part at a time: each one must be refused.",
        "gwm bench bundle --flips 10000 --json bundle.json",
        bench_bundle,
    )
    options.bundle(p)
    options.count(p, "flips", 10_000, "single bits")
    options.count(p, "cuts", 100, "truncations")
    options.seed(p)


def bench_bundle(args) -> int:
    from benchmarks.speed import policy

    writable(args.json)
    counts = positive("flips", args.flips), positive("cuts", args.cuts)
    return policy.bench_bundle(
        Path(args.policy or shipped()), *counts, natural("seed", args.seed), args.json
    )


def add_data(kinds) -> None:
    p = benchmark(
        kinds,
        "data",
        "Damage and forge datasets of every format: each is refused in one line, or unharmed.",
        "gwm bench data --cases 2000 --json data.json",
        bench_data,
    )
    options.count(p, "cases", 2000)
    options.seed(p)


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


def add_divergence(kinds) -> None:
    p = benchmark(
        kinds,
        "divergence",
        "Cause unexpected events: how many are detected, and how many false alarms there are.",
        "gwm bench divergence --json divergence.json",
        bench_divergence,
    )
    options.bundle(p)
    options.count(p, "cases", 50, "cases of every kind")
    options.count(p, "normal", 100, "episodes without an event")
    options.task(p)
    options.seed(p, 5000, "first seed (default 5000; with --fit 4000)")
    p.add_argument(
        "--fit",
        action="store_true",
        help="write the limits into the checkpoint at --policy instead",
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
