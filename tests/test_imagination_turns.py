"""Planning goes before comparing, and comparing before predicting."""

from threading import Event, Thread

import pytest
from gwm.nodes.parts.imagination_workers import PAUSE_BEFORE, Turns

LONG = 10.0  # [s] that nothing here takes
SHORT = 0.1


class Clock:
    def __init__(self):
        self.ns = 0

    def __call__(self):
        return self.ns


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def turns(clock):
    return Turns(clock)


def waiting(wait):
    """An event that is set once a thread need not wait any longer."""
    done = Event()
    Thread(target=lambda: (wait(), done.set()), daemon=True).start()
    return done


def test_nobody_waits_where_nothing_is_due(turns):
    assert waiting(turns.wait_for_chunk).wait(LONG)
    assert waiting(turns.wait_for_comparison).wait(LONG)


def test_a_prediction_waits_until_the_newest_scene_is_compared(turns):
    turns.asked(1)
    turns.asked(2)
    assert waiting(turns.wait_for_chunk).wait(LONG)  # comparing does not wait for itself
    predicts = waiting(turns.wait_for_comparison)
    turns.compared(1)
    assert not predicts.wait(SHORT)
    turns.compared(2)
    assert predicts.wait(LONG)


def test_both_wait_while_a_chunk_is_made(turns, clock):
    turns.expect_chunk(due=1.0)
    clock.ns = round(1e9 * (1.0 - PAUSE_BEFORE / 2))
    both = waiting(turns.wait_for_chunk), waiting(turns.wait_for_comparison)
    assert not any(done.wait(SHORT / 2) for done in both)
    turns.expect_chunk(due=1.4)  # it came
    assert all(done.wait(LONG) for done in both)


def test_a_chunk_that_does_not_come_is_not_waited_for_for_long(turns, clock):
    turns.expect_chunk(due=1.0)
    clock.ns = round(1e9)
    assert waiting(turns.wait_for_chunk).wait(LONG)


def test_a_comparison_that_does_not_end_is_not_waited_for_for_long(turns):
    turns.asked(1)
    assert waiting(turns.wait_for_comparison).wait(LONG)
