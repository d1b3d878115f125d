"""The gate's process in shadow and at a share of its speed, over real topics."""

import json
import os
import random

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from gwm.graph.config import GraphConfig
from gwm.graph.environment import process_environment
from gwm.graph.process_list import processes
from gwm.process.supervisor import Supervisor
from gwm.ros.operator_client import OperatorClient
from sensor_msgs.msg import JointState

from gwm_core import topics
from gwm_core.gate_status import State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def operator(monkeypatch):
    monkeypatch.setenv(
        "ROS_DOMAIN_ID",
        os.environ.get("ROS_DOMAIN_ID") or str(random.SystemRandom().randint(1, 100)),
    )
    for name, value in process_environment().items():
        monkeypatch.setenv(name, value)
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    operator = OperatorClient()
    yield operator
    operator.destroy_node()
    rclpy.try_shutdown()


def test_in_shadow_plans_are_judged_and_nothing_reaches_the_arm(operator, tmp_path):
    nodes = processes(GraphConfig(policy="expert", record=str(tmp_path), shadow=True))
    supervisor, sent, shadowed = Supervisor(nodes, log=open(tmp_path / "log", "w")), [], []
    operator.create_subscription(JointState, topics.TARGET_JOINT, sent.append, 10)
    operator.create_subscription(JointState, topics.SHADOW, shadowed.append, 10)
    supervisor.start()
    try:
        assert operator.wait("start", lambda: operator.ready, 90, supervisor.poll), (
            tmp_path / "log"
        ).read_text()
        operator.reset_simulation("lift", 300, "nominal")
        operator.arm(supervisor.poll)
        assert operator.wait("shadow", lambda: operator.state is State.SHADOW, 15, supervisor.poll)
        moving = lambda: shadowed and np.abs(shadowed[-1].velocity).max() > 0.02  # noqa: E731
        assert operator.wait("motion that is not sent", moving, 15, supervisor.poll)
        assert not sent and not operator.commands and operator.status.accepted > 0
    finally:
        supervisor.stop()


@pytest.mark.long
def test_at_a_share_of_the_speed_nothing_is_faster(operator, tmp_path):
    nodes = processes(GraphConfig(policy="expert", record=str(tmp_path), speed=0.2))
    supervisor = Supervisor(nodes, log=open(tmp_path / "log", "w"))
    supervisor.start()
    try:
        assert operator.wait("start", lambda: operator.ready, 90, supervisor.poll), (
            tmp_path / "log"
        ).read_text()
        operator.reset_simulation("lift", 300, "nominal")
        operator.arm(supervisor.poll)
        moving = lambda: operator.commands and np.abs(operator.commands[-1][1]).max() > 0.02  # noqa: E731
        assert operator.wait("motion", moving, 15, supervisor.poll)
        operator.wait("some of it", lambda: False, 4.0, supervisor.poll)
        found = operator.command_check(tcp_speed=0.05)
        assert found.total == 0 and found.use["stream tcp speed"] > 0.5, json.dumps(found.use)
    finally:
        supervisor.stop()
