"""``gwm data``: inspect, check, recover and convert episodes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from gwm.tools.terminal import ProgressBar, cores, positive, verb, writable
from gwm_core.errors import InputError, one_of
from gwm_core.files.json_files import write_json
from gwm_core.workers.pool import workers

EXPORTS = ("lerobot", "lerobot-v2.1", "robomimic")
IMPORTS = ("lerobot", "robomimic")


def add(verbs) -> None:
    """Declare the verbs."""
    kinds = verb(
        verbs, "data", "Inspect, check, recover and convert episodes.", "gwm data info runs", None
    ).add_subparsers(metavar="WHAT", required=True)
    _add_checks(kinds)
    _add_views(kinds)
    _add_exchange(kinds)


def _add_checks(kinds) -> None:
    p = verb(kinds, "info", "What a folder of episodes holds.", "gwm data info runs", info)
    _folder(p)
    p = verb(
        kinds,
        "verify",
        "Check whether every episode is complete and fit for training. Exit 1 for errors.",
        "gwm data verify runs",
        verify,
    )
    _folder(p)
    p.add_argument("--processes", type=int, default=cores())
    p = verb(
        kinds,
        "recover",
        "Recover what a crash or power loss left unfinished, up to its last half second.",
        "gwm data recover runs",
        recover,
    )
    p.add_argument("folder", help="of episodes, or one .partial")


def _add_views(kinds) -> None:
    p = verb(
        kinds,
        "stats",
        "Ranges of states and actions over all episodes.",
        "gwm data stats runs",
        stats,
    )
    _folder(p)
    p.add_argument("--processes", type=int, default=cores())
    p = verb(
        kinds,
        "view",
        "A contact sheet: a row of pictures for every episode.",
        "gwm data view runs",
        view,
    )
    p.add_argument("folder", help="of episodes")
    p.add_argument("--camera", default="", help="default: the first one of the first episode")


def _add_exchange(kinds) -> None:
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
    p.add_argument("--all", action="store_true", help="failed episodes too")
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


def _folder(p) -> None:
    p.add_argument("folder", help="of episodes; its trash is left out")
    p.add_argument("--json", metavar="FILE", help="write the findings to FILE")


def _write(file: str | None, found) -> None:
    if file:
        write_json(file, found)


def info(args) -> int:
    from gwm_core.data.summary import summarize

    writable(args.json)
    found = summarize(Path(args.folder))
    print(f"{'task':20}{'outcome':10}{'episodes':>9}{'MB':>10}{'minutes':>9}")
    for group in found.groups:
        minutes = group.seconds / 60
        print(
            f"{group.task:20}{group.outcome:10}{group.episodes:9}{group.megabytes:10.0f}{minutes:9.1f}"
        )
    for path, why in found.broken.items():
        print(f"broken: {path}: {why}")
    for path in found.unfinished:
        print(f"unfinished: {path} (`gwm data recover {args.folder}`)")
    print(f"{found.trash} in the trash")
    _write(
        args.json,
        {
            "groups": [asdict(group) for group in found.groups],
            "trash": found.trash,
            "broken": {str(path): why for path, why in found.broken.items()},
            "unfinished": [str(path) for path in found.unfinished],
        },
    )
    return 0


def verify(args) -> int:
    from gwm_core.data.checks import findings, numbering
    from gwm_core.data.episode_info import list_episodes, list_unfinished

    writable(args.json)
    paths, found = list_episodes(Path(args.folder)), {}
    for path, finding in zip(paths, _each(findings, paths, args.processes, "verify")):
        found[str(path)] = finding
        lines = [f"error: {text}" for text in finding.errors]
        lines += [f"warning: {text}" for text in finding.warnings]
        print(f"{path}: " + "; ".join([*lines, finding.fit]))
    notes = [
        f"{path} was never finished: `gwm data recover {args.folder}`"
        for path in list_unfinished(Path(args.folder))
    ]
    notes += numbering(paths)
    whole = [finding for finding in found.values() if not finding.errors]
    fit = {
        kind: sum(not getattr(finding, kind) for finding in whole) for kind in ("policy", "world")
    }
    print(*notes, sep="\n", end="\n" * bool(notes))
    print(
        f"{len(whole)} of {len(paths)} episodes are whole; {fit['policy']} are fit to train a"
        f" policy on, {fit['world']} a world model"
    )
    _write(
        args.json,
        {
            "episodes": len(paths),
            "errors": {path: finding.errors for path, finding in found.items() if finding.errors},
            "warnings": {
                path: finding.warnings for path, finding in found.items() if finding.warnings
            },
            "fit": {
                path: {
                    "policy": not (finding.errors or finding.policy),
                    "world": not (finding.errors or finding.world),
                }
                for path, finding in found.items()
            },
            "notes": notes,
        },
    )
    return int(len(whole) < len(paths))


def _each(work, items: list, processes: int, what: str) -> Iterator:
    """Yield ``work(item)`` of every item in order, by several processes, with a bar."""
    bar = ProgressBar(len(items), what)
    with workers(positive("processes", processes), len(items)) as pool:
        for result in pool.imap(work, items):
            bar.step()
            yield result


def recover(args) -> int:
    from gwm_core.data.episode_info import BROKEN, list_unfinished
    from gwm_core.files.atomic_write import PARTIAL
    from gwm_core.recording.episode_recovery import recover as rescue

    folder = Path(args.folder)
    paths = [folder] if folder.suffix in (PARTIAL, BROKEN) else list_unfinished(folder)
    failed = 0
    for path in paths:
        try:
            made, count, seconds = rescue(path, print)
            print(f"{made}: {count} messages, {seconds:.1f} s")
        except InputError as error:
            failed += 1
            print(f"not recovered: {error}")
    if not paths:
        print(f"nothing unfinished in {folder}")
    return int(failed > 0)


def _tables(path: Path, fps: int) -> list:
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


def stats(args) -> int:
    from gwm_core.data.episode_info import list_episodes
    from gwm_core.data.summary import statistics

    writable(args.json)
    paths = list_episodes(Path(args.folder))
    read = _each(partial(_numbers, fps=10), paths, args.processes, "read")
    found = statistics([table for tables in read for table in tables])
    for column, values in found.items():
        print(f"{column}\n{'':4}{'':20}{'min':>10}{'mean':>10}{'max':>10}{'std':>10}")
        for row in zip(
            values["names"], values["min"], values["mean"], values["max"], values["std"]
        ):
            print(f"{'':4}{row[0]:20}" + "".join(f"{value:10.3f}" for value in row[1:]))
    _write(args.json, found)
    return 0


def _numbers(path: Path, fps: int) -> list:
    """Return tables without pictures, which need not travel between processes."""
    from dataclasses import replace

    return [replace(table, color={}, depth={}) for table in _tables(path, fps)]


def view(args) -> int:
    from gwm_core.data.contact_sheet import contact_sheet
    from gwm_core.data.episode import read_episode
    from gwm_core.data.episode_info import list_episodes

    folder = Path(args.folder)
    cameras = tuple(read_episode(list_episodes(folder)[0]).cameras)
    print(contact_sheet(folder, one_of("camera", args.camera or cameras[0], cameras)))
    return 0


def export(args) -> int:
    from gwm_core.data.episode_info import list_episodes, read_infos
    from gwm_core.files.atomic_write import refuse_inside

    one_of("kind", args.kind, EXPORTS)
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
        summary = export_lerobot(tables, out, version, video=not args.images)
    print(f"{out}: {summary.episodes} episodes, {summary.rows} rows, {summary.size / 1e6:.0f} MB")
    return 0


def _all_tables(paths: list[Path], fps: int) -> Iterator:
    """Yield the tables of all episodes, with a bar."""
    bar = ProgressBar(len(paths), "export")
    for path in paths:
        yield from _tables(path, fps)
        bar.step()


def import_(args) -> int:
    from gwm_core.interop.dataset_import import import_tables
    from gwm_core.interop.lerobot import import_lerobot
    from gwm_core.interop.robomimic_read import import_robomimic

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
    return 0
