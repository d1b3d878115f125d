"""``gwm eval``, and of its kinds ``policy`` and ``protocol``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from gwm.cli import futures, options
from gwm.cli.evaluate import imagined, studies
from gwm.tools.terminal import (
    POLICIES,
    TASKS,
    ProgressBar,
    positive,
    renderer,
    shipped,
    verb,
    writable,
)
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json

DECIDED = ("task", "policy", "record", "publish_objects")  # arguments of the graph, by a protocol


def add(verbs) -> None:
    """Declare the verbs."""
    kinds = verb(
        verbs, "eval", "Measure a network.", "gwm eval policy --task lift --trials 20", None
    )
    kinds = kinds.add_subparsers(metavar="WHAT", required=True)
    futures.add_eval(kinds)
    studies.add_eval(kinds)
    _add_protocol(kinds)
    imagined.add_eval(kinds)
    _add_policy(kinds)


def _add_protocol(kinds) -> None:
    p = verb(
        kinds,
        "protocol",
        "Compare policies by a protocol that is fixed before its first trial: blind, in random "
        "order, from the same starts; an interrupted one is resumed.",
        "gwm eval protocol compare.yaml --out runs/compare",
        evaluate_protocol,
    )
    p.add_argument(
        "source", help="protocol file (docs/evaluation.md), or the folder of one that has begun"
    )
    options.resumable_folder(
        p, "folder of the protocol (default: the file's name without its suffix)", required=False
    )
    p.add_argument(
        "--report", action="store_true", help="run no trials, only report those made so far"
    )
    p.add_argument(
        "--blind",
        action="store_true",
        help="report codes instead of names; --report shows the names later",
    )
    p.add_argument(
        "--live",
        nargs="*",
        metavar="NAME:=VALUE",
        help="run the trials over the live graph, with its arguments as of `gwm up`",
    )
    p.add_argument(
        "--by-hand",
        action="store_true",
        help="with --live: place objects and rate at the console, in simulation too",
    )
    p.add_argument(
        "--second",
        metavar="CSV",
        help="a second rater's file with columns number and success: adds kappa",
    )
    options.processes(p)
    options.json_file(p, "write the report to FILE too (- is stdout)")


def _add_policy(kinds) -> None:
    p = verb(
        kinds,
        "policy",
        "Success rate in simulation without ROS, deterministic for a seed.",
        "gwm eval policy --task pick_place --trials 100 --seed 5000",
        evaluate_policy,
    )
    p.add_argument("--task", required=True, help=TASKS)
    options.count(p, "trials", 100)
    options.trial_starts(p)
    p.add_argument("--policy", default=None, help=f"{POLICIES} (default: shipped)")
    p.add_argument("--latency", default="measured", help="milliseconds, or measured (default)")
    p.add_argument(
        "--backend", default="auto", help="runtime: auto, tensorrt, openvino, onnxruntime or torch"
    )
    p.add_argument(
        "--precision", default="auto", help="precision of the runtime: auto, fp32, bf16 or fp16"
    )
    p.add_argument(
        "--against",
        metavar="BACKEND",
        help="run the same trials with this runtime too, and compare",
    )
    p.add_argument(
        "--replan-every", type=int, default=4, help="waypoints between observations (default 4)"
    )
    p.add_argument(
        "--candidates",
        type=int,
        default=1,
        metavar="N",
        help="plans of each observation, of which the one with the largest predicted value acts, "
        "without a deadline (default 1); the latency stays that of one plan",
    )
    options.processes(p)
    options.json_file(p)


def evaluate_policy(args) -> int:
    import time

    from gwm_core.evaluation.policy_eval import EvalConfig
    from gwm_core.evaluation.stats.success_rates import interval
    from gwm_core.sim.rollout import trials_hash

    writable(args.json)
    config = EvalConfig(
        args.task,
        args.policy or shipped(),
        positive("trials", args.trials),
        args.seed,
        args.difficulty,
        _latency(args.latency),
        positive("replan-every", args.replan_every),
        renderer(),
        args.backend,
        args.precision,
        positive("candidates", args.candidates),
    )
    begun, trials = time.monotonic(), _trials(config, args)
    won, seconds = [t.success for t in trials], (time.monotonic() - begun) / len(trials)
    low, high = interval(sum(won), len(won))
    figures = {
        "task": args.task,
        "difficulty": args.difficulty,
        "policy": config.policy,
        "backend": args.backend,
        "candidates": args.candidates,
        "seed": args.seed,
        "trials": len(won),
        "successes": sum(won),
        "ci95": [low, high],
        "seconds_per_trial": seconds,
        "violations": sum(t.violations for t in trials),
        "failed_seeds": [t.seed for t in trials if not t.success],
        "trials_hash": trials_hash(trials),
    }
    print(
        f"{args.task} {args.difficulty}: {sum(won)}/{len(won)} = {sum(won) / len(won):.3f}"
        f" [{low:.3f}, {high:.3f}] 95 %, {seconds:.1f} s per trial, {figures['violations']} limit"
        " violations"
    )
    if args.against:
        others = _trials(replace(config, backend=args.against, precision="auto"), args)
        figures["against"] = _compare(won, [t.success for t in others], args.against)
    if args.json:
        write_json(args.json, figures)
    return 0


def _latency(text: str) -> tuple[float, ...]:
    """Quantiles [s] of the latency that ``--latency`` names."""
    from gwm_core.runtime.planner import MEASURED_LATENCY

    if text == "measured":
        return MEASURED_LATENCY
    try:
        latency = float(text) / 1000
    except ValueError:
        raise InputError(f"--latency takes milliseconds or 'measured', got '{text}'") from None
    if not 0 <= latency <= 0.45:
        raise InputError(f"--latency must lie in 0-450 ms, got {text}")
    return (latency,)


def _trials(config, args) -> list:
    from gwm_core.evaluation.policy_eval import evaluate

    bar, won = ProgressBar(args.trials, f"eval {args.task}"), []

    def show(trial) -> None:
        won.append(trial.success)
        bar.step(f"{sum(won)} ok")

    return evaluate(config, positive("processes", args.processes), show)


def _compare(won: list[bool], others: list[bool], backend: str) -> dict:
    """Compare with the same trials of another runtime."""
    import numpy as np

    from gwm_core.evaluation.stats.success_rates import difference_interval, mcnemar

    a, b = np.array(won, bool), np.array(others, bool)
    (low, high), p = difference_interval(a, b), mcnemar(a, b)
    difference = 100 * (a.mean() - b.mean())
    differ = int((a != b).sum())
    print(
        f"by {backend}: {b.sum()}/{len(b)}; {differ} trials differ, difference"
        f" {difference:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}] 95 %, McNemar p = {p:.2f}"
    )
    return {
        "backend": backend,
        "successes": int(b.sum()),
        "differ": differ,
        "ci95": [low, high],
        "p": p,
    }


def evaluate_protocol(args) -> int:
    from gwm.graph.arguments import parse
    from gwm.tools import protocol

    writable(args.json)
    second, source = Path(args.second) if args.second else None, Path(args.source)
    out = Path(args.out) if args.out else None
    if second is not None and not second.is_file():
        raise InputError(f"no file {second}")
    trouble, code = "", 0
    if args.report:
        folder = out or (source if source.is_dir() else source.with_suffix(""))
    else:
        if args.by_hand and args.live is None:
            raise InputError("--by-hand is for --live: without it trials run unattended")
        for word in args.live or ():
            if (name := word.partition(":=")[0]) in DECIDED:
                raise InputError(f"--live {word}: the protocol decides {name}")
        live = None if args.live is None else parse(args.live)
        processes = positive("processes", args.processes)
        folder, trouble, code = protocol.run(source, out, processes, renderer(), live, args.by_hand)
    found = protocol.report(folder, not (args.blind or trouble), second, renderer())
    if args.json:
        write_json(args.json, found)
    if trouble:
        print(f"gwm: {trouble}", file=sys.stderr)
    return code
