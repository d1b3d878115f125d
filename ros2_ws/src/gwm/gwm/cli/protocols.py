"""``gwm eval protocol`` and ``gwm eval imagined``: comparisons fixed before their first trial."""

from __future__ import annotations

import sys
from pathlib import Path

from gwm.cli.futures import MODEL
from gwm.tools.terminal import cores, positive, renderer, shipped, verb
from gwm_core.errors import InputError

DECIDED = ("task", "policy", "record", "publish_objects")  # arguments of the graph, by a protocol


def add_eval(kinds) -> None:
    """Declare the verbs."""
    p = verb(
        kinds,
        "protocol",
        "Compare policies by a protocol that is fixed before its first trial: blind, in random "
        "order, from the same starts; an interrupted one is resumed.",
        "gwm eval protocol compare.yaml --out runs/compare",
        evaluate_protocol,
    )
    p.add_argument(
        "source", help="protocol file (docs/evaluation.md), or the folder of one that has begun"
    )
    p.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the protocol (default: the file's name without its suffix)",
    )
    p.add_argument(
        "--report", action="store_true", help="run no trials, only report those made so far"
    )
    p.add_argument(
        "--blind",
        action="store_true",
        help="report codes instead of names; --report shows the names later",
    )
    p.add_argument(
        "--live",
        nargs="*",
        metavar="NAME:=VALUE",
        help="run the trials over the live graph, with its arguments as of `gwm up`",
    )
    p.add_argument(
        "--by-hand",
        action="store_true",
        help="with --live: place objects and rate at the console, in simulation too",
    )
    p.add_argument(
        "--second",
        metavar="CSV",
        help="a second rater's file with columns number and success: adds kappa",
    )
    p.add_argument("--processes", type=int, default=cores())
    p = verb(
        kinds,
        "imagined",
        "Run the trials of a protocol inside the world model, before or beside the real ones.",
        "gwm eval imagined runs/compare",
        evaluate_imagined,
    )
    p.add_argument("folder", help="of a protocol that has begun")
    p.add_argument("--model", metavar="DIR", help=MODEL)
    p.add_argument("--processes", type=int, default=cores())


def evaluate_protocol(args) -> int:
    from gwm.graph.arguments import parse
    from gwm.tools import protocol

    second, source = Path(args.second) if args.second else None, Path(args.source)
    out = Path(args.out) if args.out else None
    if second is not None and not second.is_file():
        raise InputError(f"no file {second}")
    trouble, code = "", 0
    if args.report:
        folder = out or (source if source.is_dir() else source.with_suffix(""))
    else:
        if args.by_hand and args.live is None:
            raise InputError("--by-hand is for --live: without it trials run unattended")
        for word in args.live or ():
            if (name := word.partition(":=")[0]) in DECIDED:
                raise InputError(f"--live {word}: the protocol decides {name}")
        live = None if args.live is None else parse(args.live)
        processes = positive("processes", args.processes)
        folder, trouble, code = protocol.run(source, out, processes, renderer(), live, args.by_hand)
    protocol.report(folder, not (args.blind or trouble), second, renderer())
    if trouble:
        print(f"gwm: {trouble}", file=sys.stderr)
    return code


def evaluate_imagined(args) -> int:
    from gwm.tools import protocol

    protocol.imagine(
        Path(args.folder),
        args.model or shipped(),
        positive("processes", args.processes),
        renderer(),
    )
    return 0
