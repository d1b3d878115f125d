"""``gwm sim-robot``: a simulated robot for any client of libfranka."""

from __future__ import annotations

import signal
import time

from gwm.tools.terminal import verb
from gwm_core.address import address
from gwm_core.errors import InputError

LATE = 0.05  # [s] of physics that it makes up for; what exceeds it is lost


def add(verbs) -> None:
    """Declare the verb."""
    p = verb(
        verbs,
        "sim-robot",
        "Serve the FCI of a simulated robot, which refuses what an FR3 refuses, until Ctrl-C.",
        "gwm sim-robot --address 127.0.0.1",
        sim_robot,
    )
    p.add_argument(
        "--address", default="127.0.0.1", help="of this machine, for the client (127.0.0.1)"
    )
    p.add_argument(
        "--no-lock-step",
        dest="lock_step",
        action="store_false",
        help="lose a command that comes later than 1 ms, as the robot does; a busy machine is then"
        " a reflex",
    )
    p.add_argument("--task", default="pick_place", help="whose objects lie on the table")


def sim_robot(args) -> int:
    from gwm_core.sim.fci.arm import TorqueArm
    from gwm_core.sim.fci.robot_server import RobotServer
    from gwm_core.sim.simulator import Simulator
    from gwm_core.sim.tasks import sample_layout

    where = address("--address", args.address)
    sim = Simulator()
    sim.reset(sample_layout(args.task, 0))
    robot = RobotServer(TorqueArm(sim), [where], args.lock_step)
    try:
        robot.init()
    except OSError:
        raise InputError(
            f"cannot serve at {where}: another robot does, or it is no address of this machine"
        ) from None
    print(f"a robot at {where}, system 5.9; Ctrl-C ends it", flush=True)
    try:
        _serve(robot)
    finally:
        robot.cleanup()
    for name, use in robot.limits_used.items():
        print(f"{name:52}{100 * use:6.1f} % of the limit")
    print(f"reflexes: {', '.join(robot.reflexes) or 'none'}")
    return 0


def _serve(robot) -> None:
    """Let the robot's time follow the clock, and print every change of its mode."""
    over: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: over.append(number))
    mode = robot.mode
    reflexes = 0
    due = time.monotonic()
    while not over:
        robot.tick()
        if robot.mode != mode or len(robot.reflexes) > reflexes:
            mode, reflexes = robot.mode, len(robot.reflexes)
            why = f": {robot.reflexes[-1]}" if mode.name == "kReflex" else ""
            print(f"{mode.name.removeprefix('k').lower()}{why}", flush=True)
        due = max(due + 1e-3, time.monotonic() - LATE)
        time.sleep(max(0.0, due - time.monotonic()))
