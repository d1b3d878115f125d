"""What nodes do beside rclpy's own ways, on the executor that they run on and on the usual one."""

import threading

import pytest

rclpy = pytest.importorskip("rclpy")

from gwm.ros.hand_over import HandOver
from gwm.ros.node import serve_later, with_time_sent
from rclpy.executors import SingleThreadedExecutor
from rclpy.experimental import EventsExecutor
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import Trigger

COUNT = 2000


@pytest.fixture(params=[EventsExecutor, SingleThreadedExecutor])
def graph(request, domain):
    """A context, a node, and a function that spins it until a condition holds."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("node", context=context)
    executor = request.param(context=context)

    def spin_until(holds, rounds=400):
        if node not in executor.get_nodes():
            executor.add_node(node)
        for _ in range(rounds):
            if holds():
                return True
            executor.spin_once(timeout_sec=0.05)
        return False

    yield node, spin_until
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_values_of_two_threads_come_whole_and_in_order_in_the_executors_thread(graph):
    node, spin_until = graph
    taken = [], []
    threads = set()

    def deliver(which, value):
        threads.add(threading.current_thread())
        taken[which].append(value)

    hand_overs = [HandOver(node, lambda value, k=k: deliver(k, value)) for k in range(2)]
    for hand_over in hand_overs:
        hand_over.put(-1)  # before there is an executor

    def feed(hand_over):
        for value in range(COUNT):
            hand_over.put(value)

    feeders = [threading.Thread(target=feed, args=(one,)) for one in hand_overs]
    for feeder in feeders:
        feeder.start()
    assert spin_until(lambda: all(len(values) == COUNT + 1 for values in taken))
    assert taken == ([*range(-1, COUNT)],) * 2
    assert threads == {threading.current_thread()}


def test_an_exception_while_a_value_is_delivered_ends_the_executor(graph):
    node, spin_until = graph

    def deliver(value):
        raise RuntimeError(value)

    hand_over = HandOver(node, deliver)
    spin_until(lambda: False, rounds=2)
    threading.Thread(target=hand_over.put, args=("boom",)).start()
    with pytest.raises(RuntimeError, match="boom"):
        spin_until(lambda: False)


def test_a_message_comes_with_the_time_that_it_was_sent(graph):
    node, spin_until = graph
    got = []
    node.create_subscription(
        String, "words", with_time_sent(lambda message, sent: got.append((message.data, sent))), 10
    )
    publisher = node.create_publisher(String, "words", 10)
    assert spin_until(lambda: publisher.get_subscription_count() == 1)
    before = node.get_clock().now().nanoseconds
    publisher.publish(String(data="one"))
    after = node.get_clock().now().nanoseconds
    assert spin_until(lambda: got)
    ((words, sent),) = got
    assert words == "one" and before <= sent <= after


def test_a_service_may_answer_later_and_in_another_order(graph):
    node, spin_until = graph
    open_answers = []

    def serve(request, response):
        response.success = True
        response.message = str(len(open_answers))
        open_answers.append((answer := Future(), response))
        return answer

    serve_later(node, Trigger, "act", serve)
    client = node.create_client(Trigger, "act")
    assert spin_until(client.service_is_ready)
    first = client.call_async(Trigger.Request())
    assert spin_until(lambda: len(open_answers) == 1)
    second = client.call_async(Trigger.Request())
    assert spin_until(lambda: len(open_answers) == 2)
    for asked, (answer, response) in zip((second, first), reversed(open_answers)):
        assert not asked.done()
        answer.set_result(response)
        assert spin_until(asked.done)
    assert [asked.result().message for asked in (first, second)] == ["0", "1"]
