"""``gwm calibrate``."""

from __future__ import annotations

from gwm.tools.terminal import verb, writable

BOARD = "7x5:0.04:0.03:DICT_4X4_50"


def add(verbs) -> None:
    """Declare the verb."""
    p = verb(
        verbs,
        "calibrate",
        "Find where a camera is with a ChArUco board and write it into the site file, whose "
        "comments and other entries stay; or check that it still is there (exit 0 yes, 1 no).",
        "gwm calibrate --camera front --mount base, then gwm calibrate --check --camera front",
        run,
    )
    p.add_argument(
        "--camera", metavar="NAME", help="in the site file; one that is not there yet is added"
    )
    p.add_argument(
        "--mount",
        help="base: fixed camera, board on the hand; hand: camera on the hand, fixed board",
    )
    p.add_argument(
        "--views", metavar="DIR", help="saved views (docs/calibration.md); else they are taken live"
    )
    p.add_argument(
        "--board",
        default=BOARD,
        help="COLUMNSxROWS:SQUARE:MARKER:DICTIONARY [m] (default %(default)s)",
    )
    p.add_argument("--site", metavar="PATH", help="site file (default ~/.config/gwm/site.yaml)")
    p.add_argument("--prefix", help="topic prefix of a camera that is added (default camera/NAME)")
    p.add_argument(
        "--check", action="store_true", help="look at one view, by the arm's own body or by a board"
    )
    p.add_argument(
        "--board-pose",
        metavar="POSE",
        help="with --check: x,y,z,roll,pitch,yaw of the board in the base "
        "frame [m, degrees], or 'stored' for where the calibration found it",
    )
    p.add_argument(
        "--print-board", metavar="FILE.png", help="write the board as an A4 page and end"
    )
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")


def run(args) -> int:
    from gwm.tools.calibrate import run_calibrate

    writable(args.json)
    return run_calibrate(args)
