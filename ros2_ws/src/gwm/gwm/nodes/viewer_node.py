"""The 3D scene: observed and predicted Gaussians, with the arm now and at the end of the chunk.

It accepts no input. The console relays it behind its own token; docs/console.md says why it has no
controls.
"""

from __future__ import annotations

import io
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
import viser
import yourdfpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.subscription import Subscription
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState, PointCloud2
from trajectory_msgs.msg import JointTrajectory
from viser.extras import ViserUrdf

from gwm.graph.environment import resource
from gwm.ros import messages, scene_messages
from gwm.ros.node import NEWEST, RELIABLE, SENSOR, STEADY, declare, now_ns, spin
from gwm_core import topics
from gwm_core.joint_states import ArmReader
from gwm_core.reasons import Reasons
from gwm_core.scene.gaussians import COLORS, MEANS, OPACITY, QUATS, SCALES

FUTURE_ARM_COLOR = (0.3, 0.6, 1.0, 0.35)
FUTURE_OPACITY = 0.4
MAX_GAUSSIANS = 20_000  # shown
PERIOD = 0.1  # [s]


@dataclass(frozen=True)
class ViewerParameters:
    """Parameters of the node."""

    port: int = 8700


class ViewerNode(Node):
    """Shows the newest scenes and arms ten times a second, while a page is open."""

    def __init__(self):
        super().__init__("viewer")
        with redirect_stdout(io.StringIO()):  # nobody needs its address: the console relays it
            self._server = viser.ViserServer(
                host="127.0.0.1", port=declare(self, ViewerParameters).port
            )
        self._server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        self._server.scene.set_up_direction("+z")
        self._server.scene.add_grid(
            "/table", width=1.2, height=1.2, position=(0.5, 0.0, 0.0), cell_size=0.1
        )
        self._server.initial_camera.position, self._server.initial_camera.look_at = (
            (1.4, 0.8, 0.8),
            (0.45, 0.0, 0.2),
        )
        self._arms = {
            "/arm": _arm(self._server, "/arm", None),
            "/arm_to_come": _arm(self._server, "/arm_to_come", FUTURE_ARM_COLOR),
        }
        self._pending: dict[str, np.ndarray] = {}  # not shown yet, by name in the scene
        self._splats: dict[str, viser.GaussianSplatHandle] = {}
        self._arm, self._reasons = ArmReader(), Reasons(self.get_logger().warn)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        self.create_subscription(JointTrajectory, topics.CHUNK, self._on_chunk, NEWEST)
        self.create_subscription(PointCloud2, topics.SCENE, self._scene("/seen"), NEWEST)
        self.create_subscription(
            PointCloud2, topics.IMAGINED_SCENE, self._scene("/imagined"), NEWEST
        )
        self._joints: list[Subscription] = []  # while a page is open
        self.create_timer(PERIOD, self._show, clock=STEADY)
        self.create_timer(1.0, self._report, clock=STEADY)

    def _follow_joints(self, on: bool) -> None:
        """Receive the arm's joints, which come most often, or no longer."""
        for subscription in self._joints:
            self.destroy_subscription(subscription)
        self._joints = []
        if on:
            self._joints = [
                self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, SENSOR),
                self.create_subscription(
                    JointState, topics.GRIPPER_STATES, self._on_gripper, SENSOR
                ),
            ]

    def _on_joints(self, message) -> None:
        state, reason = self._arm.joints(message, velocity=False)
        self._reasons.note("joint states", reason, time.monotonic())
        # Where its opening is unknown, the gripper is shown closed.
        if state is not None:
            self._pending["/arm"] = np.append(state.q, np.nan_to_num(state.width) / 2)

    def _on_gripper(self, message) -> None:
        self._reasons.note("gripper", self._arm.gripper(message), time.monotonic())

    def _on_chunk(self, message) -> None:
        chunk = messages.chunk_of(message)
        if chunk is not None and np.isfinite(chunk.q).all():
            last = min(topics.LOOKAHEADS[-1], len(chunk.q)) - 1
            self._pending["/arm_to_come"] = np.append(chunk.q[last], chunk.width[last] / 2)

    def _scene(self, name: str):
        def take(message):
            try:
                self._pending[name] = scene_messages.gaussians_of(message)[:MAX_GAUSSIANS]
            except ValueError as error:
                self.get_logger().error(f"{name} refused: {error}", throttle_duration_sec=2.0)

        return take

    def _show(self) -> None:
        is_open = bool(self._server.get_clients())
        if is_open != bool(self._joints):
            self._follow_joints(is_open)
        if not is_open:
            return
        with self._server.atomic():
            for name, values in self._pending.items():
                if name in self._arms:
                    self._arms[name].update_cfg(values)
                else:
                    self._draw(name, values)
        self._pending = {}

    def _draw(self, name: str, gaussians: np.ndarray) -> None:
        opacity = FUTURE_OPACITY if name == "/imagined" else 1.0
        splats = {
            "centers": gaussians[:, MEANS],
            "covariances": covariances(gaussians),
            "rgbs": gaussians[:, COLORS].clip(0, 1),
            "opacities": opacity * gaussians[:, OPACITY : OPACITY + 1],
        }
        if name in self._splats:
            self._splats[name].set_gaussians(**splats)
        else:
            self._splats[name] = self._server.scene.add_gaussian_splats(name, **splats)

    def _report(self) -> None:
        values = {"port": self._server.get_port(), "clients": len(self._server.get_clients())}
        values |= self._reasons.values()
        self._diagnostics.publish(messages.diagnostics(now_ns(self), "viewer", "showing", values))

    def close(self) -> None:
        """End the server."""
        with redirect_stdout(io.StringIO()):
            self._server.stop()


def covariances(gaussians: np.ndarray) -> np.ndarray:
    """Return covariance matrices (N, 3, 3) [m^2] of Gaussians (N, 14)."""
    axes = (
        Rotation.from_quat(gaussians[:, QUATS], scalar_first=True).as_matrix()
        * gaussians[:, None, SCALES]
    )
    return axes @ axes.transpose(0, 2, 1)


def _arm(server: viser.ViserServer, name: str, color: tuple | None) -> ViserUrdf:
    """Add the arm of our URDF."""
    urdf = yourdfpy.URDF.load(str(resource("urdf/fr3.urdf")))
    return ViserUrdf(server, urdf, root_node_name=name, mesh_color_override=color)


def main() -> int:
    """Entry point."""
    return spin(ViewerNode)


if __name__ == "__main__":
    sys.exit(main())
