"""Ctrl-C while processes work: one ending, and no word of theirs."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import signal, sys, time
from gwm_core.workers.pool import workers
def work(number):
    time.sleep(0 if number < 2 else 60)
    return number
if __name__ == "__main__":
    # A shell has its background jobs ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with workers(2, 9) as pool:
            for number in pool.imap(work, range(9)):
                print("done", number, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("after", ["start", "two jobs"])
def test_an_interrupted_pool_ends_without_a_traceback(tmp_path, after):
    (tmp_path / "program.py").write_text(PROGRAM)
    child = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    if after == "start":  # while the workers come up
        time.sleep(0.3)
    else:
        assert [child.stdout.readline() for _ in range(2)] == ["done 0\n", "done 1\n"]
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    _, said = child.communicate(timeout=30)
    assert "SpawnPoolWorker" not in said
    assert after == "start" or (child.returncode, said) == (130, "")
