"""What nodes do beside rclpy's own ways, on the executor that they run on and on the usual one."""

import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from gwm.ros.hand_over import FutureCallbacks, HandOver
from gwm.ros.job_queue import JobQueue
from gwm.ros.late_service import serve_later
from gwm.ros.node import RELIABLE, STEADY, with_time_sent
from gwm.ros.polling_node import LIMIT, PollingNode
from rclpy.executors import SingleThreadedExecutor
from rclpy.experimental import EventsExecutor
from std_msgs.msg import String
from std_srvs.srv import Trigger

from gwm_core.recording.backlog import WriteBacklog

COUNT = 2000


@pytest.fixture(params=[EventsExecutor, SingleThreadedExecutor])
def polling(request, domain):
    """A node that polls, and its executor."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = PollingNode("node", context=context)
    executor = request.param(context=context)
    executor.add_node(node)
    yield node, executor
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.fixture
def graph(polling):
    """A node, and a function that spins it until a condition holds."""
    node, executor = polling

    def spin_until(holds, rounds=400):
        for _ in range(rounds):
            if holds():
                return True
            executor.spin_once(timeout_sec=0.05)
        return False

    return node, spin_until


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


def test_a_job_s_error_goes_to_who_asked_and_what_is_raised_there_ends_the_executor(graph):
    node, spin_until = graph
    jobs = JobQueue(node, lambda: None, WriteBacklog(1 << 30, 1e9))
    told = []

    def fail():
        raise OSError("full")

    def done(result, error):
        told.append((result, str(error)))
        if len(told) == 3:
            raise error

    jobs.ask(lambda: 7, done)
    jobs.ask(fail, done)
    assert spin_until(lambda: len(told) == 2)
    assert told == [(7, "None"), (None, "full")]
    jobs.ask(fail, done)
    with pytest.raises(OSError, match="full"):
        spin_until(lambda: False)
    jobs.close()


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
    answers = []
    serve_later(node, "act", answers.append)
    client = node.create_client(Trigger, "act")
    assert spin_until(client.service_is_ready)
    asked = []
    for count in (1, 2):
        asked.append(client.call_async(Trigger.Request()))
        assert spin_until(lambda count=count: len(answers) == count)
    for k in (1, 0):
        assert not asked[k].done()
        answers[k].give(k == 0, str(k))
        assert spin_until(asked[k].done)
    given = [future.result() for future in asked]
    assert [(g.success, g.message) for g in given] == [(True, "0"), (False, "1")]


def test_a_service_may_answer_at_once(graph):
    node, spin_until = graph
    serve_later(node, "act", lambda answer: answer.give(True, "done"))
    client = node.create_client(Trigger, "act")
    assert spin_until(client.service_is_ready)
    asked = client.call_async(Trigger.Request())
    assert spin_until(asked.done) and asked.result().message == "done"


def test_a_value_handed_over_calls_no_other_timer(graph):
    """A heartbeat that came twice at once would be missing later."""
    node, spin_until = graph
    ticks = []
    node.create_timer(0.05, lambda: ticks.append(time.monotonic()), clock=STEADY)
    taken = []
    hand_over = HandOver(node, taken.append)

    def feed():
        for value in range(300):
            hand_over.put(value)
            time.sleep(0.003)

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert spin_until(lambda: len(taken) == 300)
    feeder.join()
    assert min(np.diff(ticks)) > 0.005


def test_the_exception_of_a_future_s_callback_ends_the_executor(graph):
    node, spin_until = graph
    node.create_service(Trigger, "act", lambda _, response: response)
    client = node.create_client(Trigger, "act")
    assert spin_until(client.service_is_ready)

    def refuse(response):
        raise RuntimeError(f"answered: {response.success}")

    FutureCallbacks(node).when_done(client.call_async(Trigger.Request()), refuse)
    with pytest.raises(RuntimeError, match="answered: False"):
        spin_until(lambda: False)


def test_polled_topics_come_when_asked_in_the_order_of_their_subscriptions(polling):
    node, executor = polling
    taken, heard = [], []
    for topic, limit in (("first", 5), ("second", 1)):
        take = lambda m, topic=topic: taken.append((topic, m.data))  # noqa: E731
        node.poll_topic(String, topic, take, 10, limit)
    node.create_subscription(String, "first", lambda m: heard.append(m.data), 10)
    publishers = [node.create_publisher(String, topic, 10) for topic in ("second", "first")]
    deadline = time.monotonic() + 10
    while [p.get_subscription_count() for p in publishers] != [1, 2]:
        executor.spin_once(timeout_sec=0.05)
        assert time.monotonic() < deadline
    for publisher in publishers:
        for word in ("a", "b"):
            publisher.publish(String(data=word))
    while heard != ["a", "b"]:
        executor.spin_once(timeout_sec=0.05)
        assert time.monotonic() < deadline
    assert taken == []
    node.take_messages()
    assert taken == [("first", "a"), ("first", "b"), ("second", "a")]
    node.take_messages()
    assert taken[3:] == [("second", "b")]
    node.take_messages()
    assert len(taken) == 4


def test_a_flood_of_polled_messages_does_not_keep_the_gate_from_its_steps(polling):
    """Every message brings two more."""
    node, executor = polling
    publisher = node.create_publisher(String, "words", RELIABLE)
    seen, steps = [], []

    def take(message):
        seen.append(message)
        publisher.publish(message)
        publisher.publish(message)

    def step():
        before = len(seen)
        node.take_messages()
        steps.append(len(seen) - before)

    node.poll_topic(String, "words", take, RELIABLE)
    node.create_timer(0.01, step, clock=STEADY)
    publisher.publish(String(data="one"))
    deadline = time.monotonic() + 10
    while not (len(steps) > 20 and len(seen) > 50):
        executor.spin_once(timeout_sec=0.5)
        assert time.monotonic() < deadline, f"{len(steps)} steps beside {len(seen)} messages"
    assert max(steps) <= LIMIT
