"""What can be known of the bring-up without launch, drivers or a robot."""

import ast
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from gwm.graph import arguments
from gwm.graph.config import CONTROLLERS as CONTROLLER_NAMES
from gwm.graph.config import GraphConfig
from gwm.graph.environment import process_environment
from gwm.graph.process_list import command, processes

from gwm_core import topics
from gwm_core.control.recovery import BROADCASTERS, SILENCE
from gwm_core.errors import InputError
from gwm_core.model.checkpoint import save_policy
from gwm_core.model.config import POLICIES
from gwm_core.model.world_action_model import WorldActionModel

ROOT = Path(__file__).parents[1]
CONTROLLERS = yaml.safe_load((ROOT / "launch/controllers.yaml").read_text())["/**"]


def text_of(file):
    return (ROOT / "launch" / file).read_text()


def constant(file, name):
    tree = ast.parse(text_of(file))
    (value,) = (n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == name)
    return ast.literal_eval(value)


def test_every_real_controller_is_configured_with_the_arms_joints():
    types = CONTROLLERS["controller_manager"]["ros__parameters"]
    needs = constant("drivers.launch.py", "NEEDS")
    assert set(needs) == set(CONTROLLER_NAMES) - {"forward", "fci"}
    for name, package in needs.items():
        controller = CONTROLLER_NAMES[name]
        assert types[controller]["type"].startswith(package + "/")
        assert CONTROLLERS[controller]["ros__parameters"]["joints"] == list(topics.ARM_JOINTS)
    assert f"{CONTROLLER_NAMES['jtc']}/joint_trajectory" == topics.TRAJECTORY
    assert f"{CONTROLLER_NAMES['forward']}/commands" == topics.FORWARD


def test_crisp_is_given_a_damping_that_damps():
    """Its default is -1, and the version that was read uses that as it stands."""
    for name in ("crisp", "crisp_pose"):
        parameters = CONTROLLERS[CONTROLLER_NAMES[name]]["ros__parameters"]
        assert parameters["nullspace"]["damping"] > 0 and parameters["limit_torques"]
        assert set(parameters["nullspace"]["weights"]) == set(topics.ARM_JOINTS)
        assert not parameters["use_gravity_compensation"]  # the robot does it
        assert parameters["max_delta_tau"] <= 1.0  # [N m] a millisecond: dtau_max is 1000 N m/s
    task = CONTROLLERS[CONTROLLER_NAMES["crisp"]]["ros__parameters"]["task"]
    assert not any(task.values())


def test_no_torque_is_asked_of_a_joint_that_it_does_not_bear():
    """CRISP bounds all joints by one number; FR3's joints 5 to 7 bear 12 N m."""
    crisp = CONTROLLERS[CONTROLLER_NAMES["crisp"]]["ros__parameters"]
    assert 0 < crisp["nullspace"]["max_tau"] < 12.0


def test_the_trajectory_controller_goes_on_from_the_state_it_wished_to_be_in():
    parameters = CONTROLLERS[CONTROLLER_NAMES["jtc"]]["ros__parameters"]
    assert parameters["interpolate_from_desired_state"] is True
    # i_clamp: deprecated
    assert all(set(gains) == {"p", "d"} for gains in parameters["gains"].values())


def test_states_come_as_often_as_the_gate_can_read_them():
    assert CONTROLLERS["joint_state_broadcaster"]["ros__parameters"]["update_rate"] == 100
    robot = CONTROLLERS["franka_robot_state_broadcaster"]["ros__parameters"]
    assert 2 / robot["update_rate"] < SILENCE <= 25 / robot["update_rate"]
    assert set(BROADCASTERS) <= set(CONTROLLERS["controller_manager"]["ros__parameters"])


def test_the_gate_shares_no_memory_and_finds_the_others_as_they_find_each_other():
    """A process killed while it holds a lock in shared memory stops all others that share it for a
    second.
    """
    (gate,) = (node for node in processes(GraphConfig(policy="expert")) if node.name == "gate")
    own, others = (
        ET.parse(e["FASTRTPS_DEFAULT_PROFILES_FILE"]).getroot()
        for e in (gate.environment, process_environment())
    )

    def texts(root, tag):
        return [element.text for element in root.iter() if element.tag.endswith("}" + tag)]

    assert texts(own, "type") == ["UDPv4"] and set(texts(others, "type")) == {"SHM", "UDPv4"}
    assert texts(own, "useBuiltinTransports") == ["false"] and texts(own, "address") == [
        "127.0.0.1"
    ]
    # LOCALHOST would add shared memory again
    assert gate.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
    found = [
        [ET.tostring(e) for e in root.iter() if e.tag.endswith("}discovery_config")]
        for root in (own, others)
    ]
    assert found[0] == found[1] != []


def test_the_drivers_take_the_graphs_arguments():
    """bringup.launch.py includes drivers.launch.py in its own scope, so the same word must mean the
    same.
    """
    assert set(constant("drivers.launch.py", "ARGUMENTS")) <= set(arguments.defaults())
    assert set(constant("drivers.launch.py", "OWN")) | {"start_drivers"} == set(arguments.DRIVERS)
    assert not set(arguments.DRIVERS) & set(arguments.defaults())


def test_drivers_and_graph_run_with_the_same_middleware():
    """Without it 40 % of large images were lost on the way from the driver to us."""
    for file in ("bringup.launch.py", "drivers.launch.py"):
        assert "process_environment().items()" in text_of(file)


def test_the_cameras_clocks_are_held_to_the_hosts():
    calls = [
        n for n in ast.walk(ast.parse(text_of("drivers.launch.py"))) if isinstance(n, ast.Dict)
    ]
    given = {
        k.value: v for d in calls for k, v in zip(d.keys, d.values) if isinstance(k, ast.Constant)
    }
    clocks = [name for name in given if name.endswith("global_time_enabled")]
    assert sorted(clocks) == ["depth_module.global_time_enabled", "rgb_camera.global_time_enabled"]
    assert all(given[name].value is True for name in clocks)


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "launch").glob("*.launch.py")))
def test_launch_files_need_no_more_than_ros_own_python_has(file):
    """It has neither scipy nor fast_simplification: what needs them runs in a process of the
    environment.
    """
    code = f"""
import ast, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "ros2_ws/src/gwm")!r}]
for node in ast.walk(ast.parse(open({str(ROOT / "launch" / file)!r}).read())):
    module = getattr(node, "module", "") or ""
    name = node.names[0].name if isinstance(node, ast.Import) else module
    if name.partition(".")[0] in ("gwm", "gwm_core"):
        exec(compile(ast.Module([node], []), "launch", "exec"))
from gwm.graph import arguments, process_list
process_list.processes(arguments.parse(["policy:=expert"]))
print("gwm.graph.arguments" in sys.modules, "numpy" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True", "False"], done.stderr


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "launch").glob("*.launch.py")))
def test_launch_files_parse_and_describe_themselves(file):
    tree = ast.parse((ROOT / "launch" / file).read_text())
    assert ast.get_docstring(tree)
    assert any(
        isinstance(n, ast.FunctionDef) and n.name == "generate_launch_description"
        for n in tree.body
    )


def test_nothing_of_ours_expands_a_robot_description():
    """xacro can read files and compute: it is run by ros2 launch alone, on our own file."""
    for path in [*(ROOT / "gwm_core").rglob("*.py"), *(ROOT / "ros2_ws/src/gwm/gwm").rglob("*.py")]:
        assert "import xacro" not in path.read_text(), path
    assert (ROOT / "launch/drivers.launch.py").read_text().count(
        'resource("urdf/fr3.urdf.xacro")'
    ) == 1


def test_each_mode_has_its_planners_and_one_way_to_the_gate():
    def planners(mode):
        return {
            n.name: n for n in processes(GraphConfig(mode=mode)) if n.name in ("policy", "teleop")
        }

    assert list(planners("policy")) == ["policy"] and not planners("policy")["policy"].remaps
    assert list(planners("teleop")) == ["teleop"]
    shared = planners("shared")
    assert shared["policy"].remaps == {
        topics.CHUNK: topics.PROPOSAL,
        topics.ALIVE: topics.PROPOSAL_ALIVE,
    }
    assert f"{topics.CHUNK}:={topics.PROPOSAL}" in command(shared["policy"])
    assert shared["teleop"].parameters["shared"] is True


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"controller": "moveit"}, "crisp_pose"),
        ({"controller": "forward", "robot": "fr3"}, "simulated arms"),
        ({"gripper": "suction"}, "franka"),
        ({"mode": "both"}, "shared"),
        ({"episodes": -3}, "episodes:=-3: 0"),
        ({"device": "mouse"}, "spacemouse"),
        ({"speed": 1.5}, "speed:=1.5: a fraction of the profile's speeds"),
        ({"speed": 0.0}, "above 0 to 1"),
        ({"console": 70000}, "a port is wanted"),
        ({"task": "pick"}, "was not trained on task 'pick': valid are lift, pick_place, stack"),
        ({"shadow": True, "supervision": "watch"}, "shadow and watch are asked for at once"),
        ({"shadow": True, "hold_to_run": True}, "shadow and hold_to_run are asked for at once"),
        (
            {"supervision": "watch", "mode": "teleop"},
            "watch holds when .* mode:=teleop has no policy",
        ),
        ({"supervision": "watch", "policy": "expert"}, "policy:=expert predicts nothing"),
        ({"supervision": "watch", "imagination": False}, "imagination:=false turns that off"),
    ],
)
def test_wrong_arguments_are_refused_with_the_valid_ones(wrong, named):
    with pytest.raises(InputError, match=named):
        processes(GraphConfig(**wrong))


@pytest.mark.parametrize(
    ("absent", "named"),
    [("vae.safetensors", "gwm train policy"), ("divergence.json", "gwm bench divergence")],
)
def test_watch_is_refused_where_nothing_would_tell_the_gate(tmp_path, absent, named):
    policy = tmp_path / "policy"
    shutil.copytree(ROOT / "models/demo", policy)
    assert gate_of(policy=str(policy), supervision="watch").parameters["mode"] == "watch"
    (policy / absent).unlink()
    with pytest.raises(InputError, match=f"has no .*{named}"):
        processes(GraphConfig(policy=str(policy), supervision="watch"))
    for mode in ("auto", "approve", "hold_to_run", "shadow"):
        assert gate_of(policy=str(policy), supervision=mode).parameters["mode"] == mode


def gate_of(**values):
    return next(node for node in processes(GraphConfig(**values)) if node.name == "gate")


def test_the_tasks_of_a_policy_are_its_own(tmp_path):
    """Its weights say them."""
    save_policy(
        tmp_path, WorldActionModel(replace(POLICIES["tiny"][0], tasks=("sort_screws",))), {}
    )
    assert processes(GraphConfig(policy=str(tmp_path), task="sort_screws"))
    with pytest.raises(InputError, match="not trained on task 'lift': valid are sort_screws"):
        processes(GraphConfig(policy=str(tmp_path), task="lift"))
    (tmp_path / "policy.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(InputError, match="does not say its tasks"):
        processes(GraphConfig(policy=str(tmp_path), task="lift"))


def test_only_what_moves_the_arm_is_essential():
    def essential(**values):
        nodes = processes(GraphConfig(**values))
        # nothing else decides who comes back
        assert not any(hasattr(node, "respawn") for node in nodes)
        return {node.name for node in nodes if node.essential}

    assert essential() == essential(mode="shared") == essential(policy="expert") == {"sim", "gate"}
    assert (
        essential(robot="fr3", start_cameras=True)
        == essential(robot="fr3", mode="teleop")
        == {"gate"}
    )


def test_the_doctor_finds_a_cameras_topics_whatever_slash_its_prefix_has(tmp_path):
    pytest.importorskip("rclpy")
    from gwm.doctor.live_graph import check_topics

    from gwm_core.site import load_site

    example = (ROOT / "launch/site.example.yaml").read_text()
    (tmp_path / "site.yaml").write_text(
        example.replace("prefix: camera/front", "prefix: /camera/front")
    )
    published = {
        topics.STATUS,
        *(make("camera/front") for make in (topics.color, topics.depth, topics.info)),
    }
    files = tmp_path / "site.yaml", ROOT / "launch/site.example.yaml"
    (slash,), (plain,) = (check_topics(published, set(), load_site(file)) for file in files)
    assert slash == plain and "camera/front" not in slash.remedy and "camera/wrist" in slash.remedy


def test_the_doctor_names_what_is_missing_and_who_would_bring_it():
    pytest.importorskip("rclpy")
    from gwm.doctor.check import LIMITED, OK
    from gwm.doctor.live_graph import check_topics

    from gwm_core.site import simulation_site

    site = simulation_site()
    (silent,) = check_topics(set(), set(), site)
    assert silent.level == OK and "not running" in silent.found
    ours = {topics.STATUS, topics.CHUNK, topics.COMMAND, topics.TARGET_JOINT}
    (check,) = check_topics(ours, {topics.TARGET_JOINT}, site)
    assert check.level == LIMITED
    for words in (
        topics.JOINT_STATES,
        "start franka_ros2",
        topics.GRIPPER_STATES,
        "align_depth",
        "camera/front/color",
    ):
        assert words in check.remedy
    drivers = {topics.JOINT_STATES, topics.GRIPPER_STATES} | {
        make(camera.prefix)
        for camera in site.cameras.values()
        for make in (topics.color, topics.depth, topics.info)
    }
    (check,) = check_topics(ours | drivers, {topics.TARGET_JOINT}, site)
    assert check.level == OK and check.remedy == ""
    (check,) = check_topics(ours | drivers, set(), site)
    assert check.remedy == "nobody listens to target_joint: is that controller active?"
    (check,) = check_topics(drivers, set(), site)
    assert "gwm up" in check.remedy and "drivers are" in check.found
