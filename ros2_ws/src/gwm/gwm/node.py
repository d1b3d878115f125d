"""What every node shares: parameters declared from a dataclass, QoS, and a main that ends cleanly."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import fields

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from gwm_core.errors import InputError

SENSOR = QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=20, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
NEWEST = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


def declare(node: Node, kind: type):
    """Declare a parameter for every field of a dataclass with defaults, and return it filled with what was given."""
    names = [field.name for field in fields(kind)]
    values = {field.name: node.declare_parameter(field.name, field.default).value for field in fields(kind)}
    return kind(**{name: values[name] for name in names})


def now_ns(node: Node) -> int:
    """Host ROS time [ns]."""
    return node.get_clock().now().nanoseconds


def spin(make, last_wish=None) -> int:
    """Run a node until SIGINT or SIGTERM. Bad input is one line and exit 2.

    Args:
        make: builds the node.
        last_wish: called with the node before it is destroyed; it may still spin it.
    """
    # our own handler, not rclpy's: the context must outlive the signal so that the gate can ramp to rest
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node, code = None, 0
    try:
        node = make()
        os.nice(node.declare_parameter("nice", 0).value)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except InputError as error:
        print(f"gwm: {error}", file=sys.stderr, flush=True)
        code = 2
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if node is not None:
            if last_wish is not None:
                last_wish(node)
            if hasattr(node, "close"):
                node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return code
