"""Start the processes of gwm.graph.process_list with ros2 launch. `gwm up` starts the same ones.

start_drivers:=true also starts the drivers of the robot and the cameras (drivers.launch.py).
"""

import sys
import time
from pathlib import Path

from gwm.graph import arguments, environment, process_list
from gwm.graph.config import GraphConfig
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


def _config(context) -> GraphConfig:
    names = arguments.defaults()
    return arguments.parse(
        f"{name}:={LaunchConfiguration(name).perform(context)}" for name in names
    )


def _check(context):
    """Refuse a wrong argument before anything starts, drivers included."""
    arguments.check_launch_arguments(context.launch_configurations, sys.argv)
    config = _config(context)
    process_list.processes(config)
    arguments.preflight(config)


def _nodes(context):
    restarts = Restarts()
    return [_process(spec, restarts) for spec in process_list.processes(_config(context))]


def _process(spec, restarts: Restarts, delay: float = 0.0) -> Node:
    """Return a process that starts in ``delay`` [s]; ``restarts`` decides what follows its end."""
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
        executable=environment.interpreter(),
        exec_name=spec.name,
        arguments=["-m", f"gwm.nodes.{spec.module}", *process_list.ros_arguments(spec)],
        prefix=" ".join(process_list.nice(spec)) or None,
        additional_env=spec.environment,
        on_exit=ended,
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    texts = arguments.descriptions()
    declared = {name: (str(default), texts[name]) for name, default in arguments.defaults().items()}
    return LaunchDescription(
        [
            SetEnvironmentVariable(name, value)
            for name, value in environment.process_environment().items()
        ]
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
