"""What all trainings share: their arguments, checks before long work, bars and logs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from gwm.cli import options
from gwm.tools.terminal import ProgressBar, device, positive, writable, writable_folder
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json


def declare(p, configs: str) -> None:
    """Declare the arguments of a training. ``configs``: the names of its configurations."""
    options.folders(p, "data", "folders with episodes", nargs="+", required=True)
    options.resumable_folder(p, "folder for the trained network")
    p.add_argument("--config", default="demo", help=f"{configs} (default: %(default)s)")
    options.iterations(p)
    p.add_argument("--batch", type=int, help="default: the configuration's")
    options.seed(p)
    options.device(p)
    options.processes(p, "for lifting the images")
    options.json_file(p, "write the figures to FILE (- is stdout)")


def declare_compile(p) -> None:
    """Declare --compile of a training by ``TrainingRun.train``."""
    p.add_argument(
        "--compile",
        action="store_true",
        help="fuse the network's operations by torch.compile: minutes at the start, then faster",
    )


def episode_folders(args) -> list[Path]:
    """Return the episodes' folders. Raises InputError for seeds that are kept for reports."""
    from gwm_core.training.datasets.policy_samples import refuse_reserved

    positive("processes", args.processes)
    folders = [Path(folder) for folder in args.data]
    refuse_reserved(folders)
    return folders


def named_configs(args, among: dict, kind: str) -> tuple:
    """Return the named configurations with the flags' changes.

    It also checks that the output folder is writable and holds no finished network of ``kind``.
    """
    from gwm_core.model.config import named_config
    from gwm_core.model.weights_file import MANIFESTS
    from gwm_core.training.training_loop import refuse_finished

    device(args.device)
    writable(args.json)
    network, config = named_config(args.config, among)
    lengths = getattr(args, "lengths", None)
    if lengths and args.iterations is not None:
        raise InputError("--iterations and --lengths exclude each other")
    given = {name: getattr(args, name) for name in ("iterations", "batch")}
    changes = {name: positive(name, value) for name, value in given.items() if value is not None}
    if not lengths:
        refuse_finished(Path(args.out), MANIFESTS[kind])
    writable_folder(args.out)
    return network, replace(config, seed=args.seed, **changes)


def train_all(args, runs: list, train) -> list[dict]:
    """Train with a bar and a TensorBoard log, also as a process of ``torchrun``.

    Args:
        runs: ``TrainingRun``s, to which device, provenance, bar and log are added.
        train: trains as a run says.

    Returns:
        The figures of every run.
    """
    from gwm_core.training.distributed import joined

    with joined(args.device) as rank:  # once: processes that left do not find each other again
        figures = [_train_one(args, run, train, rank) for run in runs]
        if args.json and rank == 0:
            trained = [{"out": str(run.out), **found} for run, found in zip(runs, figures)]
            write_json(args.json, trained if len(trained) > 1 else trained[0])
    return figures


def _train_one(args, run, train, rank: int) -> dict:
    from gwm_core.training.tensorboard_log import TensorBoardLog

    bar = ProgressBar(run.config.iterations, "train")
    bar.begin()

    def learned(done: int, total: int, figures: dict) -> None:
        bar.to(done, " ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    provenance = run.provenance | {"command": "gwm " + " ".join(sys.argv[1:])}
    with TensorBoardLog(run.out / "log" if rank == 0 else None) as log:
        return train(
            replace(
                run,
                provenance=provenance,
                device=args.device,
                progress=learned,
                record=log,
                compiled=getattr(args, "compile", False),
            )
        )
