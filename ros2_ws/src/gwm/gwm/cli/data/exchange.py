"""``gwm data export`` and ``import``: datasets of other libraries."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from gwm.cli import options
from gwm.tools.terminal import ProgressBar, positive, say_next, verb, writable
from gwm_core.errors import InputError, one_of
from gwm_core.files.json_files import write_json

EXPORTS = ("lerobot", "lerobot-v2.1", "robomimic")
IMPORTS = ("lerobot", "robomimic")


def add(kinds) -> None:
    """Declare the kinds."""
    p = verb(
        kinds,
        "export",
        "Export episodes as a dataset of another library, with depth and calibration.",
        "gwm data export lerobot runs data/mine_lerobot",
        export,
    )
    p.add_argument("kind", help=", ".join(EXPORTS))
    p.add_argument("folder", help="of episodes")
    p.add_argument("out", help="folder (lerobot) or file (robomimic) to make")
    p.add_argument("--fps", type=int, default=10, help="rows per second (default 10, the policy's)")
    p.add_argument(
        "--images",
        action="store_true",
        help="lerobot: images as recorded instead of video: exact, larger",
    )
    p.add_argument(
        "--no-depth",
        action="store_true",
        help="lerobot: colour alone, as its ACT and Diffusion Policy want it",
    )
    p.add_argument("--all", action="store_true", help="failed episodes too")
    options.json_file(p, "write the counts to FILE (- is stdout)")
    p = verb(
        kinds,
        "import",
        "Import a dataset of another library as episodes.",
        "gwm data import lerobot data/theirs data/mine",
        import_,
    )
    p.add_argument("kind", help=" or ".join(IMPORTS))
    p.add_argument("source", help="folder (lerobot) or file (robomimic)")
    p.add_argument("out", help="folder for the episodes; existing ones are kept")
    p.add_argument(
        "--joint-unit", default="rad", help="lerobot: unit of joints and velocities, rad or degrees"
    )
    p.add_argument(
        "--gripper-unit",
        default="m",
        help="lerobot: unit of the finger opening, m, mm or fraction (1 is open)",
    )
    options.json_file(p, "write the counts to FILE (- is stdout)")


def tables_of(path: Path, fps: int) -> list:
    """Return the tables of an episode, and print what they leave out."""
    from gwm_core.data.episode import read_episode
    from gwm_core.data.resampled_episode import resample

    episode = read_episode(path)
    made = resample(episode, fps)
    breaks = [f"rows break off {len(made) - 1} times: {len(made)} episodes are made of it"] * (
        len(made) > 1
    )
    for note in (*episode.notes, *breaks):
        print(f"{path}: {note}", file=sys.stderr)
    return made


def export(args) -> int:
    from gwm_core.data.episode_info import list_episodes, read_infos
    from gwm_core.files.atomic_write import refuse_inside

    writable(args.json)
    one_of("kind", args.kind, EXPORTS)
    if args.kind == "robomimic" and (args.no_depth or args.images):
        raise InputError("--no-depth and --images are for lerobot and lerobot-v2.1")
    refuse_inside(Path(args.folder), Path(args.out))
    infos = read_infos(list_episodes(Path(args.folder)))
    paths = [path for path, info in infos.items() if args.all or info.get("success") is not False]
    if not paths:
        raise InputError(f"only failed episodes in {args.folder}: --all exports them too")
    out, tables = Path(args.out), _all_tables(paths, positive("fps", args.fps))
    if args.kind == "robomimic":
        from gwm_core.interop.robomimic import export_robomimic

        summary = export_robomimic(tables, out)
    else:
        from gwm_core.interop.lerobot import export_lerobot

        version = "v2.1" if args.kind.endswith("v2.1") else "v3.0"
        summary = export_lerobot(tables, out, version, not args.images, not args.no_depth)
    print(f"{out}: {summary.episodes} episodes, {summary.rows} rows, {summary.size / 1e6:.0f} MB")
    if args.json:
        write_json(
            args.json,
            {
                "out": args.out,
                "episodes": summary.episodes,
                "rows": summary.rows,
                "bytes": summary.size,
            },
        )
    return 0


def _all_tables(paths: list[Path], fps: int) -> Iterator:
    """Yield the tables of all episodes, with a bar."""
    bar = ProgressBar(len(paths), "export")
    for path in paths:
        yield from tables_of(path, fps)
        bar.step()


def import_(args) -> int:
    from gwm_core.interop.dataset_import import import_tables
    from gwm_core.interop.lerobot import import_lerobot
    from gwm_core.interop.robomimic_read import import_robomimic

    writable(args.json)
    source, units = Path(args.source), (args.joint_unit, args.gripper_unit)
    if one_of("kind", args.kind, IMPORTS) == "lerobot":
        tables = import_lerobot(source, *units)
    elif units != ("rad", "m"):
        raise InputError(
            "--joint-unit and --gripper-unit are for lerobot: robomimic files of ours are in rad"
            " and m"
        )
    else:
        tables = import_robomimic(source)
    found = import_tables(tables, source, Path(args.out))
    there = f", {found.skipped} were there already" if found.skipped else ""
    print(f"{args.out}: {found.added} episodes added{there}")
    if args.json:
        write_json(args.json, {"out": args.out, "added": found.added, "skipped": found.skipped})
    say_next(f"gwm data verify {args.out}")
    return 0
