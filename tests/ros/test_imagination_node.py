"""A chunk that waits for approval is compared and predicted, however slow the machine is."""

import threading

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from gwm.nodes import imagination_node
from gwm.nodes.imagination_node import ImaginationNode
from gwm.nodes.parts.imagination_workers import ComparedScene
from gwm.ros import gate_messages, messages, scene_messages
from rclpy.experimental import EventsExecutor

from gwm_core import topics
from gwm_core.gate_status import GateStatus, State, WaitingChunk
from gwm_core.geometry.camera import intrinsics
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.types import ActionChunk

STEP = 400_000_000  # [ns] between chunks


@pytest.fixture
def imagination(domain, monkeypatch):
    """The node, whose threads compare one scene for each ``permits.release()`` and then predict."""
    permits = threading.Semaphore(0)
    compared, predicted = [], []

    def comparison(*_):
        def compare(request):
            permits.acquire()
            compared.append(request.plan)
            yield ComparedScene(request, None, {}, None)

        return compare

    def prediction(*_):
        return lambda found: iter([found.plan])

    monkeypatch.setattr(imagination_node, "comparison", comparison)
    monkeypatch.setattr(imagination_node, "prediction", prediction)
    monkeypatch.setattr(ImaginationNode, "_show", lambda self, plan: predicted.append(plan))
    rclpy.init()
    node = ImaginationNode()
    executor = EventsExecutor()
    executor.add_node(node)
    node._Ks = {name: (intrinsics(64, 48, 42.5), 64, 48) for name in node._site.cameras}
    node._on_gripper(messages.joint_state(STEP, topics.FINGER_JOINTS, [0.04, 0.04]))
    node._on_joints(messages.joint_state(STEP, topics.ARM_JOINTS, HOME_Q, np.zeros(7)))

    def spin_until(holds):
        for _ in range(400):
            if holds():
                return True
            executor.spin_once(timeout_sec=0.02)
        return False

    node.permits, node.compared, node.predicted, node.spin_until = (
        permits,
        compared,
        predicted,
        spin_until,
    )
    yield node
    permits.release(100)
    executor.shutdown()
    node.close()
    node.destroy_node()
    rclpy.try_shutdown()


def arrive(node, number):
    """A chunk and its scene come."""
    stamp = number * STEP
    chunk = ActionChunk(stamp, np.repeat(HOME_Q[None], 16, axis=0), np.full(16, 0.08))
    scene = np.zeros((3, 14), np.float32)
    scene[:, 6] = 1
    node._on_chunk(messages.trajectory(chunk))
    node._on_scene(scene_messages.scene(stamp, scene))
    return stamp


def waits(node, stamp):
    waiting = WaitingChunk(str(stamp)) if stamp else None
    status = GateStatus(State.HOLD, "waits", waiting=waiting)
    node._on_status(gate_messages.status_message(1, status))


@pytest.mark.parametrize("told_late", [False, True])
def test_a_waiting_chunk_is_predicted_though_newer_ones_come(imagination, told_late):
    node = imagination
    plans = [arrive(node, number) for number in (1, 2)]
    waiting = arrive(node, 3)
    if not told_late:
        waits(node, waiting)
    newer = [arrive(node, number) for number in (4, 5)]
    if told_late:
        waits(node, waiting)
    node.permits.release(2)
    assert node.spin_until(lambda: waiting in node.predicted)
    assert node.compared[-1] == waiting and not {*newer} & {*node.predicted}
    newest = arrive(node, 6)  # compared too, but not predicted
    node.permits.release(1)
    assert node.spin_until(lambda: newest in node.compared and not node._turns._to_compare)
    assert newest not in node.predicted
    waits(node, 0)
    last = arrive(node, 7)
    node.permits.release(1)
    assert node.spin_until(lambda: last in node.predicted)
    assert {*node.predicted} <= {*plans, waiting, last}


def test_a_chunk_that_was_compared_before_it_waits_is_predicted_anew(imagination):
    node = imagination
    first = arrive(node, 1)
    node.permits.release(1)
    assert node.spin_until(lambda: node.predicted == [first])
    waits(node, first)
    assert node.spin_until(lambda: node.predicted == [first, first])
