"""The motion of the reference: along chunks, home, to rest, or reset; and the gripper's width."""

from __future__ import annotations

import numpy as np

from gwm_core.control.gate.config import GateConfig
from gwm_core.control.reference_follower import Follower, Reference
from gwm_core.control.targets import BlendTarget, ChunkTarget, MoveTarget, PostureTarget, Target
from gwm_core.types import OPEN_WIDTH, ActionChunk


class ReferenceMotion:
    """A follower, the target it follows and the width to command.

    Attributes:
        chunk_id: [ns] of the chunk that is followed, 0 = none.
        last_waypoint_at: [s] when the last waypoint of that chunk is due.
        width: [m] to command.
        reset_unsent: the reference was reset and has not been sent since.
    """

    def __init__(self, config: GateConfig, follower: Follower):
        self._config = config
        self.follower = follower
        self.target: Target = PostureTarget(np.zeros(7), OPEN_WIDTH)
        self.last_waypoint_at = np.inf
        self.chunk_id = 0
        self.width = OPEN_WIDTH
        self.reset_unsent = False
        self._width_measured = False

    @property
    def reference(self) -> Reference:
        """The state that the arm is sent."""
        return self.follower.reference

    def reset(self, q: np.ndarray, measured_width: float) -> None:
        """Set the reference at rest at ``q`` (7,) [rad].

        The first reset with a known ``measured_width`` [m] takes over the gripper as it is. Later
        the width stays as last commanded: a held object may be as wide as open fingers.
        """
        self.follower.reset(q)
        if not self._width_measured and np.isfinite(measured_width):
            self.width = OPEN_WIDTH if measured_width > self._config.open_above else 0.0
            self._width_measured = True
        self.reset_unsent = True
        self.chunk_id = 0

    def follow_chunk(self, chunk: ActionChunk, target: ChunkTarget, now: float, on: bool) -> None:
        """Blend into the target of ``chunk``: from the one before (``on``), or from rest."""
        before = self.target if on else PostureTarget(self.reference.q, self.width)
        self.target = BlendTarget(before, target, now, self._config.blend)
        self.last_waypoint_at = target.end - chunk.dt
        self.chunk_id = chunk.stamp

    def follow_move(self, move: MoveTarget) -> None:
        """Follow a move that belongs to no chunk."""
        self.target = move
        self.chunk_id = 0

    def step(self, now: float) -> Reference:
        """Move for one period along the target."""
        goal = self.target.at(now + self.follower.dt)
        self._command_width(goal.width)
        return self.follower.step(goal.q, goal.dq, goal.ddq)

    def stop(self) -> Reference:
        """Move for one period towards rest, or stay there."""
        return self.follower.stop()

    def arrived(self, now: float) -> bool:
        """Whether the target has ended and the reference is at rest."""
        return now > self.target.end and self.follower.at_rest

    def _command_width(self, requested: float) -> None:
        if requested < self._config.close_below:
            self.width = 0.0
        elif requested > self._config.open_above:
            self.width = OPEN_WIDTH
