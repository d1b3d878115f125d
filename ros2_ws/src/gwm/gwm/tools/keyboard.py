"""``gwm teleop``: publish this terminal's keyboard as a Joy."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Joy

from gwm.graph.environment import process_environment
from gwm.ros import messages
from gwm.ros.node import RELIABLE, SENSOR, now_ns
from gwm_core import topics
from gwm_core.control.devices import Keyboard
from gwm_core.errors import InputError

HELP = """hold a key to move:  w/s forward, back   a/d left, right   r/f up, down
                     u/o roll   i/k pitch   j/l yaw
press:  c close   v open   b give back to the policy   q quit
Each of these keys but b and q takes the arm from the policy."""
PERIOD = 0.02  # [s]


def drive() -> int:
    """Publish the keyboard until q or Ctrl-C."""
    if not sys.stdin.isatty():
        raise InputError("gwm teleop reads keys from a terminal, and this input is none")
    os.environ.update(process_environment())
    rclpy.init(args=[])
    node = rclpy.create_node("keyboard")
    publisher = node.create_publisher(Joy, topics.JOY, SENSOR)
    keyboard = Keyboard()
    shown = {}

    def show(message) -> None:
        shown.update(messages.read_diagnostics(message))

    for topic in (topics.STATUS, topics.DIAGNOSTICS):
        node.create_subscription(DiagnosticArray, topic, show, RELIABLE)
    print(HELP)
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        while True:
            if select.select([sys.stdin], [], [], 0)[0]:
                key = os.read(sys.stdin.fileno(), 1).decode(errors="replace")
                if key == "q":
                    return 0
                keyboard.press(key, time.monotonic())
            axes, buttons = keyboard.joy(time.monotonic())
            message = Joy(axes=axes, buttons=buttons)
            messages.set_stamp(message.header, now_ns(node))
            publisher.publish(message)
            rclpy.spin_once(node, timeout_sec=PERIOD)
            texts = [
                shown.get(name, {}).get("message", f"no {name}") for name in ("gate", "teleop")
            ]
            print(f"\r\033[K{' | '.join(texts)}", end="", flush=True)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        print()
        node.destroy_node()
        rclpy.try_shutdown()
