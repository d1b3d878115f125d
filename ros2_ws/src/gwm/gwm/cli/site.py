"""``gwm site``: what a site file says, and whether it may be used."""

from __future__ import annotations

from dataclasses import asdict

from gwm.tools.terminal import say_next, verb, writable
from gwm_core.errors import one_of
from gwm_core.files.json_files import write_json


def add(verbs) -> None:
    """Declare the verbs."""
    kinds = verb(
        verbs, "site", "Check a lab's site file.", "gwm site check ~/.config/gwm/site.yaml", None
    )
    kinds = kinds.add_subparsers(metavar="WHAT", required=True)
    p = verb(
        kinds,
        "check",
        "Say what is in a site file; exit 2 and the reason when it is refused.",
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
        help="fr3, or sim: without a file the simulation's own site (default fr3)",
    )
    p.add_argument(
        "--json", metavar="FILE", help="write what was found to FILE (- writes it to stdout)"
    )


def check(args) -> int:
    from gwm_core.geometry.limits import UNITS
    from gwm_core.site import site_of, xacro_mounts

    writable(args.json)
    site = site_of(one_of("robot", args.robot, ("sim", "fr3")), args.file)
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
        place = "TCP" if camera.moving else "base"
        xyz = [round(float(x), 3) for x in camera.T[:3, 3]]
        print(
            f"camera     {name}: {camera.prefix}, serial {camera.serial or '(none)'}, at {xyz} m in"
            f" the {place}"
        )
    for remark in found["remarks"]:
        print(f"note       {remark}")
    if args.file:
        say_next(f"gwm up robot:={args.robot} site:={args.file}")
    return 0


def _remarks(site) -> list[str]:
    """What is allowed and probably not meant."""
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
