"""Processor time of processes."""

import os
import subprocess
import sys
import time

import pytest
from gwm.process.usage import ProcessorShares, processor_seconds

LOOP = "while True: pass"


@pytest.fixture
def loop():
    process = subprocess.Popen([sys.executable, "-c", LOOP])
    yield process
    process.kill()
    process.wait()


def test_the_time_of_this_process_is_what_it_says_itself():
    mine = time.process_time()
    assert processor_seconds(os.getpid()) == pytest.approx(mine, abs=0.3)


def test_a_busy_process_takes_cores_and_an_ended_one_is_left_out(loop):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    shares = ProcessorShares(lambda: {"ended": ended, "busy": loop})
    used = processor_seconds(loop.pid)
    while processor_seconds(loop.pid) < used + 0.2:
        time.sleep(0.05)
    found = shares.until_now()
    assert set(found) == {"busy", "operator"} and list(found) == sorted(found, key=found.get)[::-1]
    assert 0 < found["busy"] <= 1.2


def test_a_restarted_process_counts_from_then_on(loop):
    running = {}
    shares = ProcessorShares(lambda: running)
    running["late"] = loop
    while processor_seconds(loop.pid) < 0.1:
        time.sleep(0.02)
    assert shares.until_now()["late"] > 0


def test_an_ended_process_has_no_time():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(OSError):
        processor_seconds(ended.pid)
