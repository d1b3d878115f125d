"""The configuration of a run: every argument of ``gwm up`` and of the launch files, declared once.

Standard library only: ``ros2 launch`` may run under a Python that has none of our packages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# What gwm.hardware.arm_adapters supports, and the controllers' names in launch/controllers.yaml.
CONTROLLERS = {
    "crisp": "joint_impedance_controller",
    "crisp_pose": "cartesian_impedance_controller",
    "jtc": "fr3_arm_controller",
    "forward": "forward_position_controller",
    "fci": "",  # none of ros2_control
}
ROBOTS = ("sim", "fr3", "panda")  # the second on as gwm_core.topics.ROBOTS
TASKS = ("lift", "pick_place", "stack")  # of the simulation, gwm_core.sim.tasks
MODES = ("policy", "teleop", "shared")
DEVICES = ("spacemouse", "gamepad", "keyboard", "leader")  # gwm_core.control.devices
# gwm_core.control.gate.supervision
SUPERVISION = ("auto", "watch", "approve", "hold_to_run", "shadow")
PROFILES = ("desk", "lab", "full")  # gwm_core.geometry.limits
GRIPPERS = ("auto", "forward", "franka", "action")
RUNTIMES = (
    "auto",
    "tensorrt",
    "openvino",
    "onnxruntime",
    "torch",
)  # gwm_core.runtime.graphs.backends
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
MAX_CANDIDATES = 64  # gwm_core.runtime.best_of_plans
RENDERERS = ("auto", "egl", "osmesa", "raycast")


def _argument(default, text: str, choices: Iterable[str] = (), path: bool = False):
    """A field with its help text, its valid values (empty: any), and whether it is a path."""
    details = {"help": text, "choices": tuple(choices), "path": path}
    return field(default=default, metadata=details)


@dataclass(frozen=True)
class GraphConfig:
    """The configuration of one run. Its fields are the arguments of both starters."""

    robot: str = _argument(
        "sim", "sim, fr3 or panda. Only sim arms itself; a robot needs its drivers' topics.", ROBOTS
    )
    task: str = _argument(
        "pick_place",
        "lift, pick_place or stack, or another task the policy was trained on; with mode:=teleop"
        " also one of the site file.",
    )
    policy: str = _argument(
        "",
        "folder of a trained policy, contract of a policy server or its ws:// address, or expert"
        " (simulation only). Empty: the shipped demo weights.",
        path=True,
    )
    site: str = _argument(
        "",
        "file with cameras and workspace. Empty: ~/.config/gwm/site.yaml, or the simulation's own.",
        path=True,
    )
    record: str = _argument("runs", "folder the recorder writes episodes to.", path=True)
    episodes: int = _argument(
        0, "how many episodes are to be recorded, which the operator's page counts; 0: no goal."
    )
    operator: str = _argument(
        "", "name of the person who teaches or evaluates; stored in the episodes."
    )
    profile: str = _argument(
        "",
        "desk (0.25 m/s), lab or full: how much of the arm's limits the gate uses, at most the site"
        " file's profile. Empty: the site file's, or desk.",
        ("", *PROFILES),
    )
    speed: float = _argument(1.0, "fraction of the profile's speeds, above 0 to 1.")
    supervision: str = _argument(
        "auto",
        "auto; watch (the gate stops when observations diverge from predictions; needs a policy"
        " that predicts); approve (each chunk waits for a person); hold_to_run (the arm moves"
        " only while messages arrive on operator/heartbeat); shadow (everything but sending).",
        SUPERVISION,
    )
    shadow: bool = _argument(False, "short for supervision:=shadow.")
    hold_to_run: bool = _argument(False, "short for supervision:=hold_to_run.")
    renderer: str = _argument("auto", "auto, egl, osmesa or raycast.", RENDERERS)
    camera_width: int = _argument(
        424, "of the images [pixels], of simulated cameras and of those of start_cameras."
    )
    camera_height: int = _argument(240, "as camera_width.")
    camera_hz: float = _argument(15.0, "rate of the same cameras [Hz].")
    publish_objects: bool = _argument(
        False, "let the simulation publish where its objects are (the scripted expert needs it)."
    )
    start_cameras: bool = _argument(
        False,
        "drive the RealSense cameras with a serial in the site file; otherwise start"
        " realsense-ros.",
    )
    controller: str = _argument(
        "crisp",
        "controller of the arm: crisp, crisp_pose, jtc, fci (no ROS drivers; needs gwm[fci]), or"
        " forward (simulated arms only).",
        CONTROLLERS,
    )
    gripper: str = _argument(
        "auto",
        "franka, action (control_msgs) or forward; auto: forward in simulation, else what is"
        " installed.",
        GRIPPERS,
    )
    mode: str = _argument(
        "policy",
        "who plans (not how the gate supervises, see supervision): policy, teleop (an operator) or"
        " shared (a policy, and an operator who may take"
        " over).",
        MODES,
    )
    device: str = _argument(
        "gamepad",
        "device of the operator: spacemouse, gamepad, keyboard (gwm teleop) or leader.",
        DEVICES,
    )
    backend: str = _argument(
        "auto",
        "runtime of the policy: tensorrt, openvino, onnxruntime or torch; auto: the fastest that"
        " works here.",
        RUNTIMES,
    )
    precision: str = _argument(
        "auto",
        "precision of the runtime: fp32, bf16 or fp16; auto: fp16 for tensorrt, else fp32.",
        PRECISIONS,
    )
    candidates: int = _argument(
        1,
        "plans of each observation, of which the one with the largest predicted value is sent, as"
        " far as the time allows; more than 1 need a policy that predicts.",
    )
    imagination: bool = _argument(
        True, "show the predicted outcome of chunks, where the policy predicts."
    )
    console: int = _argument(
        8600,
        "port of the operator's page (else the next free one), whose address is printed; 0: no"
        " page.",
    )
    viewer: bool = _argument(True, "the 3D scene on that page.")
    console_host: str = _argument(
        "127.0.0.1", "address of that page; another than this machine's own needs TLS."
    )
    console_certificate: str = _argument("", "certificate for TLS (PEM file).", path=True)
    console_key: str = _argument("", "key for TLS (PEM file).", path=True)
