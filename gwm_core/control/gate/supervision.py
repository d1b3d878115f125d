"""How a person supervises the motion: modes, approval of chunks, and divergence scores.

auto         chunks are followed as they come
watch        the same, and the gate stops when the divergence score stays above 1
approve      each chunk waits for a person; only the approved one is followed, to its end
hold_to_run  chunks are followed while the operator holds the deadman button
shadow       chunks are checked and followed, and nothing is sent
"""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass

import numpy as np

from gwm_core.types import ActionChunk

MODES = ("auto", "watch", "approve", "hold_to_run", "shadow")
STOP_ON_DIVERGENCE = ("watch", "approve")
VALID = 3.0  # [s] from the click in the console until an approval expires
# [s] largest validity that is accepted: a message that was kept longer is not a person's decision
LONGEST_VALIDITY = 5.0


@dataclass(frozen=True)
class Approval:
    """A person's permission to follow one chunk, until it expires.

    It carries the time it expires at, not a duration: so a message that was kept stays as old as
    it is.
    """

    chunk_id: int  # [ns]
    sha256: str  # of the chunk's message
    expires: int  # [ns] host ROS time


@dataclass(frozen=True)
class PendingChunk:
    """The chunk that waits for a person."""

    chunk: ActionChunk
    sha256: str
    since: float  # [s]
    age: float  # [s] of its observation at that moment
    q: np.ndarray  # (7,) [rad] measured then

    def refuses(self, approval: Approval, left: float) -> str:
        """Why an approval valid for ``left`` more seconds does not count for this chunk, or ""."""
        if approval.chunk_id != self.chunk.stamp:
            return f"approval: of plan {approval.chunk_id}, but {self.chunk.stamp} waits"
        if not hmac.compare_digest(approval.sha256.encode(), self.sha256.encode()):
            return "approval: the hash is not that of the plan which waits"
        if not 0 < left <= LONGEST_VALIDITY:
            return f"approval: expires in {left:.1f} s; 0 to {LONGEST_VALIDITY:g} is valid"
        return ""


class DivergenceMonitor:
    """The newest divergence score, and for how long scores have been above the threshold of 1."""

    def __init__(self):
        self.score = 0.0
        self._since: float | None = None  # [s] of the first score above 1

    def update(self, score: float, now: float) -> float | None:
        """Take a score. Returns for how long [s] scores have been above 1; None: this one is not.

        NaN counts as above.
        """
        self.score = score if math.isfinite(score) else math.inf
        if self.score <= 1.0:
            self._since = None
            return None
        self._since = now if self._since is None else self._since
        return now - self._since
