"""The one list of our processes. ``gwm up`` and ``ros2 launch gwm bringup.launch.py`` start exactly this.

Standard library only: ``ros2 launch`` may run under a Python that has none of our packages.
"""

from __future__ import annotations

import ctypes
import importlib.util
import inspect
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]  # of the repository, when run from it
if importlib.util.find_spec("gwm_core") is None:  # under ROS's own Python, which has none of our packages
    sys.path.append(str(ROOT))

from gwm_core.errors import InputError, one_of  # noqa: E402

VENV = ROOT / ".venv"
CONTROLLERS = {  # what gwm.arm can speak to, and the controllers' names in launch/controllers.yaml
    "crisp": "joint_impedance_controller",
    "crisp_pose": "cartesian_impedance_controller",
    "jtc": "fr3_arm_controller",
    "forward": "forward_position_controller",
}
DEVICES = ("spacemouse", "gamepad", "keyboard", "leader")  # gwm_core.control.devices
MODES = ("policy", "teleop", "shared")
SUPERVISION = ("auto", "watch", "approve", "hold_to_run", "shadow")  # gwm_core.control.supervision
RUNTIMES = ("auto", "tensorrt", "openvino", "onnxruntime", "torch")  # gwm_core.deploy.runtimes
PROFILES = ("desk", "lab", "full")  # gwm_core.control.limits
GRIPPERS = ("auto", "forward", "franka", "action")
END_WITH_PARENT = "GWM_END_WITH_PARENT"  # set for processes that a starter looks after


@dataclass(frozen=True)
class NodeSpec:
    """One process: ``python -m gwm.<module>`` with parameters."""

    name: str
    module: str
    parameters: dict[str, object] = field(default_factory=dict)
    nice: int = 0
    respawn: bool = False
    remaps: dict[str, str] = field(default_factory=dict)
    essential: bool = False  # its death ends the graph
    environment: dict[str, str] = field(default_factory=dict)  # besides that of every process


def share(name: str) -> Path:
    """A file or folder of launch/, urdf/ or models/: in the repository, else where the package was installed."""
    for base in (ROOT, *Path(__file__).resolve().parents):
        for place in (base / name, base / "share" / "gwm" / name):
            if place.exists():
                return place
    raise InputError(f"{name} is neither in {ROOT} nor in the installed package's share folder")


def interpreter() -> str:
    """The Python that has our packages: the environment that ./gwm made, else this one."""
    return str(VENV / "bin" / "python") if (VENV / "gwm-complete").exists() else sys.executable


def environment(local_only: bool = True) -> dict[str, str]:
    """Variables for every process: discovery on this machine alone, images by shared memory, one thread each."""
    values = {
        **_profile("fastdds.xml"),
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "PYTHONUNBUFFERED": "1",
        END_WITH_PARENT: "1",
    }
    if local_only:
        values["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        values[name] = "1"  # two cores for five processes: more threads only wait for one another
    return values


def _profile(name: str) -> dict[str, str]:
    return {"FASTRTPS_DEFAULT_PROFILES_FILE": str(share(f"launch/{name}"))}


def end_with_parent() -> None:
    """Have the kernel send SIGINT when the starter dies, so that one that is killed leaves nothing running."""
    if os.environ.get(END_WITH_PARENT):
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG, linux/prctl.h


def graph(
    robot: str = "sim",
    task: str = "pick_place",
    policy: str = "",
    site: str = "",
    record: str = "runs",
    operator: str = "",
    profile: str = "",
    speed: float = 1.0,
    supervision: str = "auto",
    shadow: bool = False,
    hold_to_run: bool = False,
    renderer: str = "auto",
    camera_width: int = 424,
    camera_height: int = 240,
    camera_hz: float = 15.0,
    publish_objects: bool = False,
    start_cameras: bool = False,
    controller: str = "crisp",
    gripper: str = "auto",
    mode: str = "policy",
    device: str = "gamepad",
    backend: str = "auto",
    precision: str = "auto",
    imagination: bool = True,
    console: int = 8600,
    viewer: bool = True,
    console_host: str = "127.0.0.1",
    console_certificate: str = "",
    console_key: str = "",
) -> list[NodeSpec]:
    """All processes, in starting order. The signature is the argument list of both starters.

    Args:
        robot: sim or fr3. Only sim may arm itself; fr3 expects the drivers' topics.
        task: lift, pick_place or stack, or any the policy was trained on.
        policy: folder of a trained policy, or expert (simulation only). Empty: the shipped demo weights.
        site: file with cameras and workspace. Empty: ~/.config/gwm/site.yaml, or the simulation's own.
        record: folder the recorder writes episodes to when asked.
        operator: who teaches or evaluates, for the episodes' files.
        profile: desk (0.25 m/s), lab or full: how much of the arm's limits the gate uses, never more than the site
            file's profile. Empty: the site file's, or desk.
        speed: share of the profile's speeds, above 0 to 1.
        supervision: auto; watch (the gate holds when what is seen leaves what was imagined); approve (each plan waits
            for a person); hold_to_run (only while operator/heartbeat beats); shadow (everything but sending).
        shadow, hold_to_run: short for supervision:=shadow and supervision:=hold_to_run.
        renderer: auto, egl, osmesa or raycast.
        camera_width, camera_height, camera_hz: of the simulated cameras, or of those that are started.
        publish_objects: let the simulation tell where its objects are (the scripted expert needs it).
        controller: that moves the arm: crisp, crisp_pose, jtc, or forward (simulated arms alone).
        gripper: franka, action (control_msgs) or forward; auto: forward in simulation, else what is installed.
        mode: who plans: policy, teleop (an operator) or shared (a policy, and an operator who may take over).
        device: of the operator: spacemouse, gamepad, keyboard (gwm teleop) or leader.
        backend: runtime of the policy: tensorrt, openvino, onnxruntime or torch; auto: the fastest that works here.
        precision: of the runtime: fp32, bf16 or fp16; auto: fp16 for tensorrt, else fp32.
        imagination: show what plans will lead to, where the policy's folder has a world model.
        console: port of the operator's page (the next free one where it is taken), whose address is printed; 0: none.
        viewer: the 3D scene on that page.
        console_host, console_certificate, console_key: another address than this machine's own, with TLS alone (PEM).
        start_cameras: drive the RealSense cameras that have a serial in the site file; else realsense-ros does.
    """
    one_of("robot", robot, ("sim", "fr3"))
    one_of("controller", controller, CONTROLLERS)
    one_of("mode", mode, MODES)
    one_of("supervision", supervision, SUPERVISION)
    one_of("device", device, DEVICES)
    one_of("gripper", gripper, GRIPPERS)
    one_of("backend", backend, RUNTIMES)
    one_of("precision", precision, ("auto", "fp32", "bf16", "fp16"))
    if controller == "forward" and robot != "sim":
        raise InputError(
            "forward is for simulated arms (100 Hz steps break the real one's conditions): crisp, crisp_pose or jtc"
        )
    one_of("profile", profile, ("", *PROFILES))
    one_of("renderer", renderer, ("auto", "egl", "osmesa", "raycast"))
    if not (0 < camera_hz <= 90 and 16 <= camera_width <= 1920 and 16 <= camera_height <= 1080):
        raise InputError(f"no such camera: {camera_width}x{camera_height} at {camera_hz} Hz (up to 1920x1080 at 90)")
    if start_cameras and robot == "sim":
        raise InputError("the simulation brings its own cameras: start_cameras is for robot:=fr3")
    if site and not Path(site).is_file():
        raise InputError(f"no site file {site}")
    if policy == "expert":
        if robot != "sim":
            raise InputError("the scripted expert needs simulator ground truth: robot:=sim")
        one_of("task", task, ("lift", "pick_place", "stack"))
    else:
        policy = policy or str(share("models/demo"))
        if not (Path(policy) / "manifest.json").is_file():
            raise InputError(f"no policy in {policy}: a folder as `gwm train policy --out` makes, or expert")
        if robot != "sim" and not (Path(policy) / "SHA256SUMS").is_file():
            raise InputError(
                f"{policy} is no bundle, and nothing else moves an arm: `gwm compile {policy} --out BUNDLE`"
            )
    common = {"robot": robot, "site": site}
    alone = {**_profile("fastdds_gate.xml"), "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}  # the file says why
    watched = "shadow" if shadow else "hold_to_run" if hold_to_run else supervision
    gate = {"profile": profile, "speed": speed, "mode": watched, "controller": controller, "gripper": gripper}
    if robot == "sim":  # its joint states come from a process that shares two cores with the others
        gate |= {"auto_arm": True, "state_timeout": 0.1}
    episodes = {"record": record, "task": task, "policy": "" if mode == "teleop" else policy, "operator": operator}
    aside = {"policy/chunk": "policy/proposal", "policy/alive": "policy/proposal_alive"} if mode == "shared" else {}
    imagine = imagination and mode != "teleop" and (Path(policy) / "world.safetensors").is_file()
    runs = {"policy": policy, "task": task, "backend": backend, "precision": precision, "imagine": imagine}
    planners = [
        NodeSpec("policy", "policy_node", {**common, **runs}, 5, respawn=True, remaps=aside),
        NodeSpec("teleop", "teleop_node", {**common, "device": device, "shared": mode == "shared"}, respawn=True),
    ]
    nodes = [
        *{"policy": planners[:1], "teleop": planners[1:], "shared": planners}[mode],
        NodeSpec("gate", "gate_node", {**common, **gate}, essential=True, environment=alone),
        NodeSpec("recorder", "recorder_node", {**common, **episodes}, nice=10, respawn=True),
    ]
    if imagine:
        nodes.append(NodeSpec("imagination", "imagination_node", {**common, "policy": policy}, nice=15, respawn=True))
    if console:
        page = {"host": console_host, "port": console, "certificate": console_certificate, "key": console_key}
        nodes.append(
            NodeSpec("console", "console_node", {**common, "record": record, "task": task, **page}, respawn=True)
        )
    if console and viewer:
        nodes.append(NodeSpec("viewer", "viewer_node", nice=15, respawn=True))
    cameras = {"width": camera_width, "height": camera_height, "camera_hz": camera_hz}
    if robot == "sim":
        parameters = {
            "renderer": renderer,
            **cameras,
            "publish_objects": publish_objects or policy == "expert",
            "controller": controller,
        }
        nodes.insert(0, NodeSpec("sim", "sim_node", parameters, essential=True))
    elif start_cameras:
        nodes.insert(0, NodeSpec("cameras", "camera_node", {"site": site, **cameras}, respawn=True))
    return nodes


def command(node: NodeSpec) -> list[str]:
    """The command line of a process."""
    return [*nice(node), interpreter(), "-m", f"gwm.{node.module}", *ros_arguments(node)]


def nice(node: NodeSpec) -> list[str]:
    """The prefix that lowers the priority of a whole process, threads of the middleware included."""
    return ["nice", "-n", str(node.nice)] if node.nice else []


def ros_arguments(node: NodeSpec) -> list[str]:
    """Name, shipped parameters, then this run's parameters, which win."""
    words = ["--ros-args", "-r", f"__node:={node.name}", "--params-file", str(share("launch/params.yaml"))]
    words += [word for old, new in node.remaps.items() for word in ("-r", f"{old}:={new}")]
    for name, value in node.parameters.items():
        text = str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
        words += ["-p", f"{name}:={text}"]
    return words


def parse(words: list[str]) -> dict[str, object]:
    """``name:=value`` words -> keyword arguments of ``graph``, each of its default's type."""
    defaults = {name: p.default for name, p in inspect.signature(graph).parameters.items()}
    values = {}
    for word in words:
        name, separator, text = word.partition(":=")
        if not separator:
            raise InputError(f"'{word}' is not NAME:=VALUE")
        kind = type(defaults[one_of("argument", name, defaults)])
        try:
            if kind is bool:
                values[name] = {"true": True, "false": False}[text.lower()]
            else:
                values[name] = kind(text)
        except (ValueError, KeyError):
            raise InputError(f"{name}:={text} is not a {kind.__name__}") from None
    return values


def refuse_mixed_ros() -> None:
    """Raise InputError when a system ROS is sourced into an environment that has the PyPI wheels as well."""
    sourced = "ROS_DISTRO" in os.environ or "/opt/ros" in os.environ.get("AMENT_PREFIX_PATH", "")
    wheels = list(Path(interpreter()).parents[1].glob("lib/python3*/site-packages/ros_rclpy-*.dist-info"))
    if sourced and wheels:
        raise InputError(
            "a system ROS is sourced, but this environment has ROS wheels from PyPI; the two load each other's "
            "libraries. Use a shell without `source /opt/ros/...`, or remove .venv and run ./gwm again to use the "
            "system's ROS"
        )
