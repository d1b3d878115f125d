"""What every node shares: parameters declared from a dataclass, QoS, and a main that ends
cleanly.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import fields

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from gwm.graph.environment import end_with_parent
from gwm_core.errors import InputError

SENSOR = QoSProfile(
    depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
)
RELIABLE = QoSProfile(
    depth=20, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
)
# for the judge
EVERY = QoSProfile(
    depth=2000, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
)
DISCOVERY_TIME = 1.6  # [s] for other processes to be seen: up to 0.9 measured
LEASE_TIME = 6.0  # [s] a killed process is remembered for 5 s, launch/fastdds.xml
# for timers: setting the wall clock must not stop them
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
NEWEST = QoSProfile(
    depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
)


def declare(node: Node, kind: type):
    """Declare a parameter for every field of a dataclass with defaults, and return it filled with
    what was given.
    """
    names = [field.name for field in fields(kind)]
    values = {
        field.name: node.declare_parameter(field.name, field.default).value
        for field in fields(kind)
    }
    return kind(**{name: values[name] for name in names})


AT_ONCE = 500  # messages taken in one turn at most


def subscribe_to_all(
    node: Node, kind: type, topic: str, take: Callable, qos: QoSProfile, **more
) -> Subscription:
    """A subscription that takes all that waits, and not one message in each turn of the executor.

    A turn looks at every entity of the node. On a busy machine there are fewer turns than messages,
    and the middleware replaces those that wait without a word.
    """

    def drain(message) -> None:
        take(message)
        for _ in range(AT_ONCE):
            with subscription.handle:
                waiting = subscription.handle.take_message(kind, subscription.raw)
            if waiting is None:
                return
            take(waiting[0])

    subscription = node.create_subscription(kind, topic, drain, qos, **more)
    return subscription


GATE_PRIORITY, BEAT_PRIORITY = 40, 10  # of SCHED_FIFO


def prioritize(level: int) -> str:
    """Ask for real-time priority for this thread and those it will start, none that it has. Says
    what it got.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(level))
    except PermissionError:
        return "normal priority (no right to SCHED_FIFO: set rtprio in /etc/security/limits.conf)"
    return f"SCHED_FIFO {level}"


def now_ns(node: Node) -> int:
    """Host ROS time [ns]."""
    return node.get_clock().now().nanoseconds


def wait_to_be_alone(node: Node, topic: str, own: int) -> None:
    """Raise InputError when more than ``own`` publishers of ``topic`` stay in this ROS domain."""
    time.sleep(DISCOVERY_TIME)
    deadline = time.monotonic() + LEASE_TIME
    if node.count_publishers(topic) > own:
        node.get_logger().warn(
            f"{topic} has another publisher: waiting {LEASE_TIME:.0f} s in case its process is dead"
        )
    while node.count_publishers(topic) > own:
        if time.monotonic() > deadline:
            domain = os.environ.get("ROS_DOMAIN_ID", "0")
            raise InputError(
                f"{topic} has a publisher in ROS domain {domain} already: stop that graph, or set "
                "ROS_DOMAIN_ID to a free domain (0-101)"
            )
        time.sleep(0.1)


def _refuse_change(parameters) -> SetParametersResult:
    """Every parameter is read once, at the start: an answer of success to `ros2 param set` would
    not be true.
    """
    names = ", ".join(parameter.name for parameter in parameters)
    return SetParametersResult(
        successful=False, reason=f"{names}: read at the start alone, so start it anew with it"
    )


def _refuse_ignored(node: Node) -> None:
    """Raise InputError for a parameter that was given and that the node does not have: it would be
    ignored.
    """
    for name in node._parameter_overrides:
        if not node.has_parameter(name) and not name.startswith("qos_overrides."):
            own = ", ".join(
                sorted(name for name in node._parameters if not name.startswith("qos_overrides."))
            )
            raise InputError(f"{node.get_name()} has no parameter '{name}': valid are {own}")


def spin(make, last_wish=None) -> int:
    """Run a node until SIGINT or SIGTERM. Bad input is one line and exit 2.

    Args:
        make: builds the node.
        last_wish: called with the node before it is destroyed; it may still spin it.
    """
    # not rclpy's handlers: the context must outlive the signal so that the gate can ramp to rest;
    # and no exception, which could fall between computing a command and sending it
    over: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: over.append(number))
    end_with_parent()
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node, executor, code = None, None, 0
    try:
        node = make()
        _refuse_ignored(node)
        node.add_on_set_parameters_callback(_refuse_change)
        if node.get_parameter("use_sim_time").value:
            raise InputError("use_sim_time:=true is refused: plans are aged by the real clock")
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            while not over:
                executor.spin_once(timeout_sec=0.1)
        finally:  # an exception in a callback too must not leave the arm in motion
            if last_wish is not None:
                last_wish(node)
    except InputError as error:
        print(f"gwm: {error}", file=sys.stderr, flush=True)
        code = 2
    finally:
        if executor is not None:
            # while its context lives: its destructor complains about one that does not
            executor.shutdown()
        if node is not None:
            if hasattr(node, "close"):
                node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return code
