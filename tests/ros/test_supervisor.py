"""What `gwm up` does when one of its processes ends: real processes, short ones in the place of
nodes.
"""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
from gwm.graph.environment import END_WITH_PARENT
from gwm.graph.process_list import NodeSpec
from gwm.process import supervisor as supervise
from gwm.process.supervisor import Supervisor, open_log

SLEEPS = (
    "import signal, time; signal.signal(signal.SIGINT, lambda *_: exit()); print('up', flush=True);"
    " time.sleep(60)"
)
CODES = {
    "gate": SLEEPS,
    "fails": "exit(1)",
    "refused": "exit(2)",
    "deaf": SLEEPS.replace("exit()", "None"),
}


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Starts processes by name, as a supervisor of a graph would; gate is essential."""
    monkeypatch.setattr(
        supervise, "command", lambda node: [sys.executable, "-c", CODES[node.module]]
    )
    supervisors = []

    def start(*modules, essential=("gate",)):
        nodes = [NodeSpec(module, module, essential=module in essential) for module in modules]
        supervisor = Supervisor(nodes, open_log(tmp_path / "log"))
        supervisor.change(nodes)
        supervisors.append(supervisor)
        return supervisor, tmp_path / "log"

    yield start
    for supervisor in supervisors:
        supervisor.stop()


def until(supervisor, done, seconds=20.0):
    """Poll until ``done()``; what poll said."""
    deadline = time.monotonic() + seconds
    while not (over := supervisor.poll()) and not done() and time.monotonic() < deadline:
        time.sleep(0.02)
    return over


def test_a_process_that_fails_and_one_with_bad_input_leave_the_graph_running(started):
    supervisor, log = started("gate", "fails", "refused")
    assert until(supervisor, lambda: supervisor.respawns.get("fails", 0) >= 3) == ""
    assert supervisor.respawns == {"fails": 3} and supervisor.processes["gate"].poll() is None
    said = log.read_text()
    assert said.count("gwm: fails ended with exit code 1: started again in ") >= 3
    assert (
        said.count("gwm: refused ended with exit code 2") == 1
        and "the graph goes on without it" in said
    )
    assert "refused" in supervisor.poll_all()


@pytest.mark.parametrize(("module", "code"), [("fails", 1), ("refused", 2)])
def test_an_essential_process_ends_the_graph_with_its_kind_of_exit_code(started, module, code):
    supervisor, _ = started("gate", module, essential=(module,))
    assert until(supervisor, lambda: False).startswith(f"{module} ended")
    assert supervisor.code == code


def test_a_stop_says_what_it_waits_for_and_the_gate_is_the_last(started, monkeypatch):
    monkeypatch.setattr(supervise, "STOP_TIME", 1.0)
    monkeypatch.setattr(supervise, "REMIND_TIME", 0.2)
    supervisor, log = started("gate", "deaf")
    assert until(supervisor, lambda: log.read_text().count("up") == 2) == ""
    supervisor.stop()
    lines = [line for line in log.read_text().splitlines() if line.startswith("gwm:")]
    assert lines[0].startswith("gwm: still waiting for deaf") and lines[-1].endswith(
        "within 1 s: killed"
    )
    assert (
        supervisor.processes["deaf"].returncode == -signal.SIGKILL
        and supervisor.processes["gate"].returncode == 0
    )


def test_a_log_that_nobody_reads_any_more_keeps_no_stop_from_its_end(started, monkeypatch):
    """`gwm up 2>&1 | tee log`: Ctrl-C ends tee first."""
    monkeypatch.setattr(supervise, "STOP_TIME", 1.0)
    monkeypatch.setattr(supervise, "REMIND_TIME", 0.2)
    supervisor, log = started("gate", "deaf")
    assert until(supervisor, lambda: log.read_text().count("up") == 2) == ""
    reads, writes = os.pipe()
    os.close(reads)
    supervisor._log = os.fdopen(writes, "w")
    supervisor.stop()
    assert (
        supervisor.processes["deaf"].returncode == -signal.SIGKILL
        and supervisor.processes["gate"].returncode == 0
    )


def test_a_log_is_its_owners_alone_even_where_it_was_everyones(tmp_path):
    (tmp_path / "log").touch(0o644)
    with open_log(tmp_path / "log") as log:
        assert stat.S_IMODE(os.fstat(log.fileno()).st_mode) == 0o600
    with open_log(tmp_path / "new") as log:
        assert stat.S_IMODE(os.fstat(log.fileno()).st_mode) == 0o600


def test_no_log_of_nodes_is_opened_another_way():
    for path in (Path(supervise.__file__).parent).rglob("*.py"):
        for line in path.read_text().splitlines():
            if "nodes.log" in line and "open" in line:
                assert "open_log(" in line, path


LAUNCHES = """
import os, subprocess, sys
child = "import sys, time; time.sleep(1.0); sys.orig_argv.append('gwm.late_node'); import gwm; "
child += "print('goes on', flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child],
                 env=os.environ | {NAME: str(os.getpid())})
"""


def test_a_process_whose_starter_is_gone_before_it_could_look_ends_before_it_imports(tmp_path):
    """Launch may be killed in the seconds in which torch is loaded."""
    code = LAUNCHES.replace("NAME", repr(END_WITH_PARENT))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    # run() waits until the pipes are closed
    assert "goes on" not in done.stdout and "gone already" in done.stderr
