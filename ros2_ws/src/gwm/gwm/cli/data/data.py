"""``gwm data``: inspect, check and recover episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from gwm.cli import options
from gwm.cli.data import exchange
from gwm.tools.terminal import ProgressBar, cores, positive, verb, writable
from gwm_core.errors import InputError, one_of
from gwm_core.files.json_files import write_json
from gwm_core.workers.pool import workers


def add(verbs) -> None:
    """Declare the verbs."""
    kinds = verb(
        verbs, "data", "Inspect, check, recover and convert episodes.", "gwm data info runs", None
    ).add_subparsers(metavar="WHAT", required=True)
    _add_checks(kinds)
    _add_views(kinds)
    exchange.add(kinds)


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
    p.add_argument("folder", type=options.existing, help="of episodes, or one .partial")
    options.json_file(p, "write what was recovered to FILE (- is stdout)")


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

    writable(args.json)
    folder = Path(args.folder)
    paths = [folder] if folder.suffix in (PARTIAL, BROKEN) else list_unfinished(folder)
    found: dict[str, dict] = {"recovered": {}, "failed": {}}
    for path in paths:
        try:
            made, count, seconds = rescue(path, print)
            found["recovered"][str(made)] = {"messages": count, "seconds": seconds}
            print(f"{made}: {count} messages, {seconds:.1f} s")
        except InputError as error:
            found["failed"][str(path)] = str(error)
            print(f"not recovered: {error}")
    if not paths:
        print(f"nothing unfinished in {folder}")
    _write(args.json, found)
    return int(bool(found["failed"]))


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

    return [replace(table, color={}, depth={}) for table in exchange.tables_of(path, fps)]


def view(args) -> int:
    from gwm_core.data.contact_sheet import contact_sheet
    from gwm_core.data.episode import read_episode
    from gwm_core.data.episode_info import list_episodes

    folder = Path(args.folder)
    cameras = tuple(read_episode(list_episodes(folder)[0]).cameras)
    print(contact_sheet(folder, one_of("camera", args.camera or cameras[0], cameras)))
    return 0
