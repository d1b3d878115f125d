"""A ROS domain of its own for each test, and an operator in it."""

import random

import pytest


@pytest.fixture
def domain(monkeypatch):
    from gwm.graph import environment

    monkeypatch.setenv("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 100)))
    for name, value in environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def operator(domain):
    import rclpy
    from gwm.operator import Operator

    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    operator = Operator()
    yield operator
    operator.destroy_node()
    rclpy.try_shutdown()
