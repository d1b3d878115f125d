"""Start the graph with an operator (mode:=shared: beside a policy), and the device's driver.

    ros2 launch gwm teleop.launch.py device:=spacemouse

device:=gamepad starts joy_node, spacemouse spacenav_node; the keyboard is `gwm teleop` in a
terminal of its own, a leader arm publishes leader/joint_states. All other arguments are those of
bringup.launch.py.
"""

import sys
from pathlib import Path

from gwm.graph import arguments
from gwm.graph.config import DEVICES
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from gwm_core.errors import InputError, one_of
from launch import LaunchDescription

PACKAGES = {"gamepad": "joy", "spacemouse": "spacenav"}  # of the device's driver
# [Hz] Repeated while nothing changes: a device that is silent for 0.25 s counts as gone.
RATE = 50.0
JOY = {
    "autorepeat_rate": RATE,
    # A thumb's small motions pass. Their end is the only sign that a pad is out of range.
    "deadzone": 0.0,
    "sticky_buttons": False,  # the clutch opens when the button is released
}


def _check(context):
    """Check the device's driver before anything starts.

    A missing driver would leave the graph running without its operator.
    """
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    arguments.check_launch_arguments(context.launch_configurations, sys.argv)
    one_of("mode", LaunchConfiguration("mode").perform(context), ("teleop", "shared"))
    device = LaunchConfiguration("device").perform(context)
    package = PACKAGES.get(one_of("device", device, DEVICES))
    try:
        if package:
            get_package_share_directory(package)
    except PackageNotFoundError:
        raise InputError(
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
