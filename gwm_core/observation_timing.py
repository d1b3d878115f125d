"""When an observation is due, and why there is none. Pure: no ROS; the time of the host comes
in.
"""

from __future__ import annotations

from typing import Any

from gwm_core.joint_states import ahead
from gwm_core.sync import MS, Sync
from gwm_core.types import ArmState

MAX_AGE = 300 * MS  # [ns] an older observation yields no plan
EARLY = 20 * MS  # [ns] before its period is over that an observation is taken
# [ns] by which the least age on arrival must change for a drift; 1 cm at 0.25 m/s
DRIFTED = 40 * MS
WINDOW = 150  # images over which the least age is taken: ten seconds at 15 Hz


class ArrivalAge:
    """Whether a camera's clock drifts from the host's: the least age of its images on arrival
    should stay the same.
    """

    def __init__(self):
        self._least: int | None = None  # [ns] in the first window
        self._count, self._now = 0, 0
        # [ns] of the last whole window against the first; positive: images look older than they are
        self.drift = 0

    def note(self, age: int) -> None:
        """Take the age [ns] of an image on arrival."""
        self._now = age if self._count == 0 else min(self._now, age)
        self._count += 1
        if self._count == WINDOW:
            self._count = 0
            self._least = self._now if self._least is None else self._least
            self.drift = self._now - self._least


class Observations:
    """The newest whole moments, at most one a period.

    Args:
        cameras: names that must all be there.
        period: between observations [ns].
    """

    def __init__(self, cameras: tuple[str, ...], period: int):
        self._sync, self._period = Sync(cameras), period
        self._arrivals = {camera: ArrivalAge() for camera in cameras}
        self._asked, self._whole = 0, 0
        self._refused = ""

    def joints(self, state: ArmState) -> None:
        """Take a joint state."""
        self._sync.joints(state)

    def joints_at(self, stamp: int) -> ArmState | None:
        """Joints interpolated to ``stamp`` [ns]; None when it lies outside what was received."""
        return self._sync.joints_at(stamp)

    def image(self, camera: str, kind: str, stamp: int, content: Any, now: int) -> str:
        """Take a "color" or "depth" image that came at ``now`` [ns] of the host. Returns "" or why
        it is of no use.
        """
        if stamp <= 0:
            return "stamp: 0; the time of the exposure is wanted in the header"
        if reason := ahead("an image", stamp, now):
            return reason
        self._arrivals[camera].note(now - stamp)
        self._sync.image(camera, kind, stamp, content)
        return ""

    def take(self, now: int) -> tuple[int, dict[str, tuple[int, Any, Any]], ArmState] | None:
        """The newest moment as ``Sync.latest`` has it, if it is whole, fresh and due at ``now``
        [ns].
        """
        moment = self._sync.latest()
        if moment is None:
            return None
        stamp = moment[0]
        if now - stamp > MAX_AGE:
            self._refused = (
                f"age: images and joints were {(now - stamp) / MS:.0f} ms old, {MAX_AGE // MS} at"
                " most"
            )
            return None
        self._whole += 1
        if stamp < self._asked:  # the clock was set back
            self._asked = 0
        if stamp - self._asked < self._period - EARLY:
            return None
        self._asked = stamp
        return moment

    def why(self) -> str:
        """Why no moment was whole and fresh since the last call, or ""."""
        whole, refused = self._whole, self._refused
        self._whole, self._refused = 0, ""
        if whole:
            return ""
        return refused or self._sync.why() or "images: none came"

    def drifting(self, camera: str) -> str:
        """Whether a camera's clock drifts, or ""."""
        drift = self._arrivals[camera].drift
        if abs(drift) < DRIFTED:
            return ""
        way = "older" if drift > 0 else "newer"
        return (
            f"drift: images arrive {abs(drift) / MS:.0f} ms {way} than at first, so they are paired"
            " with joints of another moment; is the camera's clock the host's (realsense-ros:"
            " global_time_enabled)?"
        )
