"""Decide when an observation is due, and say why there is none.

Pure: no ROS; the time of the host is an argument.
"""

from __future__ import annotations

from typing import Any

from gwm_core.joint_states import ahead
from gwm_core.sync import MS, Sync, SyncedObservation
from gwm_core.types import ArmState

MAX_AGE = 300 * MS  # [ns] an older observation yields no plan
EARLY = 20 * MS  # [ns] an observation may be taken so long before its period is over
# [ns] a larger change of the minimum age on arrival is a drift; 1 cm at 0.25 m/s
DRIFT = 40 * MS
WINDOW = 150  # images that the minimum age is taken over: ten seconds at 15 Hz


class ArrivalAge:
    """Detects a camera clock that drifts: the minimum age of images on arrival changes.

    Attributes:
        drift: change of that minimum since the first window [ns]; positive: images look older.
    """

    def __init__(self):
        self._reference: int | None = None  # [ns] minimum age in the first window
        self._minimum = 0  # [ns] in the current window
        self._count = 0
        self.drift = 0

    def note(self, age: int) -> None:
        """Take the age [ns] of an image on arrival."""
        self._minimum = age if self._count == 0 else min(self._minimum, age)
        self._count += 1
        if self._count == WINDOW:
            self._count = 0
            if self._reference is None:
                self._reference = self._minimum
            self.drift = self._minimum - self._reference


class Observations:
    """The newest complete observations, at most one per period.

    Args:
        cameras: names of all cameras.
        period: between observations [ns].
    """

    def __init__(self, cameras: tuple[str, ...], period: int):
        self._sync = Sync(cameras)
        self._period = period
        self._arrivals = {camera: ArrivalAge() for camera in cameras}
        self._last_taken = 0  # [ns] stamp
        self._fresh = 0  # observations since the last call of ``reason``
        self._refused = ""

    def joints(self, state: ArmState) -> None:
        """Take a joint state."""
        self._sync.joints(state)

    def joints_at(self, stamp: int) -> ArmState | None:
        """As ``Sync.joints_at``."""
        return self._sync.joints_at(stamp)

    def image(self, camera: str, kind: str, stamp: int, content: Any, now: int) -> str:
        """Take a "color" or "depth" image that arrived at ``now`` [ns].

        Returns "" or why it is refused.
        """
        if stamp <= 0:
            return "stamp: 0; the time of the exposure is wanted in the header"
        if reason := ahead("an image", stamp, now):
            return reason
        self._arrivals[camera].note(now - stamp)
        self._sync.image(camera, kind, stamp, content)
        return ""

    def take(self, now: int) -> SyncedObservation | None:
        """The newest observation, if it is complete, fresh and due at ``now`` [ns]."""
        observation = self._sync.latest()
        if observation is None:
            return None
        stamp = observation.stamp
        if now - stamp > MAX_AGE:
            self._refused = (
                f"age: images and joints were {(now - stamp) / MS:.0f} ms old, {MAX_AGE // MS} at"
                " most"
            )
            return None
        self._fresh += 1
        if stamp < self._last_taken:  # the clock was set back
            self._last_taken = 0
        if stamp - self._last_taken < self._period - EARLY:
            return None
        self._last_taken = stamp
        return observation

    def reason(self) -> str:
        """Why no observation was complete and fresh since the last call, or ""."""
        fresh, refused = self._fresh, self._refused
        self._fresh = 0
        self._refused = ""
        if fresh:
            return ""
        return refused or self._sync.reason() or "images: none came"

    def drift_reason(self, camera: str) -> str:
        """In words how a camera's clock drifts, or ""."""
        drift = self._arrivals[camera].drift
        if abs(drift) < DRIFT:
            return ""
        order = "older" if drift > 0 else "newer"
        return (
            f"drift: images arrive {abs(drift) / MS:.0f} ms {order} than at first, so they are"
            " paired with joints of another moment; is the camera's clock the host's"
            " (realsense-ros: global_time_enabled)?"
        )
