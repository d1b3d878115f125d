"""``gwm collect``."""

from __future__ import annotations

from pathlib import Path

from gwm.cli import options
from gwm.tools.terminal import (
    TASKS,
    ProgressBar,
    positive,
    renderer,
    say_next,
    verb,
    writable,
    writable_folder,
)
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json


def add(verbs) -> None:
    """Declare the verb."""
    p = verb(
        verbs,
        "collect",
        "Record episodes in simulation, without ROS: of the scripted expert, or of others. Failed"
        " ones are kept; no policy learns from them.",
        "gwm collect --task pick_place --episodes 200 --out data/pick --seed 0",
        collect,
    )
    p.add_argument("--task", help=f"{TASKS}; not with --perturb")
    p.add_argument("--episodes", type=int, default=200)
    options.resumable_folder(p, "folder for the episodes; an interrupted collection is resumed")
    p.add_argument(
        "--seed",
        type=int,
        default=0,
        help="first seed; 0-3999 train, 4000 and up are for evaluation",
    )
    p.add_argument("--difficulty", help="nominal (default) or hard; not with --perturb")
    who = p.add_mutually_exclusive_group()
    who.add_argument("--play", action="store_true", help="random motion, to learn to predict from")
    who.add_argument("--policy", metavar="DIR", help="a trained policy instead of the expert")
    who.add_argument(
        "--perturb",
        metavar="DIR",
        help="replay the demonstrations in this folder, each with a random perturbation",
    )
    options.processes(p)
    options.json_file(p, "write the outcomes to FILE (- is stdout)")


def collect(args) -> int:
    from gwm_core.training.collection.collect import CollectConfig, collect

    if args.perturb and (args.task or args.difficulty):
        raise InputError("--task and --difficulty are those of the demonstrations of --perturb")
    if not args.perturb and not args.task:
        raise InputError(f"--task is missing: {TASKS}")
    config = CollectConfig(
        args.task or "",
        Path(args.out),
        positive("episodes", args.episodes),
        args.seed,
        args.difficulty or "nominal",
        renderer(),
        "play" if args.play else args.policy or "expert",
        Path(args.perturb) if args.perturb else None,
    )
    writable(args.json)
    writable_folder(args.out)
    bar = ProgressBar(args.episodes, f"collect {args.task or args.perturb}")
    ended = collect(config, positive("processes", args.processes), lambda outcome: bar.step())
    succeeded = "" if args.play else f", {ended['success']} succeeded"
    print(f"{args.episodes} episodes in {args.out}{succeeded}")
    if args.json:
        write_json(args.json, {"out": args.out, "episodes": args.episodes, **ended})
    elif not (args.play or args.policy):
        say_next(f"gwm train policy --data {args.out} --out models/mine")
    return 0
