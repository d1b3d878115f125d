"""Arguments that several verbs share, each declared once."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

from gwm.tools.terminal import TASKS, cores


def json_file(p, help_: str = "write the figures to FILE") -> None:
    """Declare --json."""
    p.add_argument("--json", metavar="FILE", help=help_)


def processes(p, for_: str | None = None) -> None:
    """Declare --processes, and --ray in their place."""
    p.add_argument("--processes", type=int, default=cores(), help=for_)
    p.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="use the Ray cluster with this head instead: HOST:PORT, or auto for one that runs",
    )


def device(p) -> None:
    """Declare --device."""
    p.add_argument("--device", default="cpu", help="cpu or cuda")


def iterations(p) -> None:
    """Declare --iterations."""
    p.add_argument("--iterations", type=int, help="default: the configuration's")


def seed(p, default: int = 0, help_: str | None = None) -> None:
    """Declare --seed."""
    p.add_argument("--seed", type=int, default=default, help=help_)


def count(p, name: str, default: int, help_: str = "") -> None:
    """Declare a number, whose help ends with its default."""
    said = f"{help_} (default %(default)s)" if help_ else "default %(default)s"
    p.add_argument(f"--{name}", type=int, default=default, help=said)


def folders(p, name: str, help_: str, **others) -> None:
    """Declare a folder, or several where ``nargs`` is among ``others``.

    All but ``out`` must exist, which is found out before anything slow is imported.
    """
    kind = str if name == "out" else existing
    p.add_argument(f"--{name}", metavar="DIR", help=help_, type=kind, **others)


def resumable_folder(p, help_: str, required: bool = True) -> None:
    """Declare --out of a verb that goes on there when it is called again."""
    p.add_argument("--out", metavar="DIR", help=help_, required=required)
    p.set_defaults(resumes=True)


def existing(folder: str) -> str:
    """Return a folder's path. Raises ArgumentTypeError where there is none."""
    if not Path(folder).is_dir():
        what = "is no folder" if Path(folder).exists() else "does not exist"
        raise ArgumentTypeError(f"{folder} {what}")
    return folder


def as_recorded(p) -> None:
    """Declare --as-recorded of a training of plans."""
    p.add_argument(
        "--as-recorded",
        action="store_true",
        help="learn demonstrations as they are, not rotated and reflected too: for tasks with a"
        " direction of their own",
    )


def task(p, default: str = "pick_place") -> None:
    """Declare --task of a simulated run."""
    p.add_argument("--task", default=default, help=f"{TASKS} (default %(default)s)")


def bundle(p) -> None:
    """Declare --policy of a benchmark."""
    p.add_argument("--policy", metavar="BUNDLE", help="default: shipped")


def trial_starts(p) -> None:
    """Declare --difficulty and --seed of simulated trials."""
    p.add_argument("--difficulty", default="nominal", help="of the trials: nominal or hard")
    seed(p, 5000, "of the first trial; 4000-4099 for choices, 5000 and up for reports")


def model(p) -> None:
    """Declare --model."""
    folders(p, "model", "folder of a policy that predicts, with its VAE (default: shipped)")
