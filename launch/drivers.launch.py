"""Start the drivers of a real FR3: franka_ros2 with our controllers, cameras, camera transforms.

Not tried on hardware. bringup.launch.py start_drivers:=true includes this file; alone it starts the
drivers without the graph. franka_bringup brings its own robot description with the ros2_control
part that the hardware needs. The cameras of the site file are therefore added as static transforms.
urdf/fr3.urdf.xacro describes the same arm for everything else; robot_state_publisher gets it with
robot:=sim.
"""

import sys
from dataclasses import replace

from gwm.graph import arguments
from gwm.graph.config import CONTROLLERS, GraphConfig
from gwm.graph.environment import process_environment, resource
from gwm.graph.process_list import processes
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import Command, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from gwm_core.address import address
from gwm_core.errors import InputError, one_of
from launch import LaunchDescription

# Arguments of the graph that the drivers read too, and the drivers' own.
ARGUMENTS = (
    "robot",
    "site",
    "controller",
    "start_cameras",
    "camera_width",
    "camera_height",
    "camera_hz",
)
OWN = ("robot_ip", "use_fake_hardware")
NEEDS = {
    "crisp": "crisp_controllers",
    "crisp_pose": "crisp_controllers",
    "jtc": "joint_trajectory_controller",
}


def _require(package: str) -> str:
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        return get_package_share_directory(package)
    except PackageNotFoundError:
        raise InputError(
            f"start_drivers needs {package}: docs/real-robot.md says how to install it"
        ) from None


def _has(package: str) -> bool:
    from ament_index_python.packages import get_packages_with_prefixes

    return package in get_packages_with_prefixes()


def _drivers(context):
    arguments.check_launch_arguments(context.launch_configurations, sys.argv)
    words = {name: LaunchConfiguration(name).perform(context) for name in (*ARGUMENTS, *OWN)}
    config = arguments.parse(f"{name}:={words[name]}" for name in ARGUMENTS)
    if config.robot == "panda":
        raise InputError("start_drivers starts those of an FR3: start the Panda's before")
    processes(replace(config, mode="teleop"))  # checks the values; this mode needs no policy
    fake = one_of("use_fake_hardware", words["use_fake_hardware"].lower(), ("true", "false"))
    ip = address("robot_ip", words["robot_ip"])
    site = arguments.read_site(config.robot, config.site)
    if config.robot == "sim":
        return [_description(site)]
    if ip and config.controller == "fci":
        raise InputError("controller:=fci reads the address from the site file: robot.ip")
    if not (ip or site["robot_ip"]):
        raise InputError("where is the robot? robot_ip:=..., or robot.ip in the site file")
    if config.controller == "fci":  # the graph's own process drives the arm
        actions = [_description(site), *_mounts(site)]
    else:
        actions = [*_arm(ip or site["robot_ip"], config.controller, fake), *_mounts(site)]
    if not config.start_cameras:
        actions += [_camera(camera, config) for camera in site["cameras"].values()]
    return actions


def _arm(ip: str, controller: str, fake: str) -> list:
    one_of("controller", controller, NEEDS)
    for package in (NEEDS[controller], "controller_manager", "tf2_ros"):  # before anything starts
        _require(package)
    franka = PythonLaunchDescriptionSource(f"{_require('franka_bringup')}/launch/franka.launch.py")
    launch_arguments = {
        "robot_type": "fr3",
        "robot_ip": ip,
        "load_gripper": "true",
        "use_fake_hardware": fake,
        "controllers_yaml": str(resource("launch/controllers.yaml")),
    }
    active = CONTROLLERS[controller]
    others = [
        CONTROLLERS[name] for name, package in NEEDS.items() if name != controller and _has(package)
    ]
    spawn = [[active], [*others, "--inactive"]] if others else [[active]]
    return [
        IncludeLaunchDescription(franka, launch_arguments=launch_arguments.items()),
        *(
            Node(
                package="controller_manager", executable="spawner", arguments=words, output="screen"
            )
            for words in spawn
        ),
    ]


def _mounts(site: dict) -> list:
    actions = []
    for mount in site["mounts"].split("; "):
        frame, parent, *numbers = mount.split()
        pairs = zip(("--x", "--y", "--z", "--roll", "--pitch", "--yaw"), numbers)
        words = [word for pair in pairs for word in pair]
        words += ["--frame-id", parent, "--child-frame-id", f"{frame}_color_optical_frame"]
        name = f"{frame}_mount"
        actions.append(
            Node(
                package="tf2_ros",
                executable="static_transform_publisher",
                name=name,
                arguments=words,
            )
        )
    return actions


def _camera(camera: dict, config: GraphConfig) -> Node:
    """Colour, and depth aligned to it.

    publish_tf is off: the site file, not the driver, says where the camera is.

    global_time_enabled stamps images with the host's clock and follows the camera's drift. Without
    it the driver sets each camera's own clock once at the start, and image stamps drift away from
    the joint states: 75 ppm are 0.27 s an hour.
    """
    _require("realsense2_camera")
    namespace, _, name = camera["prefix"].rpartition("/")
    profile = f"{config.camera_width}x{config.camera_height}x{config.camera_hz:.0f}"
    parameters = {
        "camera_name": name,
        "serial_no": f"_{camera['serial']}" if "serial" in camera else "",
        "rgb_camera.color_profile": profile,
        "depth_module.depth_profile": profile,
        "align_depth.enable": True,
        "enable_sync": False,
        "publish_tf": False,
        "rgb_camera.global_time_enabled": True,
        "depth_module.global_time_enabled": True,
    }
    return Node(
        package="realsense2_camera",
        executable="realsense2_camera_node",
        namespace=namespace,
        name=name,
        parameters=[parameters],
        output="screen",
    )


def _description(site: dict) -> Node:
    """Our own xacro file with our own numbers.

    No argument takes another file, and no code of ours expands one.
    """
    for package in ("xacro", "robot_state_publisher"):
        _require(package)
    words = ["xacro", " ", str(resource("urdf/fr3.urdf.xacro")), ' cameras:="', site["mounts"], '"']
    return Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        parameters=[{"robot_description": ParameterValue(Command(words), value_type=str)}],
        remappings=[("joint_states", "franka/joint_states")],
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    texts = arguments.descriptions()
    defaults = arguments.defaults() | {"robot": "fr3"}
    declared = {name: (str(defaults[name]), texts[name]) for name in ARGUMENTS}
    declared |= {name: arguments.DRIVERS[name] for name in OWN}
    return LaunchDescription(
        [SetEnvironmentVariable(name, value) for name, value in process_environment().items()]
        + [
            DeclareLaunchArgument(n, default_value=value, description=text)
            for n, (value, text) in declared.items()
        ]
        + [OpaqueFunction(function=_drivers)]
    )
