"""What the page draws of the robot: its joints, its gripper, and the chunk in every camera image.

Messages are kept as received and read when a page asks, ten times a second at most.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, JointState
from trajectory_msgs.msg import JointTrajectory

from gwm.ros import messages
from gwm.ros.node import RELIABLE, SENSOR
from gwm_core import topics
from gwm_core.geometry.camera_info import CameraModel, read_camera_info
from gwm_core.geometry.kinematics import fk, tcp_speed
from gwm_core.geometry.plan_lines import gripper_outline, in_words, project
from gwm_core.joint_states import ArmReader
from gwm_core.site import Site
from gwm_core.types import ActionChunk, ArmState

MAX_CHUNKS = 256  # kept: one may wait for 20 s, while about five come in a second
JOINT_TIMEOUT = 1.0  # [s] beyond which joints are no longer the present
DECIMALS = 4  # of fractions of an image


class RobotView:
    """Subscribes to joints, chunks and camera models, and keeps the newest of each.

    Args:
        guarded: wraps a topic's callback so that an unreadable message does no harm.
    """

    def __init__(self, node: Node, site: Site, guarded: Callable[[str, Callable], Callable]):
        self._node = node
        self._site = site
        self._guarded = guarded
        # topic -> when its newest message came [s], and the message
        self._contents: dict[str, tuple[float, bytes]] = {}
        self._models: dict[str, CameraModel] = {}
        self._chunks: OrderedDict[str, ActionChunk] = OrderedDict()  # by id
        self._subscriptions = []  # while a page is open
        # Chunks are small. A page that opens later needs the one that waits.
        node.create_subscription(
            JointTrajectory, topics.CHUNK, guarded(topics.CHUNK, self._on_chunk), RELIABLE
        )

    def watch(self, wanted: bool) -> None:
        """Subscribe to joints and camera models, or unsubscribe."""
        if wanted and not self._subscriptions:
            self._subscribe(JointState, topics.JOINT_STATES)
            self._subscribe(JointState, topics.GRIPPER_STATES)
            for name, camera in self._site.cameras.items():
                self._subscribe(CameraInfo, topics.info(camera.prefix), self._on_info(name))
        elif not wanted and self._subscriptions:
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)
            self._subscriptions = []
            self._contents = {}
            self._models = {}

    def _subscribe(self, kind: type, topic: str, take: Callable | None = None) -> None:
        def keep(content: bytes) -> None:
            self._contents[topic] = time.monotonic(), content

        self._subscriptions.append(
            self._node.create_subscription(
                kind, topic, self._guarded(topic, take or keep), SENSOR, raw=True
            )
        )

    def _on_info(self, camera: str) -> Callable[[bytes], None]:
        def take(content: bytes) -> None:
            if camera not in self._models:  # it is the same in every message
                self._models[camera] = read_camera_info(deserialize_message(content, CameraInfo))

        return take

    def _on_chunk(self, message) -> None:
        chunk = messages.chunk_of(message)
        if chunk is None:
            raise ValueError("no chunk of evenly spaced waypoints")
        self._chunks[str(chunk.stamp)] = chunk
        while len(self._chunks) > MAX_CHUNKS:
            self._chunks.popitem(last=False)

    def values(self, chunk_ids: tuple[str, ...]) -> dict:
        """Return what the page draws: "arm", and "plan", the first known one of ``chunk_ids``.

        Both are empty without joints of the last ``JOINT_TIMEOUT``. Raises ValueError for a
        message that cannot be read.
        """
        try:
            state = self._state()
        except RuntimeError as error:  # of the middleware, for bytes that are no such message
            raise ValueError(f"{topics.JOINT_STATES}: {error}") from None
        if state is None:
            return {"arm": {}, "plan": {}}
        chunk = next(filter(None, map(self._chunks.get, chunk_ids)), None)
        return {"arm": self._arm(state), "plan": self._plan(chunk, state) if chunk else {}}

    def _state(self) -> ArmState | None:
        """Return the newest joints with the newest opening; None for old or unusable ones."""
        reader = ArmReader()
        if gripper := self._newest(topics.GRIPPER_STATES):
            reader.gripper(deserialize_message(gripper, JointState))
        joints = self._newest(topics.JOINT_STATES)
        return reader.joints(deserialize_message(joints, JointState))[0] if joints else None

    def _newest(self, topic: str) -> bytes:
        """Return the newest message of a topic; empty for one older than ``JOINT_TIMEOUT``."""
        at, content = self._contents.get(topic, (-math.inf, b""))
        return content if time.monotonic() - at <= JOINT_TIMEOUT else b""

    def _arm(self, state: ArmState) -> dict:
        low, high = self._site.limits.q_low, self._site.limits.q_high
        width = None if np.isnan(state.width) else round(1e3 * state.width, 1)
        return {
            "joints_deg": np.rad2deg(state.q).round(1).tolist(),
            "low_deg": np.rad2deg(low).round(1).tolist(),
            "high_deg": np.rad2deg(high).round(1).tolist(),
            "width_mm": width,
            "speed": round(float(tcp_speed(state.q, state.dq)), 3),  # [m/s] of the TCP
        }

    def _plan(self, chunk: ActionChunk, state: ArmState) -> dict:
        T = fk(np.concatenate([state.q[None], chunk.q]))
        width = np.append(np.nan_to_num(state.width, nan=chunk.width[0]), chunk.width)
        ghosts = [
            gripper_outline(T[step], width[step]) for step in topics.LOOKAHEADS if step < len(T)
        ]
        views = {}
        for name, camera in self._site.cameras.items():
            model = self._models.get(name)
            if model is None or not model.width:
                continue
            view = (model.K, camera.pose_at(state), (model.width, model.height))
            views[name] = {
                "path": _fractions(project(T[:, :3, 3], *view)),
                "ghosts": [_fractions(project(ghost, *view)) for ghost in ghosts],
            }
        return {"id": str(chunk.stamp), "words": in_words(T, width), "views": views}


def _fractions(points: np.ndarray) -> list[list[float] | None]:
    """Points (N, 2) for JSON; None for one behind the camera."""
    return [
        point if np.isfinite(point).all() else None for point in points.round(DECIMALS).tolist()
    ]
