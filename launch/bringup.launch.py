"""Starts the graph of gwm.graph with ros2 launch; `gwm up` starts the same one without it.

start_drivers:=true starts the robot's and the cameras' drivers as well (drivers.launch.py).
"""

import inspect
from pathlib import Path

from gwm import graph as gwm_graph
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

ARGUMENTS = inspect.signature(gwm_graph.graph).parameters


def _described() -> dict[str, str]:
    """Each argument's line of the docstring of graph()."""
    lines = gwm_graph.graph.__doc__.partition("Args:")[2].strip().splitlines()
    pairs = (line.strip().partition(": ") for line in lines)
    return {name.strip(): text for names, _, text in pairs for name in names.split(",")}


def _nodes(context):
    gwm_graph.refuse_mixed_ros()
    words = [f"{name}:={LaunchConfiguration(name).perform(context)}" for name in ARGUMENTS]
    actions = []
    for spec in gwm_graph.graph(**gwm_graph.parse(words)):
        node = Node(
            executable=gwm_graph.interpreter(),
            exec_name=spec.name,
            arguments=["-m", f"gwm.{spec.module}", *gwm_graph.ros_arguments(spec)],
            prefix=" ".join(gwm_graph.nice(spec)) or None,
            additional_env=spec.environment,
            respawn=spec.respawn,
            respawn_max_retries=3,
            output="screen",
        )
        actions.append(node)
        if spec.essential:
            over = [EmitEvent(event=Shutdown(reason=f"{spec.name} ended"))]
            actions.append(RegisterEventHandler(OnProcessExit(target_action=node, on_exit=over)))
    return actions


def generate_launch_description() -> LaunchDescription:
    described = _described()
    return LaunchDescription(
        [SetEnvironmentVariable(name, value) for name, value in gwm_graph.environment().items()]
        + [
            DeclareLaunchArgument(name, default_value=str(parameter.default), description=described[name])
            for name, parameter in ARGUMENTS.items()
        ]
        + [
            DeclareLaunchArgument("start_drivers", default_value="false", description="of the robot and its cameras"),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(Path(__file__).with_name("drivers.launch.py"))),
                condition=IfCondition(LaunchConfiguration("start_drivers")),
            ),
            OpaqueFunction(function=_nodes),
        ]
    )
