"""What stands where a person would: it asks again where it is refused for a moment, and waits for
what gets on.
"""

import gc
import threading
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from gwm.process.session import INTERRUPTED, ending
from gwm.process.supervisor import open_log
from gwm.ros import messages, operator_client
from gwm.ros.node import EVERY, RELIABLE, now_ns, subscribe_to_all
from gwm.ros.operator_client import GraphEnded, RequestFailed, RequestRefused
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from std_msgs.msg import UInt64
from std_srvs.srv import Trigger

from gwm_core import topics
from gwm_core.errors import InputError

pytestmark = pytest.mark.timeout(120)


class Troubled(rclpy.node.Node):
    """A gate and a recorder on a busy machine: refusals that pass, homing that stops, an episode
    slow to write.
    """

    def __init__(self):
        super().__init__("troubled")
        self.state, self.cause, self.asked = "FAULT", "reflex", []
        self.refusals, self.stops = 2, 2  # of arming; of homing
        self.done, self.waiting, self.writes = 0, 40, True
        self.written = threading.Event()
        self._status = self.create_publisher(DiagnosticArray, topics.STATUS, RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        group = ReentrantCallbackGroup()
        self.create_timer(0.05, self._tell, callback_group=group)
        for name in ("gate/arm", "gate/home", "gate/hold", "gate/stop", "gate/reset"):
            self.create_service(Trigger, name, self._serve(name), callback_group=group)
        for name in ("recorder/start", "recorder/save", "recorder/discard"):
            self.create_service(Trigger, name, self._serve(name), callback_group=group)

    def _tell(self):
        values = {
            "state": self.state,
            "cause": self.cause,
            "plan": 0,
            "latency_ms": 0,
            "answer": "",
        }
        self._status.publish(
            messages.diagnostics(now_ns(self), "gate", f"{self.state}: {self.cause}", values)
        )
        if self.writes and self.waiting:
            self.done, self.waiting = self.done + 1, self.waiting - 1
            if not self.waiting:
                self.written.set()
        values = {"done": self.done, "waiting": self.waiting}
        self._diagnostics.publish(
            messages.diagnostics(now_ns(self), "recorder", "recording", values)
        )

    def _serve(self, name):
        def serve(request, response):
            self.asked.append(name)
            response.message = self._act(name)
            response.success = response.message == ""
            return response

        return serve

    def _act(self, name):
        if name == "gate/reset":
            self.state, self.cause = "DISARMED", "reset by operator"
        elif name == "gate/arm":
            if self.refusals:
                self.refusals -= 1
                return "no fresh joint state"
            self.state, self.cause = "HOLD", "armed"
        elif name == "gate/home":
            late = self.stops > 0
            self.stops -= late
            self.state, self.cause = "HOLD", "gate late" if late else "at home"
        elif name == "recorder/save" and not self.written.wait(30):
            return "not written"
        elif name == "recorder/start" and self.asked.count(name) == 1:
            return "already recording: save or discard first"
        return ""


@pytest.fixture
def troubled(domain):
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node, own = Troubled(), operator_client.OperatorClient()
    executor = MultiThreadedExecutor(4)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    own.said = []
    own.say = own.said.append
    yield node, own
    node.written.set()
    executor.shutdown()
    thread.join(10)
    own.destroy_node()
    node.destroy_node()
    rclpy.try_shutdown()
    context.shutdown()


def go_on():
    return ""


def test_it_homes_and_arms_in_spite_of_refusals_and_stops_that_pass(troubled):
    node, own = troubled
    own.home(go_on)
    assert node.cause == "at home" and node.asked.count("gate/home") == 3
    assert sum("not at home, gate late: again" in text for text in own.said) == 2
    node.state, node.refusals = "DISARMED", 2
    own.arm(go_on)
    assert sum("gate/arm: no fresh joint state: again" in text for text in own.said) == 2
    own.record(go_on)
    assert node.asked[-3:] == ["recorder/start", "recorder/discard", "recorder/start"]


def test_what_is_refused_for_good_is_trouble_with_its_reason(troubled, monkeypatch):
    node, own = troubled
    monkeypatch.setattr(operator_client, "GRANTED", 1.0)
    node.state, node.cause, node.refusals = "DISARMED", "not armed yet", 1000
    with pytest.raises(RequestRefused, match="gate/arm: no fresh joint state"):
        own.arm(go_on)
    with pytest.raises(GraphEnded, match="sim ended with code 1 while waiting for"):
        own.wait("time", lambda: False, 5.0, lambda: "sim ended with code 1")


def test_a_save_is_waited_for_while_it_gets_on_and_not_for_ever(troubled, monkeypatch):
    node, own = troubled
    # [s]; writing takes two, a message every 50 ms
    monkeypatch.setattr(operator_client, "PATIENCE", 1.2)
    own.request("recorder/save", go_on)
    assert node.waiting == 0 and any(
        "messages are to be written before it" in text for text in own.said
    )
    node.written.clear()
    node.waiting, node.writes = 7, False
    with pytest.raises(RequestFailed, match="with 7 messages to be written before it"):
        own.request("recorder/save", go_on)


def test_all_that_waits_is_taken_in_one_turn(domain):
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    here, there = (rclpy.create_node(name, context=context) for name in ("here", "there"))
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(here)
    try:
        got, raw = [], []
        subscribe_to_all(here, UInt64, "numbers", lambda m: got.append(m.data), EVERY)
        subscribe_to_all(here, UInt64, "numbers", raw.append, EVERY, raw=True)
        publisher = there.create_publisher(UInt64, "numbers", EVERY)
        while publisher.get_subscription_count() < 2:
            executor.spin_once(timeout_sec=0.1)
        for number in range(100):
            publisher.publish(UInt64(data=number))
        assert publisher.wait_for_all_acked(rclpy.duration.Duration(seconds=10))
        for _ in range(3):  # a turn for each, and one that may find nothing
            executor.spin_once(timeout_sec=0.5)
        assert got == list(range(100)) and [bytes(m)[4] for m in raw] == got
    finally:
        executor.shutdown()
        here.destroy_node()
        there.destroy_node()
        context.shutdown()


@pytest.mark.parametrize(
    "error, code, text",
    [
        (RequestFailed("no answer"), 1, "no answer"),
        (GraphEnded("sim ended"), 1, "sim ended"),
        (InputError("another graph"), 2, "another graph"),
        (OSError("disk"), 2, "disk"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted"),
    ],
)
def test_what_ends_a_run_early_leaves_its_table(error, code, text):
    with ending() as end:
        raise error
    assert (end.code, end.trouble, end.error) == (code, text, error)
    with pytest.raises(ZeroDivisionError), ending():
        raise ZeroDivisionError  # a fault of ours stays one


def test_logs_are_for_their_owner_alone(tmp_path):
    (tmp_path / "log").touch(0o644)
    for mode in "wa":
        with open_log(tmp_path / "log", mode) as file:
            file.write("token")
        assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_an_operator_leaves_no_threads_and_files_behind(domain):
    """A protocol makes one for every trial."""

    def held():
        folder = Path("/proc/self")
        return sum(len([*(folder / kind).iterdir()]) for kind in ("task", "fd"))

    counts = []
    for _ in range(4):
        rclpy.init()
        operator = operator_client.OperatorClient()
        operator.wait("a moment", lambda: False, 0.1, lambda: "")
        operator.destroy_node()
        rclpy.try_shutdown()
        del operator
        gc.collect()
        counts.append(held())
    assert counts[-1] <= counts[0] + 2, counts
