"""``gwm train policy``."""

from __future__ import annotations

from pathlib import Path

from gwm.cli import options
from gwm.cli.train.runs import declare, declare_compile, episode_folders, named_configs, train_all
from gwm.graph.config import TASKS as SIMULATED
from gwm.tools.terminal import DeferredProgressBar, positive, say_next, verb
from gwm_core.errors import InputError


def add(kinds) -> None:
    """Declare the kind."""
    p = verb(
        kinds,
        "policy",
        "Train a policy on recorded episodes; an interrupted run is resumed.",
        "gwm train policy --data data --futures data play --vae models/demo --out models/mine",
        train_policy,
    )
    declare(p, "demo or tiny")
    declare_compile(p)
    options.folders(
        p,
        "futures",
        "episodes of any outcome and task, on which the policy also learns to predict (default:"
        " none, and without --begin it only plans)",
        nargs="+",
    )
    options.folders(p, "vae", "of the VAE whose latents --futures predicts")
    options.folders(
        p, "begin", "start from the weights of this policy; without --futures it learns plans alone"
    )
    p.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="tasks that the policy is to know (default: those of --data)",
    )
    options.as_recorded(p)
    p.add_argument(
        "--corrections",
        action="store_true",
        help="of episodes in which an operator took over from a policy, learn those parts alone",
    )
    p.add_argument(
        "--lengths",
        type=int,
        nargs="+",
        metavar="ITERATIONS",
        help="train policies of several lengths, in folders OUT/ITERATIONS; each goes on from where"
        " the rate of the shorter one began to fall",
    )


def train_policy(args) -> int:
    from gwm_core.model.checkpoint import refuse_other_vae
    from gwm_core.model.config import POLICIES
    from gwm_core.model.weights_file import read_weights
    from gwm_core.training.datasets.joint_samples import load_joint_samples
    from gwm_core.training.train_world_action_model import train_world_action_model

    network, config = named_configs(args, POLICIES, "policy")
    config = config.as_recorded() if args.as_recorded else config
    runs = _runs(args, config)
    if bool(args.futures) != bool(args.vae):
        raise InputError("--futures and --vae go together: episodes, and what makes their latents")
    vae, begin = (Path(folder) if folder else None for folder in (args.vae, args.begin))
    predicts = begin is not None and read_weights(begin, "policy").config.vae is not None
    kept = vae or (begin if predicts else None)  # the VAE of the result
    for run in runs if kept else ():
        refuse_other_vae(kept, run.out)
    loaded = load_joint_samples(
        network,
        episode_folders(args),
        args.processes,
        DeferredProgressBar("lift"),
        DeferredProgressBar("encode"),
        [Path(folder) for folder in args.futures or ()],
        vae,
        begin,
        args.tasks or (),
        args.device,
        args.corrections,
    )

    def train(run) -> dict:
        return train_world_action_model(
            loaded.demonstrations, loaded.config, run, loaded.futures, kept, begin
        )

    for run, figures in zip(runs, train_all(args, runs, train)):
        missed = [
            f"{value:.0%} after {int(name.split('_')[1]) / 10} s"
            for name, value in figures.items()
            if name.startswith("missed_")
        ]
        said = f"; futures miss of the change {', '.join(missed)}" if missed else ""
        print(f"{run.out}: held-out position error {figures['position_mm']:.1f} mm{said}")
    simulated = [task for task in loaded.config.tasks if task in SIMULATED]
    trials = f"gwm eval policy --policy {runs[-1].out} --task {(simulated or [''])[0]}"
    say_next(trials if simulated else f"gwm compile {runs[-1].out}")
    return 0


def _runs(args, config) -> list:
    """Return the run of --out, or one for each of --lengths, shortest first."""
    from gwm_core.training.training_run import TrainingRun, lengths_of

    run = TrainingRun(config, Path(args.out))
    if not args.lengths:
        return [run]
    return lengths_of(run, [positive("lengths", length) for length in args.lengths])
