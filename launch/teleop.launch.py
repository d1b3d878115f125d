"""The graph with an operator instead of a policy (mode:=shared: beside one), and the driver of the
device.

    ros2 launch gwm teleop.launch.py device:=spacemouse

device:=gamepad starts joy_node, spacemouse spacenav_node; the keyboard is `gwm teleop` in a
terminal of its own, a leader arm publishes leader/joint_states. All other arguments are those of
bringup.launch.py.
"""

import sys
from pathlib import Path

from gwm.graph import arguments
from gwm.graph import process_list as gwm_graph
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

PACKAGES = {"gamepad": "joy", "spacemouse": "spacenav"}  # of the device's driver
# [Hz] repeated while nothing changes: a device that is silent for 0.25 s counts as gone
RATE = 50.0
JOY = {
    "autorepeat_rate": RATE,
    # a thumb's small motions pass: that they end is the only sign of a pad out of range
    "deadzone": 0.0,
    "sticky_buttons": False,  # the clutch is open when it is let go of
}


def _check(context):
    """Before anything starts: a driver that is not there would leave the graph behind without its
    operator.
    """
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    arguments.launched(context.launch_configurations, sys.argv)
    gwm_graph.one_of("mode", LaunchConfiguration("mode").perform(context), ("teleop", "shared"))
    device = LaunchConfiguration("device").perform(context)
    package = PACKAGES.get(gwm_graph.one_of("device", device, gwm_graph.DEVICES))
    try:
        if package:
            get_package_share_directory(package)
    except PackageNotFoundError:
        raise gwm_graph.InputError(
            f"device:={device} needs {package}: apt install ros-$ROS_DISTRO-{package}"
        ) from None


def _device(context):
    device = LaunchConfiguration("device").perform(context)
    if device == "gamepad":
        return [
            Node(package=PACKAGES[device], executable="joy_node", parameters=[JOY], output="screen")
        ]
    if device == "spacemouse":
        remap = [("spacenav/joy", "joy")]
        return [
            Node(
                package=PACKAGES[device],
                executable="spacenav_node",
                remappings=remap,
                output="screen",
            )
        ]
    return []


def generate_launch_description() -> LaunchDescription:
    bringup = PythonLaunchDescriptionSource(str(Path(__file__).with_name("bringup.launch.py")))
    return LaunchDescription(
        [
            DeclareLaunchArgument("mode", default_value="teleop", description="teleop or shared"),
            DeclareLaunchArgument(
                "device",
                default_value="gamepad",
                description="gamepad, spacemouse, keyboard, leader",
            ),
            OpaqueFunction(function=_check),
            IncludeLaunchDescription(bringup),
            OpaqueFunction(function=_device),
        ]
    )
