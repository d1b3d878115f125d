"""The demo as a person runs it, disturbed: whatever happens, it ends with its table and says what
did.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from gwm.tools import demo_report
from test_live_graph import children_of

from benchmarks.live import latency
from gwm_core.recording.episode_recovery import recover

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def start(folder, *more):
    command = [
        sys.executable,
        "-m",
        "gwm",
        "demo",
        "--policy",
        "expert",
        "--no-imagination",
        "--headless",
    ]
    return subprocess.Popen(
        [*command, "--out", str(folder), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


def read_until(child, text):
    said = ""
    while text not in said:
        line = child.stdout.readline()
        assert line, said
        said += line
    return said


def until_it_records(folder, child):
    """Wait until a bag holds messages: before that, nothing is there to recover."""
    while not any(bag.stat().st_size > 1000 for bag in folder.rglob("*.partial/bag/*.mcap")):
        assert child.poll() is None
        os.sched_yield()


def test_a_recorder_that_dies_costs_an_episode_and_a_simulation_that_dies_the_rest(
    domain, tmp_path
):
    child = start(tmp_path, "--episodes", "3", "--json", str(tmp_path / "figures.json"))
    said = read_until(child, "ready: ")
    until_it_records(tmp_path, child)
    (recorder,) = (pid for pid, words in children_of(child.pid).items() if "recorder_node" in words)
    os.kill(recorder, signal.SIGKILL)
    said += read_until(child, "episode 1/3")
    (sim,) = (pid for pid, words in children_of(child.pid).items() if "sim_node" in words)
    os.kill(sim, signal.SIGKILL)
    rest, _ = child.communicate(timeout=60)
    said += rest
    assert child.returncode == 1 and "Traceback" not in said, said
    assert "command check" in rest and "0 violations" in rest
    assert "of 3 ended; sim ended by SIGKILL" in rest
    # refused, or not answered by the one that died
    assert "seed 9000: " in rest and "recorder/" in rest, rest
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["code"] == 1 and figures["rows"][0]["trouble"]
    assert "episode_000000.partial was not saved: `gwm data recover" in rest


def test_an_interrupted_demo_says_what_it_waits_for_and_what_it_leaves(domain, tmp_path):
    child = start(tmp_path, "--episodes", "3")
    read_until(child, "ready: ")
    until_it_records(tmp_path, child)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    said = read_until(child, "interrupted; waiting for sim")
    child.send_signal(signal.SIGINT)  # whoever is impatient leaves no process behind
    rest, _ = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in said + rest, said + rest
    assert "0 of 3 ended; interrupted" in rest and "seed 9000: NOT ENDED" in rest
    (partial,) = tmp_path.rglob("*.partial")
    assert f"`gwm data recover {partial}`" in rest
    assert recover(partial)[1] > 0
    assert [log.stat().st_mode & 0o777 for log in Path(tmp_path).rglob("nodes.log")] == [0o600]


def test_a_graph_of_which_nothing_was_heard_has_its_table_too(operator, capsys):
    args = SimpleNamespace(task="lift", difficulty="nominal", seed=9000, episodes=3)
    figures = demo_report.demo_figures(operator, args, demo_report.DemoRun(), {}) | {
        "trouble": "not ready after 180 s: gate, sim"
    }
    demo_report.print_table(figures)
    said = capsys.readouterr().out
    assert (
        "0 of 3 ended; not ready after 180 s: gate, sim" in said
        and "0 violations in 0 commands" in said
    )
    json.loads(json.dumps(figures, allow_nan=False))
    assert latency._table([figures]) == {}
    figures["gate"] |= {"refused": dict.fromkeys(demo_report.REFUSED, 3), "stops": {"fault": 1}}
    figures["topics"] = {
        "camera/front/color/image_raw": {"sent": 9, "received": 7},
        "gate/command": {"sent": 9, "received": 9},
    }
    demo_report.print_table(figures)
    said = capsys.readouterr().out
    assert all(len(line) <= demo_report.COLUMNS for line in said.splitlines())
    assert said.count("note: refused, ") == len(demo_report.REFUSED) and "stop, fault" not in said
    assert "2 on camera/front/color/image_raw lost of 18 on 2 topics" in said
