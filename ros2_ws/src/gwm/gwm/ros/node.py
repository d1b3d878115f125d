"""Code that every node shares: parameters from a dataclass, QoS, and a main that ends cleanly."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from weakref import WeakKeyDictionary

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.experimental import EventsExecutor
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
# For the command checker and the recorder, which must miss no message.
EVERY = QoSProfile(
    depth=2000, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
)
DISCOVERY_TIME = 1.6  # [s] to discover other processes: up to 0.9 measured
LEASE_TIME = 6.0  # [s] a killed process stays known for 5 s, launch/fastdds.xml
# For timers: setting the wall clock must not stop them.
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
NEWEST = QoSProfile(
    depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
)


def declare(node: Node, kind: type):
    """Declare a parameter for every field of a dataclass, and return their values in one."""
    values = {
        field.name: node.declare_parameter(field.name, field.default).value
        for field in fields(kind)
    }
    return kind(**values)


MAX_TAKEN = 500  # messages in one callback


def take_waiting(subscription: Subscription, limit: int = MAX_TAKEN) -> Iterator:
    """Yield the messages that wait at a subscription, the oldest first, at most ``limit``."""
    for _ in range(limit):
        with subscription.handle:
            waiting = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if waiting is None:
            return
        yield waiting[0]


def subscribe_to_all(
    node: Node, kind: type, topic: str, take: Callable, qos: QoSProfile, **more
) -> Subscription:
    """Return a subscription that takes all waiting messages in one callback.

    On a busy machine a callback may run less often than messages come, and the middleware silently
    replaces those that wait.
    """

    def drain(message) -> None:
        take(message)
        for waiting in take_waiting(subscription, min(qos.depth, MAX_TAKEN)):
            take(waiting)

    subscription = node.create_subscription(kind, topic, drain, qos, **more)
    return subscription


def with_time_sent(callback: Callable) -> Callable:
    """Make a subscription's callback of one that takes a message, and when it was sent [ns].

    The stamps of a message are a second argument, but EventsExecutor passes both as a pair.
    """

    def take(*given) -> None:
        message, stamps = given if len(given) == 2 else given[0]
        callback(message, stamps["source_timestamp"])

    # by which rclpy knows that it takes the stamps too
    take.__signature__ = inspect.signature(lambda message, stamps: None)
    return take


GATE_PRIORITY = 40  # of SCHED_FIFO
HEARTBEAT_PRIORITY = 10


def now_ns(node: Node) -> int:
    """Host ROS time [ns]."""
    return node.get_clock().now().nanoseconds


def wait_to_be_alone(node: Node, topics: Iterable[str], own: int) -> None:
    """Raise InputError where a topic keeps more than ``own`` publishers in this ROS domain."""
    time.sleep(DISCOVERY_TIME)
    deadline = time.monotonic() + LEASE_TIME
    for topic in topics:
        _wait_until_alone(node, topic, own, deadline)


def _wait_until_alone(node: Node, topic: str, own: int, deadline: float) -> None:
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
    """Refuse `ros2 param set`: every parameter is read once, at the start."""
    names = ", ".join(parameter.name for parameter in parameters)
    return SetParametersResult(
        successful=False, reason=f"{names}: read at the start alone, so start it anew with it"
    )


def _refuse_ignored(node: Node) -> None:
    """Raise InputError for a given parameter that the node does not have."""
    for name in node._parameter_overrides:
        if not node.has_parameter(name) and not name.startswith("qos_overrides."):
            own = ", ".join(
                sorted(name for name in node._parameters if not name.startswith("qos_overrides."))
            )
            raise InputError(f"{node.get_name()} has no parameter '{name}': valid are {own}")


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block, which is short.

    Raised while rclpy converts a message, KeyboardInterrupt would become a RuntimeError.
    """
    if threading.current_thread() is not threading.main_thread():  # which Ctrl-C never reaches
        yield
        return
    held: list[tuple] = []
    before = signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held and callable(before):
        before(*held[0])


_bad_input: WeakKeyDictionary[Node, list[InputError]] = WeakKeyDictionary()  # of nodes in ``spin``


def end(node: Node, error: InputError) -> None:
    """End ``spin`` with this error. Of one raised in a callback rclpy would log a traceback too.

    Raises the error where another executor runs the node.
    """
    if node not in _bad_input:
        raise error
    _bad_input[node].append(error)


def spin(make, before_exit=None) -> int:
    """Run a node until SIGINT or SIGTERM. Bad input is one line and exit 2.

    Args:
        make: builds the node.
        before_exit: called with the node before it is destroyed.
    """
    # rclpy's handlers would end the context at the signal, before the gate can ramp to rest. An
    # exception could fall between computing a command and sending it. So a flag is set instead.
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
        executor = EventsExecutor()  # of half the CPU time of SingleThreadedExecutor
        executor.add_node(node)
        bad_input = _bad_input.setdefault(node, [])
        try:
            while not over and not bad_input:
                executor.spin_once(timeout_sec=0.1)
        finally:  # an exception in a callback must not leave the arm in motion either
            if before_exit is not None:
                before_exit(node)
        if bad_input:
            raise bad_input[0]
    except InputError as error:
        print(f"gwm: {error}", file=sys.stderr, flush=True)
        code = 2
    finally:
        if executor is not None:
            # While its context lives, or its destructor complains.
            executor.shutdown()
        if node is not None:
            if hasattr(node, "close"):
                node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return code
