"""``gwm calibrate`` and ``gwm site``: where the cameras are, and what a site file says."""

from __future__ import annotations

from dataclasses import asdict

from gwm.graph.config import ROBOTS
from gwm.tools.terminal import say_next, verb, writable
from gwm_core.errors import one_of
from gwm_core.files.json_files import write_json

BOARD = "7x5:0.04:0.03:DICT_4X4_50"


def add(verbs) -> None:
    """Declare the verbs."""
    _add_calibrate(verbs)
    _add_site(verbs)
    _add_setup(verbs)


def _add_calibrate(verbs) -> None:
    p = verb(
        verbs,
        "calibrate",
        "Find a camera's pose with a ChArUco board and write it into the site file, whose comments "
        "and other entries stay; or check that it has not moved (exit 0 yes, 1 no).",
        "gwm calibrate --camera front --mount base, then gwm calibrate --check --camera front",
        calibrate,
    )
    p.add_argument("--camera", metavar="NAME", help="name in the site file; a new one is added")
    p.add_argument(
        "--mount",
        help="base: fixed camera, board on the hand; hand: camera on the hand, fixed board",
    )
    p.add_argument(
        "--views", metavar="DIR", help="saved views (docs/calibration.md); default: taken live"
    )
    p.add_argument(
        "--board",
        default=BOARD,
        help="COLUMNSxROWS:SQUARE:MARKER:DICTIONARY [m] (default %(default)s)",
    )
    p.add_argument("--site", metavar="PATH", help="site file (default ~/.config/gwm/site.yaml)")
    p.add_argument("--prefix", help="topic prefix of a new camera (default camera/NAME)")
    p.add_argument(
        "--check", action="store_true", help="check one view, by the arm's own body or by a board"
    )
    p.add_argument(
        "--board-pose",
        metavar="POSE",
        help="with --check: x,y,z,roll,pitch,yaw of the board in the base "
        "frame [m, degrees], or 'stored' for where the calibration found it",
    )
    p.add_argument(
        "--print-board", metavar="FILE.png", help="write the board as an A4 page, and exit"
    )
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")


def _add_site(verbs) -> None:
    kinds = verb(
        verbs, "site", "Check a lab's site file.", "gwm site check ~/.config/gwm/site.yaml", None
    )
    kinds = kinds.add_subparsers(metavar="WHAT", required=True)
    p = verb(
        kinds,
        "check",
        "Print a site file's content; exit 2 with the reason when it is refused.",
        "gwm site check ~/.config/gwm/site.yaml",
        check,
    )
    p.add_argument(
        "file",
        nargs="?",
        default="",
        help=(
            "the site file (default ~/.config/gwm/site.yaml; "
            "launch/site.example.yaml is one, with comments)"
        ),
    )
    p.add_argument(
        "--robot",
        default="fr3",
        help="fr3, panda, or sim: without a file the simulation's own site (default fr3)",
    )
    p.add_argument(
        "--json", metavar="FILE", help="write what was found to FILE (- writes it to stdout)"
    )


def _add_setup(verbs) -> None:
    p = verb(
        verbs,
        "setup",
        "Write a site file by asking: robot, cameras with a picture of each, workspace, home and"
        " speed; on this terminal, or on a page.",
        "gwm setup",
        setup,
    )
    p.add_argument("--out", metavar="FILE", help="the site file (default ~/.config/gwm/site.yaml)")
    p.add_argument("--page", action="store_true", help="ask on a page of this machine's browser")
    p.add_argument("--yes", action="store_true", help="take every default without asking")
    p.add_argument(
        "--replace", action="store_true", help="replace an existing file, and keep a copy of it"
    )
    p.add_argument(
        "--pictures", metavar="DIR", default="setup", help="folder for pictures (default setup)"
    )


def setup(args) -> int:
    from pathlib import Path

    from gwm.tools.setup.setup import run_setup

    return run_setup(
        Path(args.out).expanduser() if args.out else None,
        Path(args.pictures),
        args.page,
        args.yes,
        args.replace,
    )


def calibrate(args) -> int:
    from gwm.tools.calibrate import run_calibrate

    writable(args.json)
    return run_calibrate(args)


def check(args) -> int:
    from gwm_core.geometry.limits import UNITS
    from gwm_core.site import site_of, xacro_mounts

    writable(args.json)
    site = site_of(one_of("robot", args.robot, ROBOTS), args.file)
    found = {
        "robot": site.robot,
        "robot_ip": site.robot_ip,
        "home": list(site.home),
        "workspace": asdict(site.workspace),
        "profile": asdict(site.named_profile("")),
        "limits": {name: getattr(site.limits, name).tolist() for name in UNITS},
        "tasks": {name: task.to_dict() for name, task in site.tasks.items()},
        "cameras": {name: camera.to_dict() for name, camera in site.cameras.items()},
        "mounts": xacro_mounts(site),
        "remarks": _remarks(site),
    }
    if args.json:
        write_json(args.json, found)
    box = found["workspace"]
    print(f"robot      {site.robot} at {site.robot_ip or '(no address)'}")
    print(f"workspace  {box['low']} to {box['high']} m")
    print(f"home       {[round(x, 4) for x in site.home]} rad")
    for name, task in found["tasks"].items():
        print(f"task       {name}: {task['instruction']}, {task['seconds']:.0f} s")
    print(f"profile    {', '.join(f'{name} {value}' for name, value in found['profile'].items())}")
    for name, unit in UNITS.items():
        print(f"{name:10} {found['limits'][name]} {unit}")
    for name, camera in site.cameras.items():
        frame = "TCP" if camera.moving else "base"
        xyz = [round(float(x), 3) for x in camera.T[:3, 3]]
        print(
            f"camera     {name}: {camera.prefix}, serial {camera.serial or '(none)'}, at {xyz} m in"
            f" the {frame}"
        )
    for remark in found["remarks"]:
        print(f"note       {remark}")
    if args.file:
        say_next(f"gwm up robot:={args.robot} site:={args.file}")
    return 0


def _remarks(site) -> list[str]:
    """Return remarks on entries that are valid but probably wrong."""
    from gwm_core.calibration.coverage import misses

    remarks = [] if site.robot_ip else ["no robot.ip: give robot_ip:=... at every start"]
    for name, camera in site.cameras.items():
        reach = float((camera.T[:3, 3] ** 2).sum() ** 0.5)
        if not camera.serial and len(site.cameras) > 1:
            remarks.append(
                f"cameras.{name} has no serial: with two cameras a driver takes whichever it finds"
                " first"
            )
        if reach > (0.5 if camera.moving else 3.0):
            remarks.append(
                f"cameras.{name} is {reach:.1f} m from its frame: metres, not millimetres?"
            )
        if reason := misses(site, name):
            remarks.append(f"cameras.{name} {reason}")
    return remarks
