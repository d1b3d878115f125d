"""The console's process in the live graph: what a page says reaches the gate and the recording."""

import json
import time
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

pytest.importorskip("rclpy")

from gwm.graph import graph
from gwm.supervise import Supervisor
from std_msgs.msg import String
from websockets.sync.client import connect

from gwm_core import topics
from gwm_core.data.replay import read_replay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Page:
    """What a browser would do, without one."""

    def __init__(self, url):
        parts = urlsplit(url)
        cookie = {"Cookie": f"gwm_console={parse_qs(parts.query)['token'][0]}"}
        self._socket = connect(
            f"ws://{parts.netloc}/socket", origin=f"http://{parts.netloc}", additional_headers=cookie
        )
        self.state, self.pictures, self._said = {}, set(), 0.0

    def read(self):
        """Take in what came; keeps the lease."""
        if time.monotonic() - self._said > 0.5:
            self.say("here")
        while True:
            try:
                data = self._socket.recv(timeout=0)
            except TimeoutError:
                break
            if isinstance(data, str):
                self.state = json.loads(data)
            else:
                self.pictures.add(data[: data.index(b"\0")].decode())
        return self.state.get("gate", {})

    def say(self, what, **more):
        self._said = time.monotonic()
        self._socket.send(json.dumps({"do": what, **more}))

    def close(self):
        self._socket.close()


def test_approve_stop_and_marks_through_the_page(operator, tmp_path):
    nodes = graph(policy="expert", record=str(tmp_path), supervision="approve", console=8650)
    supervisor = Supervisor(nodes, log=open(tmp_path / "log", "w"))
    supervisor.start()
    poll, page = supervisor.poll, None
    try:
        assert operator.wait("start", lambda: operator.ready, 90, poll), (tmp_path / "log").read_text()
        file = tmp_path / "console.url"
        assert operator.wait("console", file.exists, 20, poll) and file.stat().st_mode & 0o077 == 0
        page = Page(file.read_text().split()[0])

        def gate(what, until, limit=20):
            assert operator.wait(what, lambda: until(page.read()), limit, poll), (what, page.state)
            return page.state["gate"]

        operator.lay("lift", 300, "nominal")
        page.say("start")
        page.say("arm")
        waiting = gate("a plan that waits", lambda g: "waiting" in g)
        assert waiting["state"] == "HOLD" and waiting["mode"] == "approve"
        still = len(operator.commands)
        page.say("approve", plan=waiting["waiting"], sha256="0" * 64)
        gate("refusal", lambda g: "hash" in g.get("answer", ""))
        old = {"plan": int(waiting["waiting"]), "sha256": waiting["waiting_sha256"], "expires": time.time_ns() - 1}
        said = operator.create_publisher(String, topics.APPROVE, 10)
        assert operator.wait("discovery", lambda: said.get_subscription_count() > 0, 10, poll)
        said.publish(String(data=json.dumps(old)))
        gate("refusal of one from before", lambda g: "expires" in g.get("answer", ""))
        assert np.abs([c[1] for c in operator.commands[still:]]).max() < 1e-9, "it moved without approval"
        page.say("approve", plan=waiting["waiting"], sha256=waiting["waiting_sha256"])
        gate("motion", lambda g: g["state"] == "RUNNING")
        ends = ("plan done", "policy silent")  # where the machine is busy, a beat may come late
        gate("the plan's end", lambda g: g["state"] == "HOLD" and g["cause"] in ends)
        page.say("approve", plan=waiting["waiting"], sha256=waiting["waiting_sha256"])  # once more
        gate("refusal of a replay", lambda g: "approval" in g.get("answer", "") and g["state"] == "HOLD")
        assert gate("one plan only", lambda g: True)["accepted"] == "1"

        page.say("mode", mode="auto")
        gate("motion by itself", lambda g: g["state"] == "RUNNING")
        page.say("stop")
        gate("rest", lambda g: g["state"] == "DISARMED" and g["cause"] == "stopped by operator")
        assert operator.wait("pictures", lambda: page.read() and len(page.pictures) >= 2, 10, poll)
        page.say("keep")
        assert operator.wait("kept", lambda: list(tmp_path.glob("kept_*/episode.json")), 15, poll)
        page.say("mark", note="the cube slipped")
        page.say("joy", axes=[float("inf")], buttons=[])
        page.say("save", success=False)
        assert operator.wait("saved", lambda: list(tmp_path.glob("episode_000000/episode.json")), 15, poll)
    finally:
        if page:
            page.close()
        supervisor.stop()
    (episode,) = tmp_path.glob("episode_0*[0-9]")
    replay = read_replay(episode)
    assert replay.info["success"] is False and replay.info["note"] == "the cube slipped"
    kept = read_replay(*tmp_path.glob("kept_0*"))  # what the recording has as well, without its end
    assert 0 < kept.info["kept"] <= 30 and len(kept.decisions) > 3 and kept.observed.keys() == replay.observed.keys()
    said = [decision["do"] for _, decision in replay.decisions]
    assert said.count("approve") == 3 and {"arm", "mode", "stop", "mark"} <= set(said)
    assert {"HOLD", "RUNNING", "STOPPING", "DISARMED"} <= {values["state"] for _, values in replay.status}
    audit = [json.loads(line) for line in (tmp_path / "console_audit.jsonl").read_text().splitlines()]
    assert [entry["command"]["do"] for entry in audit if "command" in entry][:2] == ["start", "arm"]
