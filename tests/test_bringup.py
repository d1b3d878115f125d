"""What can be known of the bring-up without launch, drivers or a robot."""

import ast
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from gwm import graph

from gwm_core import topics
from gwm_core.control.recovery import BROADCASTERS, SILENCE
from gwm_core.errors import InputError

ROOT = Path(__file__).parents[1]
CONTROLLERS = yaml.safe_load((ROOT / "launch/controllers.yaml").read_text())["/**"]


def constant(file, name):
    tree = ast.parse((ROOT / "launch" / file).read_text())
    (value,) = (n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == name)
    return ast.literal_eval(value)


def test_every_real_controller_is_configured_with_the_arms_joints():
    types = CONTROLLERS["controller_manager"]["ros__parameters"]
    needs = constant("drivers.launch.py", "NEEDS")
    assert set(needs) == set(graph.CONTROLLERS) - {"forward"}
    for name, package in needs.items():
        controller = graph.CONTROLLERS[name]
        assert types[controller]["type"].startswith(package + "/")
        assert CONTROLLERS[controller]["ros__parameters"]["joints"] == list(topics.ARM_JOINTS)
    assert f"{graph.CONTROLLERS['jtc']}/joint_trajectory" == topics.TRAJECTORY
    assert f"{graph.CONTROLLERS['forward']}/commands" == topics.FORWARD


def test_crisp_is_given_a_damping_that_damps():
    """Its default is -1, and the version that was read uses that as it stands."""
    for name in ("crisp", "crisp_pose"):
        parameters = CONTROLLERS[graph.CONTROLLERS[name]]["ros__parameters"]
        assert parameters["nullspace"]["damping"] > 0 and parameters["limit_torques"]
        assert set(parameters["nullspace"]["weights"]) == set(topics.ARM_JOINTS)
        assert not parameters["use_gravity_compensation"]  # the robot does it
        assert parameters["max_delta_tau"] <= 1.0  # [N m] a millisecond: dtau_max is 1000 N m/s
    task = CONTROLLERS[graph.CONTROLLERS["crisp"]]["ros__parameters"]["task"]
    assert not any(task.values())


def test_no_torque_is_asked_of_a_joint_that_it_does_not_bear():
    """CRISP bounds all joints by one number; FR3's joints 5 to 7 bear 12 N m."""
    crisp = CONTROLLERS[graph.CONTROLLERS["crisp"]]["ros__parameters"]
    assert 0 < crisp["nullspace"]["max_tau"] < 12.0


def test_the_trajectory_controller_goes_on_from_the_state_it_wished_to_be_in():
    parameters = CONTROLLERS[graph.CONTROLLERS["jtc"]]["ros__parameters"]
    assert parameters["interpolate_from_desired_state"] is True
    assert all(set(gains) == {"p", "d"} for gains in parameters["gains"].values())  # i_clamp: deprecated


def test_states_come_as_often_as_the_gate_can_read_them():
    assert CONTROLLERS["joint_state_broadcaster"]["ros__parameters"]["update_rate"] == 100
    robot = CONTROLLERS["franka_robot_state_broadcaster"]["ros__parameters"]
    assert 2 / robot["update_rate"] < SILENCE <= 25 / robot["update_rate"]
    assert set(BROADCASTERS) <= set(CONTROLLERS["controller_manager"]["ros__parameters"])


def test_the_gate_shares_no_memory_and_finds_the_others_as_they_find_each_other():
    """A process killed while it holds a lock in shared memory stops all others that share it for a second."""
    (gate,) = (node for node in graph.graph(policy="expert") if node.name == "gate")
    own, others = (
        ET.parse(e["FASTRTPS_DEFAULT_PROFILES_FILE"]).getroot() for e in (gate.environment, graph.environment())
    )

    def texts(root, tag):
        return [element.text for element in root.iter() if element.tag.endswith("}" + tag)]

    assert texts(own, "type") == ["UDPv4"] and set(texts(others, "type")) == {"SHM", "UDPv4"}
    assert texts(own, "useBuiltinTransports") == ["false"] and texts(own, "address") == ["127.0.0.1"]
    assert gate.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"  # LOCALHOST would add shared memory again
    found = [[ET.tostring(e) for e in root.iter() if e.tag.endswith("}discovery_config")] for root in (own, others)]
    assert found[0] == found[1] != []


def test_the_drivers_take_the_graphs_arguments():
    """bringup.launch.py includes drivers.launch.py in its own scope, so the same word must mean the same."""
    import inspect

    parameters = inspect.signature(graph.graph).parameters
    own = constant("drivers.launch.py", "ARGUMENTS")
    assert set(own) - set(parameters) == {"robot_ip", "use_fake_hardware"}
    for name in set(own) & set(parameters) - {"robot"}:
        assert own[name][0].lower() == str(parameters[name].default).lower(), name


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "launch").glob("*.launch.py")))
def test_launch_files_parse_and_describe_themselves(file):
    tree = ast.parse((ROOT / "launch" / file).read_text())
    assert ast.get_docstring(tree)
    assert any(isinstance(n, ast.FunctionDef) and n.name == "generate_launch_description" for n in tree.body)


def test_nothing_of_ours_expands_a_robot_description():
    """xacro can read files and compute: it is run by ros2 launch alone, on our own file."""
    for path in [*(ROOT / "gwm_core").rglob("*.py"), *(ROOT / "ros2_ws/src/gwm/gwm").rglob("*.py")]:
        assert "import xacro" not in path.read_text(), path
    assert (ROOT / "launch/drivers.launch.py").read_text().count('share("urdf/fr3.urdf.xacro")') == 1


def test_each_mode_has_its_planners_and_one_way_to_the_gate():
    def planners(mode):
        return {n.name: n for n in graph.graph(mode=mode) if n.name in ("policy", "teleop")}

    assert list(planners("policy")) == ["policy"] and not planners("policy")["policy"].remaps
    assert list(planners("teleop")) == ["teleop"]
    shared = planners("shared")
    assert shared["policy"].remaps == {topics.CHUNK: topics.PROPOSAL, topics.ALIVE: topics.PROPOSAL_ALIVE}
    assert f"{topics.CHUNK}:={topics.PROPOSAL}" in graph.command(shared["policy"])
    assert shared["teleop"].parameters["shared"] is True


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"controller": "moveit"}, "crisp_pose"),
        ({"controller": "forward", "robot": "fr3"}, "simulated arms"),
        ({"gripper": "suction"}, "franka"),
        ({"mode": "both"}, "shared"),
        ({"device": "mouse"}, "spacemouse"),
    ],
)
def test_wrong_arguments_are_refused_with_the_valid_ones(wrong, named):
    with pytest.raises(InputError, match=named):
        graph.graph(**wrong)


def test_the_doctor_names_what_is_missing_and_who_would_bring_it():
    pytest.importorskip("rclpy")
    from gwm.doctor import LIMITED, OK, _topics

    from gwm_core.site import simulation_site

    site = simulation_site()
    (silent,) = _topics(set(), set(), site)
    assert silent.level == OK and "not running" in silent.found
    ours = {topics.STATUS, topics.CHUNK, topics.COMMAND, topics.TARGET_JOINT}
    (check,) = _topics(ours, {topics.TARGET_JOINT}, site)
    assert check.level == LIMITED
    for words in (topics.JOINT_STATES, "start franka_ros2", topics.GRIPPER_STATES, "align_depth", "camera/front/color"):
        assert words in check.remedy
    drivers = {topics.JOINT_STATES, topics.GRIPPER_STATES} | {
        make(camera.prefix) for camera in site.cameras.values() for make in (topics.color, topics.depth, topics.info)
    }
    (check,) = _topics(ours | drivers, {topics.TARGET_JOINT}, site)
    assert check.level == OK and check.remedy == ""
    (check,) = _topics(ours | drivers, set(), site)
    assert check.remedy == "nobody listens to target_joint: is that controller active?"
    (check,) = _topics(drivers, set(), site)
    assert "gwm up" in check.remedy and "drivers are" in check.found
