"""The console's process in the live graph: what a page says reaches the gate and the recording."""

import json
import time
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

pytest.importorskip("rclpy")

from gwm.console.access import OPERATOR, cookie_name
from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes
from gwm.process.supervisor import Supervisor
from gwm.ros import messages
from sensor_msgs.msg import Image
from std_msgs.msg import String
from websockets.sync.client import connect

from gwm_core import topics
from gwm_core.evaluation.replay.timeline import read_replay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Page:
    """What a browser would do, without one."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.token = parse_qs(parts.query)["token"][0]
        cookie = {"Cookie": f"{cookie_name(OPERATOR, parts.netloc)}={self.token}"}
        self._socket = connect(
            f"ws://{parts.netloc}/socket",
            origin=f"http://{parts.netloc}",
            additional_headers=cookie,
        )
        self.state, self.pictures, self.answers, self._count = {}, set(), {}, 0

    def read(self):
        """Take in what came, and say that it was seen, which keeps the lease."""
        while True:
            try:
                data = self._socket.recv(timeout=0)
            except TimeoutError:
                break
            if isinstance(data, bytes):
                self.pictures.add(data.split(b" ")[0].decode())
                continue
            message = json.loads(data)
            if "answer" in message:
                self.answers[message["answer"]] = message["ok"], message["text"]
            else:
                self.state = message
                self._socket.send(json.dumps({"do": "here", "frame": message["frame"]}))
        return self.state.get("gate", {})

    def say(self, what, **more):
        """The number of the command, which its answer has."""
        self.read()
        time.sleep(0.2)  # nothing was read for long: the next frame is of now
        self.read()
        self._count += 1
        self._socket.send(
            json.dumps({"do": what, "id": self._count, "frame": self.state.get("frame"), **more})
        )
        return self._count

    def close(self):
        self._socket.close()


def test_approve_stop_and_marks_through_the_page(operator, tmp_path):
    nodes = processes(
        GraphConfig(policy="expert", record=str(tmp_path), supervision="approve", console=8650)
    )
    supervisor = Supervisor(nodes, log=open(tmp_path / "log", "w"))
    supervisor.start()
    poll, page = supervisor.poll, None
    try:
        assert operator.wait("start", lambda: operator.ready, 90, poll), (
            tmp_path / "log"
        ).read_text()
        file = tmp_path / "console.url"
        assert operator.wait("console", file.exists, 20, poll) and file.stat().st_mode & 0o077 == 0
        page = Page(file.read_text().split()[0])

        def gate(what, until, limit=20):
            assert operator.wait(what, lambda: until(page.read()), limit, poll), (
                what,
                page.state,
                page.answers,
            )
            return page.state["gate"]

        def told(what, limit=20, **more):
            """What came of a command."""
            number = page.say(what, **more)
            gate(f"answer to {what}", lambda g: number in page.answers, limit)
            return page.answers[number]

        gate("state", lambda g: g.get("state"))
        # the console may find the simulation a moment after all are up, and says so until then
        laid = lambda: told("lay", seed=300) == (True, "table of seed 300")  # noqa: E731
        assert operator.wait("the simulation found", laid, 20, poll), page.answers
        assert told("start")[0] and told("arm") == (True, "armed")
        waiting = gate("a plan that waits", lambda g: "waiting" in g)
        assert waiting["state"] == "HOLD" and waiting["mode"] == "approve"
        assert told("decline", plan=waiting["waiting"]) == (True, waiting["cause"])
        first = waiting["waiting"]
        waiting = gate("the next plan", lambda g: g.get("waiting", first) != first)
        assert waiting["refused declined"] == "1" and waiting["accepted"] == "0"
        gate("the plan's lines", lambda g: page.state["plan"].get("id") == g.get("waiting"))
        plan, arm = page.state["plan"], page.state["arm"]
        assert plan["words"] and set(plan["views"]) == {"front", "side"}
        path = np.array(plan["views"]["front"]["path"])
        assert path.shape == (17, 2) and (path > 0).all() and (path < 1).all()
        assert len(arm["joints_deg"]) == 7 and 0 <= arm["width_mm"] <= 81 and arm["speed"] < 0.05
        assert all(5 < rate < 30 for rate in page.state["rates"].values())
        still = len(operator.commands)
        page.say("approve", plan=waiting["waiting"], sha256="0" * 64)
        gate("refusal", lambda g: "hash" in g.get("answer", ""))
        later = str(int(waiting["waiting"]) + 1)  # the same float64
        done, why = told("approve", plan=later, sha256=waiting["waiting_sha256"])
        assert not done and "of plan" in why and later in why
        assert (
            "hold first" not in page.state["refuses"].get("mode", "")
            and page.state["imagines"] is False
        )
        old = {
            "plan": waiting["waiting"],
            "sha256": waiting["waiting_sha256"],
            "expires": time.time_ns() - 1,
        }
        said = operator.create_publisher(String, topics.APPROVE, 10)
        assert operator.wait("discovery", lambda: said.get_subscription_count() > 0, 10, poll)
        said.publish(String(data=json.dumps(old)))
        gate("refusal of one from before", lambda g: "expires" in g.get("answer", ""))
        assert np.abs([c[1] for c in operator.commands[still:]]).max() < 1e-9, (
            "it moved without approval"
        )
        page.say("approve", plan=waiting["waiting"], sha256=waiting["waiting_sha256"])
        gate("motion", lambda g: g["state"] == "RUNNING")
        ends = ("plan done", "policy silent")  # where the machine is busy, a beat may come late
        gate("the plan's end", lambda g: g["state"] == "HOLD" and g["cause"] in ends)
        # once more
        assert (
            told("approve", plan=waiting["waiting"], sha256=waiting["waiting_sha256"])[0] is False
        )
        gate("rest", lambda g: g["state"] == "HOLD")
        assert gate("one plan only", lambda g: True)["accepted"] == "1"

        assert told("mode", mode="auto")[0]
        gate("motion by itself", lambda g: g["state"] == "RUNNING")
        done, why = told("lay", seed=301)
        assert not done and "hold first" in why  # it ended in FAULT
        for _ in range(5):  # where a beat came late, the arm rested and the mode changed
            gate("motion by itself", lambda g: g["state"] == "RUNNING")
            if not told("mode", mode="approve")[0]:
                break
            gate("rest", lambda g: g["state"] == "HOLD")
            assert told("mode", mode="auto")[0]
        else:
            raise AssertionError("the mode changed in motion")
        assert told("stop")[0]
        gate("rest", lambda g: g["state"] == "DISARMED" and g["cause"] == "stopped by operator")
        assert operator.wait("pictures", lambda: page.read() and len(page.pictures) >= 2, 10, poll)
        page.say("keep")
        assert operator.wait("kept", lambda: list(tmp_path.glob("kept_*/episode.json")), 15, poll)
        page.say("joy", axes=[float("inf")], buttons=[])
        saved = told("save", success=False, note="the cube slipped")
        assert saved[0], saved
        assert told("save", success=False) == (False, "not recording")
        assert told("correct", correct="episode_000009", success=True)[0] is False
        done, which = told("correct", correct="episode_000000", success=True)
        assert done and which.endswith("episode_000000 is now a success")
        assert operator.wait(
            "saved", lambda: list(tmp_path.glob("episode_000000/episode.json")), 15, poll
        )
    finally:
        if page:
            page.close()
        supervisor.stop()
    (episode,) = tmp_path.glob("episode_0*[0-9]")
    replay = read_replay(episode)
    assert replay.info["success"] is True and replay.info["note"] == "the cube slipped"
    assert replay.info["corrected"] is True and replay.arm and replay.gripper
    kept = read_replay(*tmp_path.glob("kept_0*"))  # what the recording has as well, without its end
    assert (
        0 < kept.info["kept"] <= 30
        and len(kept.decisions) > 3
        and kept.observed.keys() == replay.observed.keys()
    )
    said = [decision["do"] for _, decision in replay.decisions]
    assert said.count("approve") >= 3 and {"arm", "mode", "stop", "save"} <= set(said)
    assert {"HOLD", "RUNNING", "STOPPING", "DISARMED"} <= {
        values["state"] for _, values in replay.status
    }
    audit = [
        json.loads(line) for line in (tmp_path / "console_audit.jsonl").read_text().splitlines()
    ]
    assert [entry["command"]["do"] for entry in audit if "command" in entry][:3] == [
        "lay",
        "start",
        "arm",
    ]


def test_the_console_outlives_what_it_cannot_read_and_its_page_outlives_the_console(
    operator, tmp_path
):
    """Messages that killed it are named on the page; after a kill the page's own address is good
    again.
    """
    nodes = [
        node
        for node in processes(GraphConfig(policy="expert", record=str(tmp_path), console=8660))
        if node.name == "console"
    ]
    supervisor = Supervisor(nodes, log=open(tmp_path / "nodes.log", "w"))
    supervisor.start()
    poll, file, page = supervisor.poll, tmp_path / "console.url", None
    bad = {
        topics.color(topics.prefix_of("front")): Image(
            height=2, width=2, step=8, encoding="yuv422", data=bytes(16)
        ),
        topics.SIM_RESULT: String(data="[]"),
        topics.TRIAL: String(data='{"task": []}'),
        topics.DIAGNOSTICS: messages.diagnostics(1, "viewer", "showing", {"port": "none"}),
    }
    said = {
        topic: operator.create_publisher(type(message), topic, 10) for topic, message in bad.items()
    }
    try:
        assert operator.wait("console", file.exists, 60, poll), (tmp_path / "nodes.log").read_text()
        page = Page(file.read_text().split()[0])

        def unread():
            page.read()
            for topic, message in bad.items():
                said[topic].publish(message)
            time.sleep(0.05)  # or it is a flood, which the console answers late
            return len(page.state.get("unread", ())) == len(bad)

        assert operator.wait("all of them refused", unread, 30, poll), page.state["unread"]
        assert any("yuv422" in line for line in page.state["unread"])
        assert supervisor.respawns == {}

        page.close()
        supervisor.processes["console"].kill()
        assert operator.wait("respawn", lambda: supervisor.respawns.get("console") == 1, 10, poll)

        def back():
            nonlocal page
            try:
                page = Page(f"http://127.0.0.1:8660/?token={page.token}")
            except OSError:
                return False
            return True

        assert operator.wait("the same address", back, 60, poll), (
            tmp_path / "nodes.log"
        ).read_text()
        assert operator.wait("state", lambda: page.read() is not None and page.state, 10, poll)
    finally:
        if page:
            page.close()
        supervisor.stop()
    tokens = [parse_qs(urlsplit(url).query)["token"][0] for url in file.read_text().split()[:2]]
    log = (tmp_path / "nodes.log").read_text()
    assert str(file) in log and not any(token in log for token in tokens)
    assert file.stat().st_mode & 0o077 == 0
