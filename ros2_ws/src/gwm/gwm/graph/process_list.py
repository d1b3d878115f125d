"""The one list of our processes. ``gwm up`` and ``ros2 launch gwm bringup.launch.py`` start exactly
this.

Standard library only: ``ros2 launch`` may run under a Python that has none of our packages.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from gwm_core.errors import InputError, one_of

ROOT = Path(__file__).resolve().parents[5]  # of the repository, when run from it
VENV = ROOT / ".venv"
# what gwm.hardware.arm_adapters can speak to, and the controllers' names in launch/controllers.yaml
CONTROLLERS = {
    "crisp": "joint_impedance_controller",
    "crisp_pose": "cartesian_impedance_controller",
    "jtc": "fr3_arm_controller",
    "forward": "forward_position_controller",
}
DEVICES = ("spacemouse", "gamepad", "keyboard", "leader")  # gwm_core.control.devices
MODES = ("policy", "teleop", "shared")
# gwm_core.control.gate.supervision
SUPERVISION = ("auto", "watch", "approve", "hold_to_run", "shadow")
RUNTIMES = ("auto", "tensorrt", "openvino", "onnxruntime", "torch")  # gwm_core.runtime.backends
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PROFILES = ("desk", "lab", "full")  # gwm_core.geometry.limits
GRIPPERS = ("auto", "forward", "franka", "action")
# the starter's process id, for processes that it looks after
END_WITH_PARENT = "GWM_END_WITH_PARENT"
TASKS = ("lift", "pick_place", "stack")  # of the simulation, gwm_core.sim.tasks


@dataclass(frozen=True)
class NodeSpec:
    """One process: ``python -m gwm.nodes.<module>`` with parameters."""

    name: str
    module: str
    parameters: dict[str, object] = field(default_factory=dict)
    nice: int = 0
    remaps: dict[str, str] = field(default_factory=dict)
    # its end is the graph's; all others are started again, see gwm.graph.restart
    essential: bool = False
    environment: dict[str, str] = field(default_factory=dict)  # besides that of every process


def share(name: str) -> Path:
    """A file or folder of launch/, urdf/ or models/: in the repository, else where the package was
    installed.
    """
    for base in (ROOT, *Path(__file__).resolve().parents):
        for place in (base / name, base / "share" / "gwm" / name):
            if place.exists():
                return place
    raise InputError(f"{name} is neither in {ROOT} nor in the installed package's share folder")


def interpreter() -> str:
    """The Python that has our packages: the environment that ./gwm made, else this one."""
    return str(VENV / "bin" / "python") if (VENV / "gwm-complete").exists() else sys.executable


def environment(local_only: bool = True) -> dict[str, str]:
    """Variables for every process: discovery on this machine alone, images by shared memory, one
    thread each.
    """
    values = {
        **_profile("fastdds.xml"),
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "PYTHONUNBUFFERED": "1",
        END_WITH_PARENT: str(os.getpid()),
    }
    if local_only:
        values["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        values[name] = "1"  # two cores for five processes: more threads only wait for one another
    return values


def _profile(name: str) -> dict[str, str]:
    return {"FASTRTPS_DEFAULT_PROFILES_FILE": str(share(f"launch/{name}"))}


def end_with_parent() -> None:
    """Have the kernel send SIGINT when the starter dies, so that one that is killed leaves nothing
    running.

    Ends this process at once when the starter is gone already.
    """
    starter = os.environ.get(END_WITH_PARENT)
    if not starter:
        return
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG, linux/prctl.h
    # a prefix like gdb may stand in between
    if int(starter) != os.getppid() and not _alive(starter):
        sys.exit("gwm: what started this process is gone already")


def _alive(process: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")  # dead, and not yet waited for


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
        task: lift, pick_place or stack, or another that the policy was trained on; to teach one, of
            the site file.
        policy: folder of a trained policy, or expert (simulation only). Empty: the shipped demo
            weights.
        site: file with cameras and workspace. Empty: ~/.config/gwm/site.yaml, or the simulation's
            own.
        record: folder the recorder writes episodes to when asked.
        operator: who teaches or evaluates, for the episodes' files.
        profile: desk (0.25 m/s), lab or full: how much of the arm's limits the gate uses, never
            more than the site file's profile. Empty: the site file's, or desk.
        speed: share of the profile's speeds, above 0 to 1.
        supervision: auto; watch (the gate holds when what is seen leaves what was imagined, which
            takes a policy with a world model); approve (each plan waits for a person); hold_to_run
            (only while operator/heartbeat beats); shadow (everything but sending).
        shadow, hold_to_run: short for supervision:=shadow and supervision:=hold_to_run.
        renderer: auto, egl, osmesa or raycast.
        camera_width, camera_height, camera_hz: of the simulated cameras, or of those that are
            started.
        publish_objects: let the simulation tell where its objects are (the scripted expert needs
            it).
        controller: that moves the arm: crisp, crisp_pose, jtc, or forward (simulated arms alone).
        gripper: franka, action (control_msgs) or forward; auto: forward in simulation, else what is
            installed.
        mode: who plans: policy, teleop (an operator) or shared (a policy, and an operator who may
            take over).
        device: of the operator: spacemouse, gamepad, keyboard (gwm teleop) or leader.
        backend: runtime of the policy: tensorrt, openvino, onnxruntime or torch; auto: the fastest
            that works here.
        precision: of the runtime: fp32, bf16 or fp16; auto: fp16 for tensorrt, else fp32.
        imagination: show what plans will lead to, where the policy's folder has a world model.
        console: port of the operator's page (the next free one where it is taken), whose address is
            printed; 0: none.
        viewer: the 3D scene on that page.
        console_host, console_certificate, console_key: another address than this machine's own,
            with TLS alone (PEM).
        start_cameras: drive the RealSense cameras that have a serial in the site file; else
            realsense-ros does.
    """
    one_of("robot", robot, ("sim", "fr3"))
    one_of("controller", controller, CONTROLLERS)
    one_of("mode", mode, MODES)
    one_of("supervision", supervision, SUPERVISION)
    one_of("device", device, DEVICES)
    one_of("gripper", gripper, GRIPPERS)
    one_of("backend", backend, RUNTIMES)
    one_of("precision", precision, PRECISIONS)
    if controller == "forward" and robot != "sim":
        raise InputError(
            "forward is for simulated arms (100 Hz steps break the real one's conditions): crisp,"
            " crisp_pose or jtc"
        )
    one_of("profile", profile, ("", *PROFILES))
    one_of("renderer", renderer, ("auto", "egl", "osmesa", "raycast"))
    if not 0 < speed <= 1:
        raise InputError(
            f"speed:={speed:g}: a share of the profile's speeds is wanted, above 0 to 1"
        )
    if not 0 <= console <= 65535:
        raise InputError(f"console:={console}: a port is wanted, or 0 for none")
    if not (0 < camera_hz <= 90 and 16 <= camera_width <= 1920 and 16 <= camera_height <= 1080):
        raise InputError(
            f"no such camera: {camera_width}x{camera_height} at {camera_hz} Hz (up to 1920x1080"
            " at 90)"
        )
    if start_cameras and robot == "sim":
        raise InputError("the simulation brings its own cameras: start_cameras is for robot:=fr3")
    if site and not Path(site).is_file():
        raise InputError(f"no site file {site}")
    if policy == "expert":
        if robot != "sim":
            raise InputError("the scripted expert needs simulator ground truth: robot:=sim")
        one_of("task", task, TASKS)
    else:
        policy = policy or str(share("models/demo"))
        if not (Path(policy) / "manifest.json").is_file():
            raise InputError(
                f"no policy in {policy}: a folder as `gwm train policy --out` makes, or expert"
            )
        if robot != "sim" and not (Path(policy) / "SHA256SUMS").is_file():
            raise InputError(
                f"{policy} is no bundle, and nothing else moves an arm: `gwm compile {policy} --out"
                " BUNDLE`"
            )
        if mode != "teleop":
            _refuse_untaught(task, policy)
    common = {"robot": robot, "site": site}
    # the file says why
    alone = {**_profile("fastdds_gate.xml"), "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    watched = _supervision(supervision, shadow, hold_to_run)
    if watched == "watch":
        _refuse_blind_watch(mode, policy, imagination)
    gate = {
        "profile": profile,
        "speed": speed,
        "mode": watched,
        "controller": controller,
        "gripper": gripper,
    }
    if robot == "sim":  # its joint states come from a process that shares two cores with the others
        gate |= {"auto_arm": True, "state_timeout": 0.1}
    episodes = {
        "record": record,
        "task": task,
        "policy": "" if mode == "teleop" else policy,
        "operator": operator,
    }
    aside = (
        {"policy/chunk": "policy/proposal", "policy/alive": "policy/proposal_alive"}
        if mode == "shared"
        else {}
    )
    imagine = imagination and mode != "teleop" and (Path(policy) / "world.safetensors").is_file()
    runs = {
        "policy": policy,
        "task": task,
        "backend": backend,
        "precision": precision,
        "imagine": imagine,
    }
    planners = [
        NodeSpec("policy", "policy_node", {**common, **runs}, 5, remaps=aside),
        NodeSpec("teleop", "teleop_node", {**common, "device": device, "shared": mode == "shared"}),
    ]
    nodes = [
        *{"policy": planners[:1], "teleop": planners[1:], "shared": planners}[mode],
        NodeSpec("gate", "gate_node", {**common, **gate}, essential=True, environment=alone),
        NodeSpec("recorder", "recorder_node", {**common, **episodes}, nice=10),
    ]
    if imagine:
        nodes.append(
            NodeSpec("imagination", "imagination_node", {**common, "policy": policy}, nice=15)
        )
    if console:
        page = {
            "host": console_host,
            "port": console,
            "certificate": console_certificate,
            "key": console_key,
        }
        nodes.append(
            NodeSpec("console", "console_node", {**common, "record": record, "task": task, **page})
        )
    if console and viewer:
        nodes.append(NodeSpec("viewer", "viewer_node", nice=15))
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
        nodes.insert(0, NodeSpec("cameras", "camera_node", {"site": site, **cameras}))
    return nodes


def _supervision(supervision: str, shadow: bool, hold_to_run: bool) -> str:
    """The one mode that is asked for. Raises InputError where two are."""
    asked = [name for name, on in (("shadow", shadow), ("hold_to_run", hold_to_run)) if on]
    asked += [supervision] if supervision != "auto" and supervision not in asked else []
    if len(asked) > 1:
        raise InputError(f"supervision: {' and '.join(asked)} are asked for at once: one of them")
    return asked[0] if asked else supervision


def _refuse_blind_watch(mode: str, policy: str, imagination: bool) -> None:
    """Raise InputError where nothing would tell the gate that what is seen leaves what was
    imagined.
    """
    missing = ""
    if mode == "teleop":
        missing = "mode:=teleop has no policy: mode:=policy or mode:=shared"
    elif policy == "expert":
        missing = "policy:=expert has no world model: give the folder of a policy that has one"
    elif not imagination:
        missing = "imagination:=false turns that off: imagination:=true"
    elif not (Path(policy) / "world.safetensors").is_file():
        missing = (
            f"{policy} has no world model (world.safetensors): train it into the folder with `gwm"
            " train world`"
        )
    elif not (Path(policy) / "divergence.json").is_file():
        missing = (
            f"{policy} has no divergence.json, which says what is normal: `gwm bench divergence`"
            " measures it"
        )
    if missing:
        raise InputError(
            f"supervision:=watch holds when what is seen leaves what was imagined, and {missing}"
        )


def _refuse_untaught(task: str, policy: str) -> None:
    tasks = policy_tasks(Path(policy))
    if task not in tasks:
        raise InputError(
            f"the policy in {policy} was not trained on task '{task}': valid are {', '.join(tasks)}"
        )


def policy_tasks(policy: Path) -> tuple[str, ...]:
    """Tasks that a policy was trained on. Raises InputError where its folder does not say so."""
    try:
        if (policy / "bundle.json").is_file():
            return tuple(json.loads((policy / "bundle.json").read_text())["tasks"])
        with open(policy / "policy.safetensors", "rb") as file:  # length, header, tensors
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return tuple(json.loads(header["__metadata__"]["config"])["tasks"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise InputError(
            f"no policy in {policy}: it does not say its tasks ({type(error).__name__}); a folder"
            " as `gwm train policy --out` makes is wanted"
        ) from None


def command(node: NodeSpec) -> list[str]:
    """The command line of a process."""
    return [*nice(node), interpreter(), "-m", f"gwm.nodes.{node.module}", *ros_arguments(node)]


def nice(node: NodeSpec) -> list[str]:
    """The prefix that lowers the priority of a whole process, threads of the middleware
    included.
    """
    return ["nice", "-n", str(node.nice)] if node.nice else []


def ros_arguments(node: NodeSpec) -> list[str]:
    """Name, shipped parameters, then this run's parameters, which win."""
    words = [
        "--ros-args",
        "-r",
        f"__node:={node.name}",
        "--params-file",
        str(share("launch/params.yaml")),
    ]
    words += [word for old, new in node.remaps.items() for word in ("-r", f"{old}:={new}")]
    for name, value in node.parameters.items():
        text = (
            str(value).lower()
            if isinstance(value, bool)
            else f'"{value}"'
            if isinstance(value, str)
            else str(value)
        )
        words += ["-p", f"{name}:={text}"]
    return words


def refuse_mixed_ros() -> None:
    """Raise InputError when a system ROS is sourced into an environment that has the PyPI wheels as
    well.
    """
    sourced = "ROS_DISTRO" in os.environ or "/opt/ros" in os.environ.get("AMENT_PREFIX_PATH", "")
    wheels = list(
        Path(interpreter()).parents[1].glob("lib/python3*/site-packages/ros_rclpy-*.dist-info")
    )
    if sourced and wheels:
        raise InputError(
            "a system ROS is sourced, but this environment has ROS wheels from PyPI; the two load"
            " each other's libraries. Use a shell without `source /opt/ros/...`, or remove .venv"
            " and run ./gwm again to use the system's ROS"
        )
