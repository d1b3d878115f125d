"""The phases the gate works with: finer than the states it publishes."""

from __future__ import annotations

from enum import Enum, auto

from gwm_core.gate_status import State


class Phase(Enum):
    """What the gate is doing.

    In the phases after a gap the gate itself was late. The joint states from before the gap are
    too old, so nothing is sent until new ones tell where the arm is.
    """

    DISARMED = auto()
    HOLD = auto()
    RUNNING = auto()
    SHADOW = auto()
    HOMING = auto()  # moves to the home posture, then HOLD
    STOPPING = auto()  # ramps to rest, then HOLD
    DISARMING = auto()  # ramps to rest, then DISARMED
    FAULT = auto()
    HOLD_AFTER_GAP = auto()
    DISARMING_AFTER_GAP = auto()  # stopped by the operator while it waits for joint states
    DISARMED_AFTER_GAP = auto()
    FAULT_AFTER_GAP = auto()

    @property
    def state(self) -> State:
        """The state that is published for this phase."""
        return _PUBLISHED[self] if self in _PUBLISHED else State[self.name]

    @property
    def after_gap(self) -> bool:
        """Whether the gate waits for joint states after a gap."""
        return self in _AFTER_GAP

    @property
    def after_reset(self) -> Phase:
        """The phase once the reference has been reset.

        A reset of the reference ends the wait for joint states, and a move home.
        """
        return Phase.RUNNING if self is Phase.HOMING else _AFTER_GAP.get(self, self)

    @property
    def faulted(self) -> Phase:
        """The phase that a fault leads to."""
        return Phase.FAULT_AFTER_GAP if self.after_gap else Phase.FAULT


_PUBLISHED = {
    Phase.HOMING: State.RUNNING,
    Phase.DISARMING: State.STOPPING,
    Phase.HOLD_AFTER_GAP: State.HOLD,
    Phase.DISARMING_AFTER_GAP: State.STOPPING,
    Phase.DISARMED_AFTER_GAP: State.DISARMED,
    Phase.FAULT_AFTER_GAP: State.FAULT,
}
_AFTER_GAP = {
    Phase.HOLD_AFTER_GAP: Phase.HOLD,
    Phase.DISARMING_AFTER_GAP: Phase.DISARMING,
    Phase.DISARMED_AFTER_GAP: Phase.DISARMED,
    Phase.FAULT_AFTER_GAP: Phase.FAULT,
}
MOVING = (State.RUNNING, State.SHADOW)


class FinalCommand(Enum):
    """Where the arm rests after a fault: the one command that is still sent."""

    AT_MEASURED = auto()  # at the measured joints, where they can be trusted
    AT_REFERENCE = auto()  # where it was last sent: the joint states may be another arm's
