"""The robot's side of the FCI: one client, one arm, one hand, and the conditions of an FR3.

Protocol and messages are those of franky-sim 1.0.4, which is pinned, since parts of it are private.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Iterable

from franky_sim.franka_gripper_server import FrankaGripperServer
from franky_sim.franka_server import FrankaServer

from gwm_core.sim.fci.arm import TorqueArm
from gwm_core.sim.fci.command_rules import PERIOD, ArmRules
from gwm_core.sim.fci.messages import (
    COMMANDS,
    Connect,
    Generator,
    Mode,
    Move,
    Recovery,
    RecoveryStatus,
    Status,
    UdpCommand,
    answer_move,
)
from gwm_core.sim.fci.motion import COMMUNICATION, Load, Motion, state_message

PORT = 1337
SERVER_VERSION = 10  # of robot system 5.9
LATE = 0.05  # [s] in lock-step, after which a command counts as lost
RECOVERY = 0.1  # [s] an automatic error recovery takes
# periods between two looks for requests, and between two states of the hand
REQUESTS, HAND = 4, 10
_WINDOW = 100  # commands of which the success rate is the share that arrived


class RobotServer(FrankaServer):
    """Serves one client. ``tick`` once for every millisecond of the robot's time.

    Args:
        arm: what it moves.
        addresses: loopback addresses to try in turn.
        lock_step: its first value.
        version: of the server; a client of another one is refused.

    Attributes:
        lock_step: wait for each command of a motion, so that a busy machine loses none.
        arm_rules: of the measured state.
        use: the largest use of each limit in all motions so far.
        reflexes: the errors that stopped a motion.
        drop: number of commands to lose from now on.
        silent: send no state, and take no command.
    """

    def __init__(
        self,
        arm: TorqueArm,
        addresses: Iterable[str],
        lock_step: bool = True,
        version: int = SERVER_VERSION,
    ):
        super().__init__(addresses, PORT, COMMANDS, version)
        self._FrankaServer__command_class_map[Connect.command_type] = Connect
        self.robot = self  # which the messages of loads and frames ask for
        self.arm = arm
        self.arm_rules = ArmRules()
        self.use: dict[str, float] = {}
        self.reflexes: list[str] = []
        self.drop = 0
        self._ticks = 0
        self.silent = False
        self.lock_step = lock_step
        self._hand: FrankaGripperServer | None = None
        self._motion: Motion | None = None
        self._command: UdpCommand | None = None
        self._errors: tuple[str, ...] = ()
        self._last_errors: tuple[str, ...] = ()
        self._held_in: set[Mode] = set()
        self._recovering: tuple[Recovery, int] | None = None  # and the ticks left
        self._arrived = deque([True] * _WINDOW, _WINDOW)
        self._sent = -1  # id of the last state
        self._load = Load()

    # The robot's own events.

    def hold(self, mode: Mode, held: bool) -> None:
        """Begin or end what a person does to the robot.

        Args:
            mode: the mode that it brings: kUserStopped, kGuiding, or kOther for closed brakes.
        """
        if held:
            self._held_in.add(mode)
            self._abort("", Status.kPreemptedDueToActivatedSafetyFunctions)
        else:
            self._held_in.discard(mode)

    @property
    def mode(self) -> Mode:
        """The robot's mode."""
        for mode in (Mode.kOther, Mode.kUserStopped):
            if mode in self._held_in:
                return mode
        if self._recovering is not None:
            return Mode.kAutomaticErrorRecovery
        if self._errors:
            return Mode.kReflex
        if Mode.kGuiding in self._held_in:
            return Mode.kGuiding
        return Mode.kMove if self._motion is not None else Mode.kIdle

    @property
    def limits_used(self) -> dict[str, float]:
        """The largest use of each limit so far, also in the motion under way; 1 is at the limit."""
        parts = [self.use, self.arm_rules.use]
        if self._motion is not None:
            parts += [self._motion.desired.use, self._motion.torque.use]
        names = {name for part in parts for name in part}
        return {name: max(part.get(name, 0.0) for part in parts) for name in sorted(names)}

    # One period.

    def tick(self) -> None:
        """Send the state, take the answer, and move the arm for one period."""
        self._ticks += 1
        if not self.silent:
            if self._ticks % REQUESTS == 0:
                self.process_commands()
            self.send_state()
            if self._hand is not None and self._ticks % HAND == 0:
                self._hand.process_commands()
                self._hand.send_state()
        self._take_command()
        self._drive()
        error = self.arm_rules.check(self.arm.sim.q, self.arm.sim.dq, self.arm.external)
        if error and self._motion is not None:
            self._abort(error, Status.kReflexAborted)
        self._recover_on()

    def advance(self, duration: float) -> None:
        """Advance by ``duration`` [s], a multiple of a period."""
        for _ in range(round(duration / PERIOD)):
            self.tick()

    def _take_command(self) -> None:
        """Take the answer to the last state, or go on without one."""
        motion = self._motion
        if motion is None:
            self._process_udp_commands()
            return
        self._command = None
        self._await_command(motion)
        if self._motion is None:  # the client has ended it
            return
        command, self._command = self._command, None
        if self.drop > 0 and command is not None:
            self.drop -= 1
            command = None
        self._arrived.append(command is not None)
        error = motion.take(command) if command is not None else motion.miss()
        if error:
            self._abort(error, Status.kReflexAborted)

    def _await_command(self, motion: Motion) -> None:
        wait = LATE if self.lock_step and motion.begun else 0.0
        readable = True
        while readable:
            self._process_udp_commands()
            if self._command is not None or self._motion is None or self.silent:
                return
            readable = select.select([self._FrankaServer__udp_socket], [], [], wait)[0]

    def _handle_udp_command(self, command_data: bytes) -> None:
        command = UdpCommand.from_bytes(command_data)
        if self._motion is None or self.silent:
            return
        if command.motion_generation_finished or command.torque_command_finished:
            self._end(Status.kSuccess)
        elif command.message_id == self._sent:  # else it is late
            self._command = command

    def _drive(self) -> None:
        motion = self._motion
        if self._held_in == {Mode.kGuiding}:
            self.arm.float()
        elif motion is None:
            self.arm.hold()
        elif motion.torques:
            self.arm.apply(motion.torque.torque)
        else:
            self.arm.track(motion.desired.q, motion.desired.dq)

    # Motions.

    def begin(self, command: Move) -> Status:
        """Begin a motion. Returns that it began, or why not."""
        if self.mode in (Mode.kUserStopped, Mode.kGuiding):
            return Status.kCommandRejectedDueToActivatedSafetyFunctions
        cartesian = (Generator.kCartesianPosition, Generator.kCartesianVelocity)
        if self.mode != Mode.kIdle or command.motion_generator_mode in cartesian:
            return Status.kCommandNotPossibleRejected
        self._motion = Motion(command, self.arm.sim.q)
        return Status.kMotionStarted

    def stop_motion(self) -> None:
        """End the motion at the client's wish."""
        self._end(Status.kPreempted)

    @property
    def current_motion_id(self) -> int:
        """0: none."""
        return 0 if self._motion is None else self._motion.id

    def _end(self, status: Status) -> None:
        motion, self._motion = self._motion, None
        if motion is None:
            return
        for rules in (motion.desired, motion.torque):
            for name, use in rules.use.items():
                self.use[name] = max(self.use.get(name, 0.0), use)
        self.arm.hold_here()
        if self.tcp_connected:
            answer_move(self._tcp_socket, motion.id, status)

    def _abort(self, error: str, status: Status) -> None:
        if error:
            self._errors = (error,)
            self._last_errors = (error,)
            self.reflexes.append(error)
        self.send_state()  # before the answer, as the client reads the errors from it
        self._end(status)
        self.arm.hold_here()

    def recover(self, command: Recovery) -> None:
        """Begin to clear the errors."""
        if self._held_in:
            command.reply(RecoveryStatus.kCommandRejectedDueToActivatedSafetyFunctions)
        else:
            self._recovering = command, round(RECOVERY * 1000)

    def _recover_on(self) -> None:
        if self._recovering is None:
            return
        command, left = self._recovering
        self._recovering = command, left - 1
        if left > 1:
            return
        self._recovering = None
        self._errors = ()
        self.send_state()
        command.reply(RecoveryStatus.kSuccess)

    # What franky-sim's server and messages ask for.

    def set_load(self, mass: float, center: tuple[float, ...], inertia: tuple[float, ...]) -> None:
        """Take a load that the client configured."""
        self._load = Load(mass, center, inertia)

    def set_EE_T_K(self, _: tuple[float, ...]) -> None:
        """Ignore a frame, which no motion here uses."""

    set_NE_T_EE = set_EE_T_K

    def _bind_children(self, hostname: str) -> None:
        self._hand = FrankaGripperServer(self.arm, hostname)
        self._hand.init()

    def _reset_state(self) -> None:
        """Forget the client. One that left a motion behind broke its conditions."""
        if self._motion is not None:
            self._motion = None
            self._abort(COMMUNICATION, Status.kReflexAborted)
        self._recovering = None
        self._sent = -1

    def cleanup(self) -> None:
        """Close all sockets."""
        if self._hand is not None:
            self._hand.reset_state()
            self._hand.cleanup()
            self._hand = None
        self.reset_state()
        super().cleanup()

    def send_state(self) -> None:
        """Send the state to the client, if there is one."""
        if self.udp_connected and not self.silent:
            super().send_state()
            self._sent += 1

    def _get_state_bytes(self) -> bytes:
        success_rate = sum(self._arrived) / _WINDOW if self._motion is not None else 0.0
        return state_message(
            self.arm,
            self._motion,
            mode=self.mode,
            success_rate=success_rate,
            errors=self._errors,
            last_errors=self._last_errors,
            load=self._load,
        )
