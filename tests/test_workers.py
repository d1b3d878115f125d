"""Ctrl-C while processes work: one ending, and no word of theirs."""

import itertools
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


@pytest.mark.slow
def test_an_interrupted_collection_keeps_its_episodes_and_says_so(tmp_path):
    command = [sys.executable, "-m", "gwm", "collect", "--task", "lift", "--episodes", "30"]
    child = subprocess.Popen(
        [*command, "--processes", "1", "--out", tmp_path / "data"],
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        said = list(itertools.takewhile(lambda line: "3/30" not in line, child.stderr))
        assert child.poll() is None, said
        os.killpg(child.pid, signal.SIGINT)
        _, rest = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 130 and "Traceback" not in rest, rest
    assert rest.splitlines()[-1].endswith(
        "what was saved is kept, and the same command goes on there"
    )
    assert len([*(tmp_path / "data").glob("lift_*/episode.json")]) >= 3
