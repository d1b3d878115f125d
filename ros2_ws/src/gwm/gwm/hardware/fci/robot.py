"""The gate's view of the robot behind ``controller:=fci``: its state, and its recovery."""

from __future__ import annotations

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from std_srvs.srv import Trigger

from gwm.hardware.reporting_robot import ReportingRobot
from gwm.ros import messages
from gwm.ros.hand_over import FutureCallbacks
from gwm.ros.node import RELIABLE
from gwm.ros.polling_node import PollingNode
from gwm_core import topics
from gwm_core.control.client_monitor import ClientMonitor


class FciRobot(ReportingRobot):
    """Listens to ``fci/state``, and recovers by ``fci/recover``."""

    def __init__(self, node: PollingNode, stopped: Callable[[str], None]):
        super().__init__(ClientMonitor(self._clear, stopped, topics.FCI_STATE))
        self._service = node.create_client(Trigger, topics.FCI_RECOVER, qos_profile=RELIABLE)
        self._callbacks = FutureCallbacks(node)
        node.poll_topic(DiagnosticArray, topics.FCI_STATE, self._on_state, RELIABLE)

    def _on_state(self, message) -> None:
        state = messages.read_diagnostics(message).get("fci", {})
        self.hand_trouble = state.get("hand", "")
        self._monitor.receive(state.get("mode", ""), state.get("trouble", ""), time.monotonic())

    def _clear(self, answer: Callable[[str], None]) -> None:
        if not self._service.service_is_ready():
            answer(f"no service {topics.FCI_RECOVER}")
            return

        def answered(response) -> None:
            answer("" if response.success else response.message)

        self._callbacks.when_done(self._service.call_async(Trigger.Request()), answered)
