"""``gwm improve``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gwm.tools.terminal import (
    DeferredProgressBar,
    cores,
    device,
    natural,
    positive,
    say_next,
    verb,
    writable,
)
from gwm_core.files.json_files import write_json


def add(verbs) -> None:
    """Declare the verb."""
    p = verb(
        verbs,
        "improve",
        "Improve a policy by practice in its own world model, from recorded trials of it. An"
        " interrupted round goes on; the starting policy stays as it is.",
        "gwm improve models/mine --episodes data/trials --data data/stack --out runs/improved",
        improve,
    )
    p.add_argument("policy", metavar="POLICY", help="folder of the policy that made the trials")
    p.add_argument(
        "--episodes", nargs="+", required=True, metavar="DIR", help="trials of the policy"
    )
    p.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="DIR",
        help="demonstrations, which stay in every batch beside the successful trials",
    )
    p.add_argument(
        "--futures",
        nargs="+",
        default=[],
        metavar="DIR",
        help="older episodes of any outcome and task, so that the model forgets nothing",
    )
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the round")
    p.add_argument(
        "--imitate",
        action="store_true",
        help="imitate demonstrations and successful trials alone, for as long; to compare with",
    )
    p.add_argument("--model-iterations", type=int, help="0 keeps the model (default: 600)")
    p.add_argument("--policy-iterations", type=int, help="default: 600")
    p.add_argument("--starts", type=int, help="real states to practise from (default: 500)")
    p.add_argument("--candidates", type=int, help="plans from each (default: 8)")
    p.add_argument("--real-fraction", type=float, help="of a batch of plans (default: 0.6)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--processes", type=int, default=cores())
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE (- is stdout)")


def improve(args) -> int:
    from gwm_core.improvement.improve import ImprovementRound
    from gwm_core.improvement.trials import load_round_samples, read_trials

    writable(args.json)
    policy, config = Path(args.policy), _config(args)
    episodes, data, futures = (
        [Path(folder) for folder in folders] for folders in (args.episodes, args.data, args.futures)
    )
    trials = read_trials(policy, episodes)
    processes = positive("processes", args.processes)
    samples = load_round_samples(
        policy,
        episodes,
        data,
        futures,
        processes,
        DeferredProgressBar("lift"),
        DeferredProgressBar("encode"),
    )
    this = ImprovementRound(
        policy,
        trials,
        samples,
        config,
        Path(args.out),
        device(args.device),
        processes,
        DeferredProgressBar,
    )
    figures = this.run()
    print(_summary(figures))
    if args.json:
        write_json(args.json, figures)
    say_next(f"gwm compile {this.improved} --out BUNDLE")
    return 0


def _config(args):
    from gwm_core.improvement.improve import ImproveConfig

    config = ImproveConfig(imagine=not args.imitate, seed=natural("seed", args.seed))
    practice, training = config.practice, config.training
    if args.starts is not None:
        practice = replace(practice, starts=positive("starts", args.starts))
    if args.candidates is not None:
        practice = replace(practice, candidates=positive("candidates", args.candidates))
    if args.real_fraction is not None:
        training = replace(training, real_fraction=args.real_fraction)
    config = replace(config, practice=practice, training=training)
    if args.model_iterations is not None:
        count = natural("model-iterations", args.model_iterations)
        config = replace(config, model_iterations=count)
    if args.policy_iterations is not None:
        count = positive("policy-iterations", args.policy_iterations)
        config = replace(config, policy_iterations=count)
    return config


def _summary(figures: dict) -> str:
    check = figures["success_model"]
    lines = [
        f"{figures['successes']} of {figures['trials']} trials succeeded",
        f"success model: AUC {check['auc']:.2f} on {check['successes']} successes and"
        f" {check['failures']} failures that it has not seen",
    ]
    if practice := figures.get("practice"):
        lines.append(
            f"practice: {practice['plans']} plans from {practice['starts']} states, mean value"
            f" {practice['value']:.2f}; those kept are {practice['advantage']:+.3f} better"
        )
    return "\n".join(lines)
