"""The one list of our processes. ``gwm up`` and ``ros2 launch gwm bringup.launch.py`` start it.

Standard library only, like ``gwm.graph.config``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gwm.graph.config import GraphConfig
from gwm.graph.config_checks import EXPERT, imagines, resolve
from gwm.graph.environment import dds_profile, interpreter, resource


@dataclass(frozen=True)
class NodeSpec:
    """One process: ``python -m gwm.nodes.<module>`` with parameters."""

    name: str
    module: str
    parameters: dict[str, object] = field(default_factory=dict)
    nice: int = 0
    remaps: dict[str, str] = field(default_factory=dict)
    # The graph ends with an essential process. All others are restarted, see gwm.graph.restart.
    essential: bool = False
    environment: dict[str, str] = field(default_factory=dict)  # besides process_environment()


def processes(config: GraphConfig) -> list[NodeSpec]:
    """Return all processes in starting order. Raises InputError for an invalid configuration."""
    config = resolve(config)
    return [
        *_simulation_or_cameras(config),
        *_fci(config),
        *_planners(config),
        _gate(config),
        _recorder(config),
        *_imagination(config),
        *_operator_page(config),
    ]


def _common(config: GraphConfig) -> dict[str, object]:
    return {"robot": config.robot, "site": config.site}


def _simulation_or_cameras(config: GraphConfig) -> list[NodeSpec]:
    cameras = {
        "width": config.camera_width,
        "height": config.camera_height,
        "camera_hz": config.camera_hz,
    }
    if config.robot == "sim":
        parameters = {
            "renderer": config.renderer,
            **cameras,
            "publish_objects": config.publish_objects or config.policy == EXPERT,
            "controller": config.controller,
        }
        nodes = [NodeSpec("sim", "sim_node", parameters, essential=True)]
        if config.controller == "fci":  # 1 kHz, which may not wait for the interpreter
            images = {name: parameters[name] for name in ("renderer", "width", "height")}
            nodes.append(NodeSpec("sim_cameras", "sim_camera_node", images))
        return nodes
    if config.start_cameras:
        return [NodeSpec("cameras", "camera_node", {"site": config.site, **cameras})]
    return []


def _fci(config: GraphConfig) -> list[NodeSpec]:
    if config.controller != "fci":
        return []
    return [NodeSpec("fci", "fci_node", _common(config))]


def _planners(config: GraphConfig) -> list[NodeSpec]:
    """The policy, the operator, or both; beside an operator the policy only proposes."""
    shared = config.mode == "shared"
    proposal = {"policy/chunk": "policy/proposal", "policy/alive": "policy/proposal_alive"}
    policy = {
        "policy": config.policy,
        "task": config.task,
        "backend": config.backend,
        "precision": config.precision,
        "candidates": config.candidates,
        "imagine": imagines(config),
    }
    operator = {"device": config.device, "shared": shared}
    remaps = proposal if shared else {}
    nodes = []
    if config.mode != "teleop":
        nodes.append(NodeSpec("policy", "policy_node", _common(config) | policy, remaps=remaps))
    if config.mode != "policy":
        nodes.append(NodeSpec("teleop", "teleop_node", _common(config) | operator))
    return nodes


def _gate(config: GraphConfig) -> NodeSpec:
    gate = {
        "profile": config.profile,
        "speed": config.speed,
        "mode": config.supervision,
        "controller": config.controller,
        "gripper": config.gripper,
    }
    if config.robot == "sim":  # its joint states come from a process that shares two cores
        gate |= {"auto_arm": True, "state_timeout": 0.1}
    # The gate shares no memory with other processes; fastdds_gate.xml says why.
    udp_only = {**dds_profile("fastdds_gate.xml"), "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    return NodeSpec(
        "gate", "gate_node", _common(config) | gate, essential=True, environment=udp_only
    )


def _recorder(config: GraphConfig) -> NodeSpec:
    episodes = {
        "record": config.record,
        "task": config.task,
        "policy": "" if config.mode == "teleop" else config.policy,
        "operator": config.operator,
    }
    return NodeSpec("recorder", "recorder_node", _common(config) | episodes, nice=5)


def _imagination(config: GraphConfig) -> list[NodeSpec]:
    if not imagines(config):
        return []
    parameters = _common(config) | {"policy": config.policy, "task": config.task}
    return [NodeSpec("imagination", "imagination_node", parameters, nice=15)]


def _operator_page(config: GraphConfig) -> list[NodeSpec]:
    if not config.console:
        return []
    page = {
        "record": config.record,
        "task": config.task,
        "operator": config.operator,
        "plans": config.mode,
        "episodes": config.episodes,
        "host": config.console_host,
        "port": config.console,
        "certificate": config.console_certificate,
        "key": config.console_key,
    }
    nodes = [NodeSpec("console", "console_node", _common(config) | page)]
    if config.viewer:
        nodes.append(NodeSpec("viewer", "viewer_node", nice=15))
    return nodes


def command(node: NodeSpec) -> list[str]:
    """Return the command line of a process."""
    return [*nice(node), interpreter(), "-m", f"gwm.nodes.{node.module}", *ros_arguments(node)]


def nice(node: NodeSpec) -> list[str]:
    """Return the prefix that lowers a process's priority, the middleware's threads included."""
    return ["nice", "-n", str(node.nice)] if node.nice else []


def ros_arguments(node: NodeSpec) -> list[str]:
    """Return the name, the shipped parameters, then this run's parameters, which win."""
    words = ["--ros-args", "-r", f"__node:={node.name}"]
    words += ["--params-file", str(resource("launch/params.yaml"))]
    for old, new in node.remaps.items():
        words += ["-r", f"{old}:={new}"]
    for name, value in node.parameters.items():
        words += ["-p", f"{name}:={_yaml(value)}"]
    return words


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
