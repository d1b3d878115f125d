"""What becomes of a node whose callback fails."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy")

from gwm.ros.node import interrupt_held

BAD = """
from rclpy.node import Node
from gwm.ros.node import spin

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
    done = subprocess.run(
        [sys.executable, "-c", BAD], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "at rest" in done.stdout and "RuntimeError: boom" in done.stderr


UNREADABLE = """
import time
import numpy as np
import rclpy
from gwm.nodes.gate_node import GateNode
from gwm.ros import messages
from gwm.ros.node import RELIABLE, SENSOR, now_ns
from gwm_core import topics
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.types import ActionChunk
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String, UInt64
from trajectory_msgs.msg import JointTrajectory

rclpy.init(args=["--ros-args", "-p", "auto_arm:=true", "-p", "state_timeout:=0.5"])
gate, driver = GateNode(), Node("driver")
joints = driver.create_publisher(JointState, topics.JOINT_STATES, RELIABLE)
hand = driver.create_publisher(JointState, topics.GRIPPER_STATES, RELIABLE)
beats = driver.create_publisher(UInt64, topics.ALIVE, SENSOR)
chunks = driver.create_publisher(JointTrajectory, topics.CHUNK, RELIABLE)
words = driver.create_publisher(String, "words", 10)
sent = []
send = gate._send
gate._send = lambda command: (sent.append(command.reference), send(command))
away = HOME_Q + np.linspace(0.02, 0.3, 16)[:, None]

def serve(k):
    stamp = now_ns(driver)
    q, dq = (sent[-1].q, sent[-1].dq) if sent else (HOME_Q, np.zeros(7))
    joints.publish(messages.joint_state(stamp, topics.ARM_JOINTS, q, dq))
    hand.publish(messages.joint_state(stamp, topics.FINGER_JOINTS, [0.04, 0.04]))
    beats.publish(UInt64(data=1))
    if k % 50 == 49:
        chunks.publish(messages.trajectory(ActionChunk(stamp, away, np.full(16, 0.08), 0.1)))
    words.publish(String(data="x"))

def fail(message):
    raise RuntimeError("unreadable")

def step():
    gate._step()
    time.sleep(0.01)

k = 0
while not (sent and np.abs(sent[-1].dq).max() > 0.1):
    serve(k)
    step()
    if k == 40:
        refusal = gate._arm_gate()
        assert refusal == "", refusal
    k += 1
    assert k < 1500, (gate._gate.cause, gate._gate.counts.refused, gate._reasons.current)
gate.poll_topic(String, "words", fail, 10)
try:
    while True:
        serve(0)
        step()
except RuntimeError as error:
    print("ended by", error, np.abs(sent[-1].dq).max() > 0.05, flush=True)
serve(0)
serve(0)
gate.rest()
print("speed", np.abs(sent[-1].dq).max(), flush=True)
"""


@pytest.mark.slow
def test_the_gate_ramps_to_rest_also_where_every_message_fails(domain):
    done = subprocess.run(
        [sys.executable, "-c", UNREADABLE], capture_output=True, text=True, timeout=90, check=False
    )
    said = done.stdout.splitlines()
    assert "ended by unreadable True" in said, done.stdout + done.stderr
    assert "gate: at rest, DISARMED" in said
    assert float(said[-1].removeprefix("speed ")) < 1e-6
    assert done.stderr.count("no more messages are taken: unreadable") == 1


BAD_INPUT = """
import sys
from rclpy.node import Node
from gwm.ros.node import spin
from gwm.ros.worker import LatestWorker
from gwm_core.errors import InputError

class BadInput(Node):
    def __init__(self):
        super().__init__("bad")
        self.worker = LatestWorker(self, self.build, print)

    def build(self):
        raise InputError("no such file")

sys.exit(spin(BadInput))
"""


def test_bad_input_that_a_thread_finds_is_one_line(domain):
    done = subprocess.run(
        [sys.executable, "-c", BAD_INPUT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.splitlines()) == (2, ["gwm: no such file"])


STILL = """
import sys
from dataclasses import dataclass
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from gwm.ros.node import declare, spin

@dataclass(frozen=True)
class Numbers:
    rate_hz: float = 100.0

class Still(Node):
    def __init__(self):
        super().__init__("still")
        declare(self, Numbers)
        self.create_timer(0.01, self.change)

    def change(self):
        for parameter in (Parameter("rate_hz", value=50.0), Parameter("use_sim_time", value=True)):
            (answer,) = self.set_parameters([parameter])
            value = self.get_parameter(parameter.name).value
            print(parameter.name, answer.successful, value, answer.reason, flush=True)
        raise SystemExit

sys.exit(spin(Still))
"""


def run_still(*words):
    command = [sys.executable, "-c", STILL, "--ros-args", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_parameter_that_is_read_once_says_so_when_it_is_set(domain):
    done = run_still()
    rate, clock = done.stdout.splitlines()[:2]
    assert rate.startswith("rate_hz False 100.0 rate_hz: read at the start alone"), done.stderr
    assert clock.startswith("use_sim_time False False use_sim_time: read at the start alone")


@pytest.mark.parametrize("file", [False, True])
def test_a_parameter_that_the_node_does_not_have_is_refused(domain, tmp_path, file):
    (tmp_path / "p.yaml").write_text("still:\n  ros__parameters:\n    rate: 50.0\n")
    done = run_still(
        *(("--params-file", str(tmp_path / "p.yaml")) if file else ("-p", "rate:=50.0"))
    )
    assert (
        done.returncode == 2
        and "gwm: still has no parameter 'rate': valid are rate_hz" in done.stderr
    )


def test_a_node_that_is_told_to_end_while_it_imports_ends_without_a_word():
    code = "import sys, time; sys.orig_argv.append('gwm.slow_node'); import gwm; "
    code += "print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "") and process.returncode == 0


def test_ctrl_c_waits_for_the_end_of_a_spin():
    """Else it falls into the conversion of a message, which makes a RuntimeError of it."""
    before, reached = signal.signal(signal.SIGINT, signal.default_int_handler), []
    try:
        with pytest.raises(KeyboardInterrupt), interrupt_held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            reached.append("the end")
        assert reached and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with interrupt_held():
            reached.append("no interrupt")
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(reached) == 2
