"""When the policy and the operator's deadman button were last heard."""

from __future__ import annotations

import numpy as np

from gwm_core.control.gate.config import GateConfig


class LifeSigns:
    """Times [s] on the gate's monotonic clock; -inf = never heard."""

    def __init__(self, config: GateConfig):
        self._config = config
        self._policy_at = -np.inf
        self._policy_chunk = 0  # [ns] id of its last chunk
        self._deadman_at = -np.inf

    def receive_policy_heartbeat(self, last_chunk: int, now: float) -> bool:
        """Take a heartbeat of the policy. Returns whether the policy was restarted before it.

        It was restarted when the id of its last chunk went back, or when it counted as dead.
        """
        heard_before = bool(np.isfinite(self._policy_at))
        restarted = heard_before and (last_chunk < self._policy_chunk or self.policy_dead(now))
        self._policy_chunk = last_chunk
        self._policy_at = now
        return restarted

    def receive_deadman(self, now: float) -> None:
        """Take a message that the operator holds the button."""
        self._deadman_at = now

    def policy_silent(self, now: float) -> bool:
        """Whether the policy has missed its heartbeats."""
        return now - self._policy_at > self._config.alive_timeout

    def policy_dead(self, now: float) -> bool:
        """Whether a policy that was heard has been silent for so long that it counts as dead."""
        silent_for = now - self._policy_at
        return bool(np.isfinite(self._policy_at)) and silent_for > self._config.dead_after

    def deadman_released(self, mode: str, now: float) -> bool:
        """Whether ``mode`` demands the button and nobody holds it."""
        return mode == "hold_to_run" and now - self._deadman_at > self._config.heartbeat_timeout
