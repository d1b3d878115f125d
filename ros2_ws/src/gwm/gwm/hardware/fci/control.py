"""The process that controls the arm: libfranka's client, fed by the interpolator at 500 Hz.

The motion's own thread, in C++, answers the robot at 1 kHz. It keeps the last reference for ever,
so whoever starts this process must end it when it says nothing (``control_process``).
"""

from __future__ import annotations

import ctypes
import enum
import gc
import json
import signal
import socket
import sys
import threading
import time

import numpy as np

from gwm.graph.environment import prioritize
from gwm.hardware.fci import link
from gwm.hardware.fci.link import Link, RobotState
from gwm_core.control.recovery import BRAKES, MODES
from gwm_core.control.reference_interpolator import ReferenceInterpolator
from gwm_core.control.stop_trajectory import Reference
from gwm_core.errors import InputError
from gwm_core.site.fci_settings import FciSettings

PERIOD = 0.002  # [s]
STATE_PERIOD = 0.01  # [s] between two states
SILENCE = 0.5  # [s] without a reference, after which control is left
START_TOLERANCE = 0.03  # [rad] between the arm and the first reference
START_SPEED = 0.05  # [rad/s] of the arm, from which it is not at rest
MAX_TORQUE_STEP = 0.9  # [N m] of the robot's 1.0, as its states are single-precision numbers
# [Hz] libfranka's low-pass filter of torques is off from here on. At 100 Hz, its default, it lets a
# torque change by 0.35 N m in a period instead of MAX_TORQUE_STEP: the arm was up to 27 mrad late.
UNFILTERED = 1000.0
CONTROL_PRIORITY, PRIORITY = 70, 40  # of SCHED_FIFO: the motion's thread, and this one
FIRST_ANSWER = 0.05  # [s] after a recovery, until the robot's state is that after it


class Phase(enum.Enum):
    """What the controller does with the arm."""

    WAITING = "waiting"  # for a reference
    FOLLOWING = "following"
    LEAVING = "leaving"  # control, after it has brought the arm to rest


class Controller:
    """Drives the robot by references.

    Args:
        robot: franky's.
        franky: the module.
        connection: to the node.
        settings: of the site.
    """

    def __init__(self, robot, franky, connection: Link, settings: FciSettings):
        self._robot = robot
        self._franky = franky
        self._link = connection
        self._settings = settings
        self._phase = Phase.WAITING
        self._motion = None
        self._interpolator: ReferenceInterpolator | None = None
        self._model = robot.model
        self._heard_at = -np.inf  # [s] a reference
        self._time = -1.0  # [s] of the robot's last state
        self._read_at = -np.inf  # [s]
        self._mass = np.eye(7)  # [kg m2] at the last state that was read
        self._trouble = ""
        self._recovery: threading.Thread | None = None

    def step(self, now: float) -> None:
        """Take what the node sends, feed the motion, and report the state."""
        reference = None
        for kind, content in self._link.receive():
            if kind == link.REFERENCE:
                reference = link.reference_of(content)
                self._receive(reference, now)
            elif kind == link.RECOVER:
                self._recover()
            elif kind == link.LEAVE and self._phase is Phase.FOLLOWING:
                self._leave()
        if now - self._read_at >= STATE_PERIOD - PERIOD / 2:
            self._read(now)
        if self._phase is not Phase.WAITING and not self._robot.is_in_control:
            self._ended()
        elif self._phase is Phase.FOLLOWING:
            self._feed(now)
        elif self._phase is Phase.WAITING and reference is not None:
            self._begin(reference, self._robot.state, now)

    def _read(self, now: float) -> None:
        """Read the robot's state, which takes a good part of a period, and report it."""
        state = self._robot.state
        self._read_at = now
        if self._phase is Phase.FOLLOWING:
            self._mass = self._model.mass(state)
        self._report(state)

    def _receive(self, reference: Reference, now: float) -> None:
        self._heard_at = now
        if self._phase is not Phase.FOLLOWING:
            return
        try:
            self._interpolator.receive(reference, now)
        except InputError as error:
            self._say(str(error))
            self._leave()

    def _begin(self, reference: Reference, state, now: float) -> None:
        """Take control, if the arm is where the reference is."""
        idle = state.robot_mode.value == MODES.index("idle")
        if self._trouble or self._recovery is not None or not idle:
            return
        q, dq = np.array(state.q), np.array(state.dq)
        away = float(np.abs(reference.q - q).max())
        # The reference of an arm that is pushed while nothing controls it lags behind.
        if not away <= START_TOLERANCE or np.abs(dq).max() > START_SPEED:
            return
        motion = self._franky.JointImpedanceTrackingMotion(
            stiffness=self._settings.stiffness,
            damping=self._settings.damping,
            max_delta_tau=MAX_TORQUE_STEP,
        )
        motion.set_reference(self._franky.JointReference(q, np.zeros(7), np.zeros(7)))
        prioritize(CONTROL_PRIORITY)  # which the motion's thread inherits
        try:
            self._robot.move(motion, asynchronous=True, cutoff_frequency=UNFILTERED)
        except Exception as error:  # of several libraries' classes
            self._say(one_line(error))
            return
        finally:
            prioritize(PRIORITY)
        self._phase = Phase.FOLLOWING
        self._mass = self._model.mass(state)
        self._motion = motion
        self._interpolator = ReferenceInterpolator(q)
        self._interpolator.receive(reference, now)

    def _feed(self, now: float) -> None:
        if now - self._heard_at > SILENCE:
            self._leave()
            return
        q, dq, ddq = self._interpolator.at(now)
        self._motion.set_reference(self._franky.JointReference(q, dq, self._mass @ ddq))

    def _leave(self) -> None:
        """Begin to leave control."""
        self._phase = Phase.LEAVING
        stop = self._franky.TorqueStopMotion(max_delta_tau=MAX_TORQUE_STEP)
        try:
            self._robot.move(stop, asynchronous=True, cutoff_frequency=UNFILTERED)
        except Exception as error:  # of several libraries' classes
            self._say(one_line(error))

    def _ended(self) -> None:
        """A motion is over: as it should be after ``_leave``, else for the robot's reasons."""
        wanted = self._phase is Phase.LEAVING
        self._phase = Phase.WAITING
        try:
            self._robot.join_motion(timeout=0.1)
            error = "" if wanted else "the robot ended the motion"
        except Exception as failure:  # what ended it
            error = one_line(failure)
        mode = MODES[self._robot.state.robot_mode.value]
        if error and mode in ("user stopped", "guiding", "other"):
            error = BRAKES if mode == "other" else mode
        if error:
            self._say(error)

    def _recover(self) -> None:
        if self._phase is not Phase.WAITING:
            self._link.say(link.RECOVERED, "the robot is in control: there is nothing to recover")
        elif self._recovery is None:
            self._recovery = threading.Thread(target=self._run_recovery, daemon=True)
            self._recovery.start()

    def _run_recovery(self) -> None:
        try:
            self._robot.recover_from_errors()
            time.sleep(FIRST_ANSWER)
            error = "errors remain" if self._robot.has_errors else ""
        except Exception as failure:  # of several libraries' classes
            error = one_line(failure)
        if not error:
            self._say("")
        self._link.say(link.RECOVERED, error)
        self._recovery = None

    def _say(self, trouble: str) -> None:
        """What keeps the arm from following until the next recovery, or ""."""
        self._trouble = trouble
        self._link.say(link.TROUBLE, trouble)

    def _report(self, state) -> None:
        """Send the state where the robot's time goes on, else that this process lives."""
        robot_time = state.time.to_sec()
        if robot_time <= self._time:
            self._link.send(link.ALIVE)
            return
        self._time = robot_time
        report = RobotState(
            robot_time,
            np.array(state.q),
            np.array(state.dq),
            state.robot_mode.value,
            self._phase is Phase.FOLLOWING,
            state.control_command_success_rate,
        )
        self._link.send(link.STATE, link.pack_state(report))


def one_line(error: Exception) -> str:
    """The first line of an error of libfranka, without its name in front."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("libfranka: ").removeprefix("libfranka:").strip()


def connect(franky, address: str, settings: FciSettings):
    """The robot, configured. Raises what franky raises."""
    config = franky.RealtimeConfig
    robot = franky.Robot(
        address, realtime_config=config.Enforce if settings.real_time else config.Ignore
    )
    torque, force = list(settings.collision_torque), list(settings.collision_force)
    robot.set_collision_behavior(torque, torque, force, force)
    robot.set_load(settings.load_mass, list(settings.load_center), list(settings.load_inertia))
    return robot


def main() -> int:
    """Entry point: ``python -m gwm.hardware.fci.control FD ADDRESS SETTINGS``."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the robot then stops by itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the node ends this process, after the gate
    descriptor, address, settings = sys.argv[1:]
    settings = FciSettings(**json.loads(settings))
    connection = Link(socket.socket(fileno=int(descriptor)))
    gc.disable()
    try:
        import franky

        robot = connect(franky, address, settings)
        prioritize(PRIORITY)
        controller = Controller(robot, franky, connection, settings)
        due = time.monotonic()
        while True:
            controller.step(time.monotonic())
            due = max(due + PERIOD, time.monotonic() - PERIOD)
            time.sleep(max(0.0, due - time.monotonic()))
    except EOFError:  # the node has ended
        return 0
    except Exception as error:  # of several libraries' classes
        connection.say(link.FAILED, one_line(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
