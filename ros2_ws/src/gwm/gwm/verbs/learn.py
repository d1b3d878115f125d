"""``gwm collect``, ``train`` and ``eval``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from gwm.terminal import TASKS, Bar, cores, positive, renderer, shipped, verb, writable
from gwm_core.errors import InputError


def add(verbs) -> None:
    """Declare the verbs."""
    p = verb(verbs, "collect", "Record demonstrations of the scripted expert in simulation, without ROS.",
              "gwm collect --task pick_place --episodes 200 --out data/pick --seed 0", collect)  # fmt: skip
    p.add_argument("--task", required=True, help=TASKS)
    p.add_argument("--episodes", type=int, default=200)
    p.add_argument("--out", required=True, help="folder for the episodes; an interrupted collection goes on")
    p.add_argument("--seed", type=int, default=0, help="first seed; 0-3999 are for training")
    p.add_argument("--difficulty", default="nominal", help="nominal or hard")
    p.add_argument("--processes", type=int, default=cores())

    kinds = verb(verbs, "train", "Train a network.", "gwm train policy --data data/pick --out models/mine", None)
    kinds = kinds.add_subparsers(metavar="WHAT", required=True)
    p = verb(kinds, "policy", "Train a policy on recorded episodes; an interrupted run goes on.",
              "gwm train policy --data data --config demo --out models/mine", train)  # fmt: skip
    p.add_argument("--data", nargs="+", required=True, help="folders with episodes")
    p.add_argument("--out", required=True, help="folder for the trained policy")
    p.add_argument("--config", default="demo", help="demo or tiny")
    p.add_argument("--iterations", type=int, help="instead of the configuration's")
    p.add_argument("--batch", type=int, help="instead of the configuration's")
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument("--processes", type=int, default=cores(), help="for lifting the images")

    kinds = verb(verbs, "eval", "Measure success.", "gwm eval policy --task lift --trials 20", None)
    kinds = kinds.add_subparsers(metavar="WHAT", required=True)
    p = verb(kinds, "policy", "Success rate in simulation without ROS, deterministic for a seed.",
              "gwm eval policy --task pick_place --trials 100 --seed 5000", evaluate_policy)  # fmt: skip
    p.add_argument("--task", required=True, help=TASKS)
    p.add_argument("--trials", type=int, default=100)
    p.add_argument("--seed", type=int, default=5000, help="first seed; 4000-4099 choose, 5000 and up report")
    p.add_argument("--difficulty", default="nominal", help="nominal or hard")
    p.add_argument("--policy", default=None, help="policy folder, or expert (default: shipped)")
    p.add_argument("--latency", default="measured", help="milliseconds, or measured (default)")
    p.add_argument("--replan-every", type=int, default=4, help="rows between observations (default 4)")
    p.add_argument("--processes", type=int, default=cores())
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")


def collect(args) -> int:
    from gwm_core.learn.collect import CollectConfig, collect

    config = CollectConfig(
        args.task, Path(args.out), positive("episodes", args.episodes), args.seed, args.difficulty, renderer()
    )
    bar = Bar(args.episodes, f"collect {args.task}")
    failed = collect(config, positive("processes", args.processes), lambda ok: bar.step())
    print(f"{args.episodes - failed} episodes in {args.out}, {failed} left out because the expert failed")
    return 0


def train(args) -> int:
    import torch

    from gwm_core.learn.dataset import load_samples
    from gwm_core.learn.train import train
    from gwm_core.model.config import named_config

    if args.device not in ("cpu", "cuda") or (args.device == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"device '{args.device}' is not there: valid are cpu{', cuda' * torch.cuda.is_available()}")
    policy_config, config = named_config(args.config)
    if args.iterations is not None:
        config = replace(config, iterations=positive("iterations", args.iterations))
    if args.batch is not None:
        config = replace(config, batch=positive("batch", args.batch))
    try:
        Path(args.out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {args.out}: {error.strerror}; choose another --out") from None
    bar: list[Bar] = []

    def lifted(done: int, total: int) -> None:
        bar or bar.append(Bar(total, "lift"))
        bar[0].to(done)

    samples = load_samples(
        [Path(d) for d in args.data],
        policy_config.tasks,
        policy_config.lift,
        positive("processes", args.processes),
        lifted,
    )
    learning = Bar(config.iterations, "train")

    def learned(done: int, total: int, figures: dict) -> None:
        learning.to(done, " ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    command = "gwm train policy " + " ".join(sys.argv[3:])
    figures = train(samples, policy_config, config, Path(args.out), {"command": command}, args.device, learned)
    print(f"{args.out}: held-out position error {figures['position_mm']:.1f} mm")
    return 0


def evaluate_policy(args) -> int:
    import time

    from gwm_core.evaluate.statistics import interval
    from gwm_core.learn.evaluate import EvalConfig, evaluate
    from gwm_core.rollout import MEASURED_LATENCY, trials_hash

    writable(args.json)
    latency = MEASURED_LATENCY
    if args.latency != "measured":
        try:
            latency = (float(args.latency) / 1000,)
        except ValueError:
            raise InputError(f"--latency takes milliseconds or 'measured', got '{args.latency}'") from None
        if not 0 <= latency[0] <= 0.45:
            raise InputError(f"--latency must lie in 0-450 ms, got {args.latency}")
    config = EvalConfig(
        args.task, args.policy or shipped(), positive("trials", args.trials), args.seed, args.difficulty,
        latency, positive("replan-every", args.replan_every), renderer(),
    )  # fmt: skip
    bar, begun, won = Bar(args.trials, f"eval {args.task}"), time.monotonic(), []
    trials = evaluate(
        config, positive("processes", args.processes), lambda t: (won.append(t.success), bar.step(f"{sum(won)} ok"))
    )
    seconds = (time.monotonic() - begun) / len(trials)
    low, high = interval(sum(won), len(won))
    figures = {
        "task": args.task, "difficulty": args.difficulty, "policy": config.policy, "seed": args.seed,
        "trials": len(won), "successes": sum(won), "ci95": [low, high], "seconds_per_trial": seconds,
        "violations": sum(t.violations for t in trials), "failed_seeds": [t.seed for t in trials if not t.success],
        "trials_hash": trials_hash(trials),
    }  # fmt: skip
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{args.task} {args.difficulty}: {sum(won)}/{len(won)} = {sum(won) / len(won):.3f} [{low:.3f}, {high:.3f}] "
          f"95 %, {seconds:.1f} s per trial, {figures['violations']} judge violations")  # fmt: skip
    return 0
