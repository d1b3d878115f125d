"""Starts the graph of gwm.graph.process_list with ros2 launch; `gwm up` starts the same one without
it.

start_drivers:=true starts the robot's and the cameras' drivers as well (drivers.launch.py).
"""

import sys
import time
from pathlib import Path

from gwm.graph import arguments
from gwm.graph import process_list as gwm_graph
from gwm.graph.restart import Restarts
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.conditions import IfCondition
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription


def _values(context) -> dict:
    names = arguments.defaults()
    return arguments.parse(
        [f"{name}:={LaunchConfiguration(name).perform(context)}" for name in names]
    )


def _check(context):
    """Before anything starts, drivers included."""
    arguments.launched(context.launch_configurations, sys.argv)
    values = _values(context)
    gwm_graph.graph(**values)
    arguments.check(values)


def _nodes(context):
    restarts = Restarts()
    return [_process(spec, restarts) for spec in gwm_graph.graph(**_values(context))]


def _process(spec, restarts: Restarts, delay: float = 0.0) -> Node:
    """A process that ``restarts`` decides about when it ends; ``delay`` [s] is how much later than
    now it starts.
    """
    born = time.monotonic() + delay

    def ended(event, context):
        if context.is_shutdown:
            return None
        ending = restarts.ended(spec, event.returncode, time.monotonic() - born)
        actions = [LogInfo(msg=f"gwm: {ending.text}")]
        if ending.over:
            actions.append(EmitEvent(event=Shutdown(reason=ending.text)))
        elif ending.delay is not None:
            actions.append(
                TimerAction(period=ending.delay, actions=[_process(spec, restarts, ending.delay)])
            )
        return actions

    return Node(
        executable=gwm_graph.interpreter(),
        exec_name=spec.name,
        arguments=["-m", f"gwm.nodes.{spec.module}", *gwm_graph.ros_arguments(spec)],
        prefix=" ".join(gwm_graph.nice(spec)) or None,
        additional_env=spec.environment,
        on_exit=ended,
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    described = arguments.described()
    declared = {
        name: (str(default), described[name]) for name, default in arguments.defaults().items()
    }
    return LaunchDescription(
        [SetEnvironmentVariable(name, value) for name, value in gwm_graph.environment().items()]
        + [
            DeclareLaunchArgument(name, default_value=default, description=text)
            for name, (default, text) in (declared | arguments.DRIVERS).items()
        ]
        + [
            OpaqueFunction(function=_check),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(Path(__file__).with_name("drivers.launch.py"))),
                condition=IfCondition(LaunchConfiguration("start_drivers")),
            ),
            OpaqueFunction(function=_nodes),
        ]
    )
