"""``gwm train success``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gwm.cli import options
from gwm.cli.train.runs import declare, episode_folders, named_configs, train_all
from gwm.tools.terminal import DeferredProgressBar, note, positive, verb


def add(kinds) -> None:
    """Declare the kind."""
    p = verb(
        kinds,
        "success",
        "Fit the success head of a policy to further episodes, and calibrate it on others.",
        "gwm train success --policy models/demo --data runs/first --calibrate runs/second"
        " --out models/with_success",
        train_success,
    )
    options.folders(p, "policy", "policy that predicts, to go on from", required=True)
    declare(p, "demo or tiny")
    p.set_defaults(resumes=False)  # it writes nothing before its end
    p.add_argument(
        "--samples",
        type=int,
        help="scenes to fit to at most, each also as predicted (default: the configuration's)",
    )
    options.folders(
        p,
        "calibrate",
        "trials with a verdict that the policy has not seen; without them its probabilities are"
        " not calibrated",
        nargs="+",
        default=[],
    )


def train_success(args) -> int:
    from gwm_core.model.checkpoint import refuse_other_vae
    from gwm_core.model.config import POLICIES
    from gwm_core.training.success.train_success import load_success_samples, train_success
    from gwm_core.training.training_run import TrainingRun

    _, config = named_configs(args, POLICIES, "policy")
    iterations = args.iterations or config.success_iterations
    count = config.success_samples if args.samples is None else args.samples
    config = replace(
        config,
        iterations=iterations,
        success_iterations=iterations,
        success_batch=args.batch or config.success_batch,
        success_samples=positive("samples", count),
    )
    policy, out = Path(args.policy), Path(args.out)
    refuse_other_vae(policy, out)
    calibrate = [Path(folder) for folder in args.calibrate]
    data = episode_folders(args)
    samples = load_success_samples(
        policy, data, calibrate, args.processes, DeferredProgressBar("encode"), note, args.device
    )
    (figures,) = train_all(
        args,
        [TrainingRun(config, out)],
        lambda run: train_success(
            policy, samples, run, DeferredProgressBar("predict"), DeferredProgressBar("calibrate")
        ),
    )
    print(_table(out, figures))
    return 0


def _table(out: Path, figures: dict) -> str:
    """A line for the head, and one for each calibrated question."""
    names = {"done": "done right {:.0%}", "done_missed": "missed {:.0%}", "value_auc": "AUC {:.2f}"}
    said = [
        kind
        + ", ".join(
            text.format(figures[prefix + name])
            for name, text in names.items()
            if prefix + name in figures
        )
        for prefix, kind in (("", "held-out scenes: "), ("predicted_", "as predicted: "))
    ]
    lines = [f"{out}: " + "; ".join(said)]
    for task, questions in figures.get("calibration", {}).items():
        for question, found in questions.items():
            measures = ", ".join(
                f"{label} {found['before'][name]:.3f} -> {found['after'][name]:.3f}"
                for name, label in (("ece", "ECE"), ("brier", "Brier"), ("nll", "NLL"))
            )
            lines.append(f"{task}, {question}: {found['trials']} trials, {measures}")
    return "\n".join(lines)
