"""``gwm eval pretraining`` and ``gwm eval scaling``: many trainings under equal conditions."""

from __future__ import annotations

from pathlib import Path

from gwm.tools.terminal import (
    TASKS,
    DeferredProgressBar,
    cores,
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
        "Train plain policies, and joint networks that begin from another, on few episodes.",
        "gwm eval pretraining --task stack --data data/stack --begin models/joint"
        " --out runs/pretraining",
        evaluate_pretraining,
    )
    p.add_argument("--task", required=True, help=TASKS)
    p.add_argument(
        "--data", required=True, metavar="DIR", help="episodes of the task, one more than --demos"
    )
    p.add_argument(
        "--begin",
        required=True,
        nargs="+",
        metavar="DIR",
        help="joint networks that have seen none of them, with their VAE: one for each seed in"
        " turn",
    )
    p.add_argument(
        "--futures",
        nargs="*",
        default=[],
        metavar="DIR",
        help="other episodes, on which the joint networks go on to predict (none: they only plan)",
    )
    p.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for the policies; an interrupted study is resumed",
    )
    p.add_argument("--difficulty", default="nominal", help="of the trials: nominal or hard")
    p.add_argument(
        "--demos", type=int, nargs="+", default=[5, 10, 25], help="episodes to learn from (5 10 25)"
    )
    p.add_argument(
        "--lengths",
        type=int,
        nargs="+",
        default=[500, 1000, 2000, 4000],
        help="iterations, of which the best is chosen on seeds 4000-4099 (500 1000 2000 4000)",
    )
    p.add_argument("--seeds", type=int, default=3, help="trainings of each kind (default 3)")
    p.add_argument("--choosing", type=int, default=40, help="trials to choose on (default 40)")
    p.add_argument(
        "--trials", type=int, default=100, help="of every policy, the same for all (default 100)"
    )
    p.add_argument(
        "--seed",
        type=int,
        default=5000,
        help="seed of the first trial; 4000-4099 for choices, 5000 and up for reports",
    )
    p.add_argument("--processes", type=int, default=cores())
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")


def _add_scaling(kinds) -> None:
    p = verb(
        kinds,
        "scaling",
        "Train joint networks on more and more episodes: how fast does the error of their futures"
        " fall?",
        "gwm eval scaling --data data/pick --futures data/play --held-out data/held_out"
        " --vae models/demo --sizes 50 150 450 --out runs/scaling",
        evaluate_scaling,
    )
    p.add_argument(
        "--data", required=True, metavar="DIR", help="demonstrations, the same for all networks"
    )
    p.add_argument(
        "--futures",
        required=True,
        nargs="+",
        metavar="DIR",
        help="episodes of any outcome, of which each network learns to predict some",
    )
    p.add_argument(
        "--held-out",
        required=True,
        metavar="DIR",
        help="other episodes, on which the futures are measured",
    )
    p.add_argument(
        "--vae", required=True, metavar="DIR", help="of the VAE whose latents are predicted"
    )
    p.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for the networks; an interrupted study is resumed",
    )
    p.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[50, 150, 450],
        help="numbers of episodes of --futures, three or more (50 150 450)",
    )
    p.add_argument("--seeds", type=int, default=3, help="trainings of each size (default 3)")
    p.add_argument("--config", default="joint", help="joint (default) or tiny_joint")
    p.add_argument("--iterations", type=int, help="default: the configuration's")
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument(
        "--trials", type=int, default=0, help="of every policy, the same for all (default: none)"
    )
    p.add_argument("--task", help=f"of the trials: {TASKS}")
    p.add_argument("--difficulty", default="nominal", help="of the trials: nominal or hard")
    p.add_argument(
        "--seed",
        type=int,
        default=5000,
        help="seed of the first trial; 4000-4099 for choices, 5000 and up for reports",
    )
    p.add_argument("--processes", type=int, default=cores())
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")


def evaluate_pretraining(args) -> int:
    from gwm_core.evaluation.studies.pretraining_study import PretrainingStudy, compare
    from gwm_core.model.config import POLICIES

    writable(args.json)
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
        POLICIES["joint"][1],
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
    from gwm_core.model.config import POLICIES, WorldActionConfig, named_config

    if bool(args.trials) != bool(args.task):
        raise InputError("--trials and --task go together: how many, and of which task")
    config, train = named_config(args.config, POLICIES)
    if not isinstance(config, WorldActionConfig):
        raise InputError(f"--config {args.config} predicts no futures: joint and tiny_joint do")
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
