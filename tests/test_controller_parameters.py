"""launch/controllers.yaml holds only parameters that the real controllers declare, of their types.

A controller of ros2_control refuses an integer for a double, and silently ignores what it does not
declare. Sources: ros2_controllers 02aa372, joint_trajectory_controller_parameters.yaml; 1ac37e4,
joint_state_broadcaster_parameters.yaml; crisp_controllers 1609df3, cartesian_controller.yaml;
franka_ros2, franka_robot_state_broadcaster/doc/index.rst (2026-06); controller_manager 4.46.0.
"""

from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).parents[1] / "launch/controllers.yaml"
CONFIGURED = yaml.safe_load(FILE.read_text())["/**"]
JOINT = "<joint>"
AXES = [f"{kind}_{axis}" for kind in ("pos", "rot") for axis in "xyz"]

DECLARED = {
    "joint_trajectory_controller/JointTrajectoryController": {
        "joints": list,
        "command_joints": list,
        "command_interfaces": list,
        "state_interfaces": list,
        "allow_partial_joints_goal": bool,
        "interpolate_from_desired_state": bool,
        "allow_integration_in_goal_trajectories": bool,
        "set_last_command_interface_value_as_state_on_activation": bool,
        "action_monitor_rate": float,
        "interpolation_method": str,
        "allow_nonzero_velocity_at_trajectory_end": bool,
        "cmd_timeout": float,
        **{
            f"gains.{JOINT}.{name}": float
            for name in ("p", "i", "d", "ff_velocity_scale", "u_clamp_max", "u_clamp_min")
        },
        "constraints.stopped_velocity_tolerance": float,
        "constraints.goal_time": float,
        f"constraints.{JOINT}.trajectory": float,
        f"constraints.{JOINT}.goal": float,
    },
    "crisp_controllers/CartesianController": {
        "joints": list,
        "end_effector_frame": str,
        "base_frame": str,
        "use_operational_space": bool,
        **{f"task.k_{axis}": float for axis in AXES},
        **{f"task.d_{axis}": float for axis in AXES},
        **{f"task.error_clip.{axis}": float for axis in ("x", "y", "z", "rx", "ry", "rz")},
        "nullspace.stiffness": float,
        "nullspace.damping": float,
        f"nullspace.weights.{JOINT}.value": float,
        "nullspace.regularization": float,
        "nullspace.projector_type": str,
        "nullspace.max_tau": float,
        "use_friction": bool,
        "use_coriolis_compensation": bool,
        "use_gravity_compensation": bool,
        "use_local_jacobian": bool,
        **{
            f"filter.{name}": float for name in ("target_pose", "q", "dq", "q_ref", "output_torque")
        },
        "limit_error": bool,
        "limit_torques": bool,
        "joint_limit_repulsion.enabled": bool,
        "max_delta_tau": float,
        "stop_commands": bool,
    },
    "joint_state_broadcaster/JointStateBroadcaster": {
        "use_local_topics": bool,
        "joints": list,
        "extra_joints": list,
        "interfaces": list,
        "use_urdf_to_filter": bool,
    },
    "franka_robot_state_broadcaster/FrankaRobotStateBroadcaster": {
        "robot_type": str,
        "arm_prefix": str,
        "convenience_publish_rate": int,
    },
}
OF_EVERY_CONTROLLER = {"update_rate": int, "is_async": bool}  # controller_interface
MANAGER = {"update_rate": int, "thread_priority": int, "overruns": dict}
CHOICES = {
    "nullspace.projector_type": ("kinematic", "dynamic", "none"),
    "interpolation_method": ("splines", "none"),
}
BOUNDS = {  # of crisp_controllers
    **{f"task.k_{axis}": (0.0, 5000.0) for axis in AXES},
    "nullspace.stiffness": (0.0, 500.0),
    "nullspace.damping": (-1.0, 500.0),
    f"nullspace.weights.{JOINT}.value": (0.0, 500.0),
}


def flat(values, prefix=""):
    """Dotted names and values; a joint's name becomes JOINT."""
    for key, value in values.items():
        name = prefix + (JOINT if key.startswith("fr3_joint") else key)
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def type_of(name):
    return CONFIGURED["controller_manager"]["ros__parameters"][name]["type"]


@pytest.mark.parametrize("name", [name for name in CONFIGURED if name != "controller_manager"])
def test_every_parameter_is_declared_and_of_its_type(name):
    declared = DECLARED[type_of(name)] | OF_EVERY_CONTROLLER
    for key, value in flat(CONFIGURED[name]["ros__parameters"]):
        assert key in declared, f"{name} has no parameter {key}"
        assert type(value) is declared[key], f"{name}.{key}: {value!r}"
        assert value in CHOICES.get(key, (value,))
        low, high = BOUNDS.get(key, (value, value))
        assert low <= value <= high


def test_every_controller_that_is_loaded_is_configured():
    manager = CONFIGURED["controller_manager"]["ros__parameters"]
    entries = {name: value for name, value in manager.items() if isinstance(value, dict)}
    loaded = {name for name, entry in entries.items() if "type" in entry}
    assert loaded == set(CONFIGURED) - {"controller_manager"}
    assert {type_of(name) for name in loaded} == set(DECLARED)
    for name in set(manager) - loaded:
        assert type(manager[name]) is MANAGER[name]


def test_a_trajectory_ends_where_it_is_over():
    """Only what the trajectory controller may be given to an effort interface: gains for each."""
    parameters = CONFIGURED["fr3_arm_controller"]["ros__parameters"]
    assert set(parameters["gains"]) == set(parameters["joints"])
    assert parameters["command_interfaces"] == ["effort"]
    assert set(parameters["state_interfaces"]) == {"position", "velocity"}
