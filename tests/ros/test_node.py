"""What becomes of a node whose callback fails."""

import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

BAD = """
from rclpy.node import Node
from gwm.node import spin

class Bad(Node):
    def __init__(self):
        super().__init__("bad")
        self.create_timer(0.01, self.fail)

    def fail(self):
        raise RuntimeError("boom")

spin(Bad, lambda node: print("at rest", flush=True))
"""


def test_an_exception_in_a_callback_ends_the_process_after_the_last_wish(domain):
    """Of the gate that is a ramp to rest."""
    done = subprocess.run([sys.executable, "-c", BAD], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "at rest" in done.stdout and "RuntimeError: boom" in done.stderr
