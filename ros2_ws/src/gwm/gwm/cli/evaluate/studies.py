"""``gwm eval pretraining`` and ``gwm eval scaling``: many trainings under equal conditions."""

from __future__ import annotations

from pathlib import Path

from gwm.cli import options
from gwm.cli.evaluate.success_plot import success_plot
from gwm.tools.terminal import (
    TASKS,
    DeferredProgressBar,
    device,
    natural,
    note,
    positive,
    renderer,
    verb,
    writable,
)
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json


def add_eval(kinds) -> None:
    """Declare the kinds."""
    _add_pretraining(kinds)
    _add_scaling(kinds)


def _add_pretraining(kinds) -> None:
    p = verb(
        kinds,
        "pretraining",
        "Train policies without futures, and policies that begin from another, on few episodes.",
        "gwm eval pretraining --task stack --data data/stack --begin models/demo"
        " --out runs/pretraining",
        evaluate_pretraining,
    )
    p.add_argument("--task", required=True, help=TASKS)
    options.folders(p, "data", "episodes of the task, one more than --demos", required=True)
    options.folders(
        p,
        "begin",
        "policies that have seen none of them, with their VAE: one for each seed in turn",
        nargs="+",
        required=True,
    )
    options.folders(
        p,
        "futures",
        "other episodes, on which these policies go on to predict (none: they only plan)",
        nargs="*",
        default=[],
    )
    _numbers(p, "demos", "episodes to learn from", [5, 10, 25])
    _numbers(
        p,
        "lengths",
        "iterations, of which the best is chosen on seeds 4000-4099",
        [500, 1000, 2000, 4000],
    )
    options.count(p, "choosing", 40, "trials to choose on")
    options.count(p, "trials", 100, "of every policy, the same for all")
    p.add_argument("--plot", metavar="FILE", help="draw the success rates to FILE (.svg)")
    _study(p)


def _add_scaling(kinds) -> None:
    p = verb(
        kinds,
        "scaling",
        "Train policies on more and more episodes: how fast does the error of their futures fall?",
        "gwm eval scaling --data data/pick --futures data/play --held-out data/held_out"
        " --vae models/demo --sizes 50 150 450 --out runs/scaling",
        evaluate_scaling,
    )
    options.folders(p, "data", "demonstrations, the same for all policies", required=True)
    options.folders(
        p,
        "futures",
        "episodes of any outcome, of which each policy learns to predict some",
        nargs="+",
        required=True,
    )
    options.folders(
        p, "held-out", "other episodes, on which the futures are measured", required=True
    )
    options.folders(p, "vae", "of the VAE whose latents are predicted", required=True)
    _numbers(p, "sizes", "numbers of episodes of --futures, three or more", [50, 150, 450])
    p.add_argument("--config", default="demo", help="demo (default) or tiny")
    options.iterations(p)
    options.device(p)
    p.add_argument("--task", help=f"of the trials: {TASKS}")
    options.count(p, "trials", 0, "of every policy, the same for all; 0: none")
    _study(p)


def _numbers(p, name: str, help_: str, default: list[int]) -> None:
    said = " ".join(map(str, default))
    p.add_argument(f"--{name}", type=int, nargs="+", default=default, help=f"{help_} ({said})")


def _study(p) -> None:
    """Declare what both studies have."""
    options.resumable_folder(p, "folder for the policies; an interrupted study is resumed")
    options.count(p, "seeds", 3, "trainings of each kind or size")
    options.trial_starts(p)
    options.processes(p)
    options.json_file(p)


def evaluate_pretraining(args) -> int:
    from gwm_core.evaluation.studies.pretraining_study import PretrainingStudy, compare
    from gwm_core.model.config import POLICIES

    writable(args.json)
    writable(args.plot)
    demos, lengths = (
        tuple(sorted({positive(name, n) for n in getattr(args, name)}))
        for name in ("demos", "lengths")
    )
    study = PretrainingStudy(
        Path(args.data),
        tuple(Path(folder) for folder in args.begin),
        tuple(Path(folder) for folder in args.futures),
        Path(args.out),
        args.task,
        args.difficulty,
        demos,
        lengths,
        positive("seeds", args.seeds),
        positive("trials", args.trials),
        args.seed,
        positive("choosing", args.choosing),
        POLICIES["demo"][1],
        positive("processes", args.processes),
        renderer(),
    )
    rows = compare(study, DeferredProgressBar("policies"), note)
    for row in rows:
        low, high = row["ci95"]
        print(
            f"{row['demos']:4} episodes: {row['plain']:.3f} plain, {row['joint']:.3f} joint,"
            f" difference {row['difference']:+.3f} [{low:+.3f}, {high:+.3f}] 95 %"
        )
    if args.json:
        names = ("task", "difficulty", "data", "begin", "futures", "seeds", "trials", "seed")
        write_json(args.json, {name: getattr(args, name) for name in names} | {"rows": rows})
    if args.plot:
        Path(args.plot).write_text(success_plot(args.task, args.trials, rows))
    return 0


def evaluate_scaling(args) -> int:
    from gwm_core.evaluation.studies.scaling_study import measure_scaling

    writable(args.json)
    bars = (DeferredProgressBar(what) for what in ("networks", "lift", "encode"))
    found = measure_scaling(_scaling_study(args), *bars)
    print(_scaling_table(found))
    if args.json:
        names = ("data", "futures", "held_out", "vae", "config", "seeds", "trials", "task")
        names += ("difficulty", "seed")
        write_json(args.json, {name: getattr(args, name) for name in names} | found)
    return 0


def _scaling_study(args):
    """The study that the arguments name. Raises InputError for those that do not fit together."""
    from dataclasses import replace

    from gwm_core.evaluation.studies.scaling_study import ScalingStudy
    from gwm_core.model.config import named_config

    if bool(args.trials) != bool(args.task):
        raise InputError("--trials and --task go together: how many, and of which task")
    config, train = named_config(args.config)
    if args.iterations is not None:
        train = replace(train, iterations=positive("iterations", args.iterations))
    return ScalingStudy(
        data=Path(args.data),
        futures=tuple(Path(folder) for folder in args.futures),
        held_out=Path(args.held_out),
        vae=Path(args.vae),
        out=Path(args.out),
        sizes=tuple(sorted({positive("sizes", size) for size in args.sizes})),
        seeds=positive("seeds", args.seeds),
        config=config,
        train=train,
        device=device(args.device),
        trials=natural("trials", args.trials),
        task=args.task or "",
        difficulty=args.difficulty,
        first=args.seed,
        processes=positive("processes", args.processes),
        renderer=renderer(),
    )


def _scaling_table(found: dict) -> str:
    """A line for each number of episodes, and one for each power law."""
    laws = [law for law in found["laws"] if not law["with_floor"]]
    jumps = [law["jump"] for law in laws]
    after = [f"after {jump / 10:.1f} s" for jump in jumps]
    lines = [
        "of the change predictions miss",
        f"{'episodes':>8}" + "".join(f"{a:>14}" for a in after),
    ]
    for row in found["rows"]:
        line = f"{row['episodes']:8}" + "".join(f"{row[f'missed_{jump}']:14.3f}" for jump in jumps)
        if "success" in row:
            low, high = row["ci95"]
            line += f"    success {row['success']:.3f} [{low:.3f}, {high:.3f}] 95 %"
        lines.append(line)
    for law in found["laws"]:
        low, high = law["ci95"]
        floor = f" above a floor of {law['floor']:.3f}" if law["with_floor"] else ""
        lines.append(
            f"after {law['jump'] / 10:.1f} s: falls as N^-b{floor}, b = {law['exponent']:.3f}"
            f" [{low:.3f}, {high:.3f}] 95 %"
        )
    return "\n".join(lines)
