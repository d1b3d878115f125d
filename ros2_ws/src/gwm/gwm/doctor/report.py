"""``gwm doctor``: report what works on this machine, and how to mend what does not.

The exit code is 0 for fine, 1 for limited, 2 for broken.
"""

from __future__ import annotations

from gwm.doctor.check import BROKEN, DoctorCheck
from gwm.doctor.live_graph import check_graph
from gwm.doctor.machine import check_cameras, check_disk, check_ports
from gwm.doctor.robot import check_robot
from gwm.doctor.software import (
    check_packages,
    check_python,
    check_renderer,
    check_ros,
    check_runtime,
    check_weights,
)
from gwm_core.files.json_files import write_json

ALL = (
    check_python,
    check_packages,
    check_ros,
    check_renderer,
    check_runtime,
    check_cameras,
    check_weights,
    check_disk,
    check_ports,
    check_robot,
    check_graph,
)
# Those that load no large package; every recorded episode has their findings.
QUICK = (check_python, check_ros, check_weights, check_disk)


def run_checks(groups=ALL) -> list[DoctorCheck]:
    """Run groups of checks. A group that raises becomes a finding."""
    checks: list[DoctorCheck] = []
    for group in groups:
        if group is check_graph and any(
            c.level == BROKEN for c in checks if c.what in ("ros", "dds ports")
        ):
            continue
        try:
            checks.extend(group())
        except Exception as error:  # the doctor reports even where nothing works
            name = group.__name__.removeprefix("check_")
            checks.append(
                DoctorCheck(
                    BROKEN, name, f"{type(error).__name__}: {error}", "mend the lines above first"
                )
            )
    return checks


def report(json: str | None) -> int:
    """Print every check, or write them to the file ``json``. Returns the worst level."""
    checks = run_checks()
    if json:
        write_json(json, [c._asdict() for c in checks])
    else:
        for c in checks:
            print(
                f"{('ok', 'limited', 'BROKEN')[c.level]:8}{c.what:20}{c.found}"
                + (f"\n{'':28}-> {c.remedy}" if c.remedy else "")
            )
    return max(c.level for c in checks)
