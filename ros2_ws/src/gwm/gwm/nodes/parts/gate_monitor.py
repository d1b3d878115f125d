"""The figures of the gate's process, and the status that is made of them. Without ROS."""

from __future__ import annotations

from collections import deque

import numpy as np

from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.control.loop_timing import PeriodMonitor
from gwm_core.gate_status import GateStatus, WaitingChunk
from gwm_core.reasons import Reasons

HEARTBEAT_PERIOD = 0.02  # [s] of the policy
JOINT_PERIOD = 0.01  # [s] of the joint states


class GateMonitor:
    """Measures the loop, its inputs and the latency.

    Attributes:
        loop, heartbeats, joints: periods of the gate's loop, the policy's heartbeats and the joint
            states.
    """

    def __init__(self, config: GateConfig):
        self.loop = PeriodMonitor(1.0 / config.rate_hz)
        self.heartbeats = PeriodMonitor(HEARTBEAT_PERIOD, config.alive_timeout)
        self.joints = PeriodMonitor(JOINT_PERIOD, config.state_timeout)
        self._step_ms = deque([0.0], maxlen=1000)  # of the periods of the last ten seconds
        self._chunk_id = 0  # [ns] of the chunk that is followed
        self._latency_ms = 0.0
        self._answer = ""  # to the last approval or change of mode
        self._answered = 0  # how many there were

    def worked(self, seconds: float) -> None:
        """Note the work of a period."""
        self._step_ms.append(1e3 * seconds)

    def sent(self, chunk_id: int, stamp: int) -> None:
        """Note the chunk that the command sent at ``stamp`` [ns] follows."""
        if chunk_id not in (0, self._chunk_id):
            self._latency_ms = (stamp - chunk_id) * 1e-6
        self._chunk_id = chunk_id

    def answer(self, answer: str) -> None:
        """Note the answer to an approval or a change of mode; "" = done."""
        self._answer = answer
        self._answered += 1

    def status(
        self, gate: Gate, now: float, sent: int, reasons: Reasons, trouble: str
    ) -> GateStatus:
        """The gate's status.

        Args:
            now: [s] on the gate's clock.
            sent: number of commands to the arm.
            reasons: why messages could not be read.
            trouble: of the robot and the gripper.
        """
        return GateStatus(
            state=gate.state,
            cause=gate.cause,
            armed=gate.armed,
            chunk_id=str(self._chunk_id),
            mode=gate.mode,
            divergence=gate.divergence.score,
            answer=self._answer,
            answered=self._answered,
            waiting=_waiting_chunk(gate, now),
            latency_ms=self._latency_ms,
            sent=sent,
            rate_hz=self.loop.rate_hz,
            periods=self.loop.periods,
            late=self.loop.late,
            longest_ms=1e3 * self.loop.longest,
            step_ms_p99=float(np.percentile(self._step_ms, 99)),
            joints_hz=self.joints.rate_hz,
            joints_late=self.joints.late,
            joints_longest_ms=1e3 * self.joints.longest,
            heartbeats_late=self.heartbeats.late,
            heartbeats_longest_ms=1e3 * self.heartbeats.longest,
            accepted=gate.counts.accepted,
            refused={**reasons.counts, **gate.counts.refused},
            reasons=dict(reasons.current),
            trouble=trouble,
            stops=dict(gate.counts.stops),
        )


def _waiting_chunk(gate: Gate, now: float) -> WaitingChunk | None:
    pending = gate.waiting
    if pending is None:
        return None
    left = gate.config.approval_time - (now - pending.since)
    return WaitingChunk(str(pending.chunk.stamp), pending.sha256, left)
