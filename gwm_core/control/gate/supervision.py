"""How a person watches over the motion: the modes, the plan that waits for approval, and surprise
at what is seen.

auto         plans are followed as they come
watch        the same, and the gate holds when what is seen leaves what was imagined
approve      each plan waits for a person; only the one approved is followed, to its end
hold_to_run  plans are followed while the operator holds the button
shadow       plans are judged and nothing is sent
"""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass

import numpy as np

from gwm_core.types import ActionChunk

MODES = ("auto", "watch", "approve", "hold_to_run", "shadow")
STOP_ON_DIVERGENCE = ("watch", "approve")
VALID = 3.0  # [s] the console has an approval be, from the click on
# [s] an approval may be valid for: a message that was kept longer is not a person's wish now
LONGEST_VALIDITY = 5.0


@dataclass(frozen=True)
class Approval:
    """What a person allows: one plan, by id and hash, for a while."""

    plan: int  # [ns] id
    sha256: str  # of the plan's message
    expires: int  # [ns] host ROS time


@dataclass(frozen=True)
class PendingChunk:
    """The plan that waits for a person."""

    chunk: ActionChunk
    sha256: str
    since: float  # [s]
    age: float  # [s] of its observation at that moment
    q: np.ndarray  # (7,) [rad] measured then

    def refuses(self, approval: Approval, left: float) -> str:
        """Why an approval that is valid for ``left`` more seconds is not one of this plan, or
        "".
        """
        if approval.plan != self.chunk.stamp:
            return f"approval: of plan {approval.plan}, but {self.chunk.stamp} waits"
        if not hmac.compare_digest(approval.sha256.encode(), self.sha256.encode()):
            return "approval: the hash is not that of the plan which waits"
        if not 0 < left <= LONGEST_VALIDITY:
            return f"approval: expires in {left:.1f} s; 0 to {LONGEST_VALIDITY:g} is valid"
        return ""


class DivergenceMonitor:
    """How long scores of divergence have been above 1, the most that is normal."""

    def __init__(self):
        self.score = 0.0
        self._since: float | None = None  # [s] the first score above

    def update(self, score: float, now: float) -> float | None:
        """Take a score; for how long [s] all have been above, None: this one is not. NaN counts as
        above.
        """
        self.score = score if math.isfinite(score) else math.inf
        if self.score <= 1.0:
            self._since = None
            return None
        self._since = now if self._since is None else self._since
        return now - self._since
