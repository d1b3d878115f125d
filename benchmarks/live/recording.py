"""``gwm bench recording``: record cameras of a given size and rate, and count lost frames.

The simulated cameras are off. A separate process publishes frames that were rendered before.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes
from gwm.process.session import ending, live
from gwm.ros import image_messages
from gwm.ros.node import SENSOR, STEADY, now_ns, spin
from gwm.ros.operator_client import OperatorClient, RequestFailed
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from gwm_core import topics
from gwm_core.data.episode import read_episode
from gwm_core.files.json_files import write_json
from gwm_core.sim.cameras import SimCameras, choose_renderer
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import sample_layout

START_TIME = 180.0  # [s]
SEED = 9000  # of the layout
SCENES = 6  # frames of each camera


class SyntheticCamera(Node):
    """Publishes both cameras at a steady rate."""

    def __init__(self):
        super().__init__("source")
        self._width, self._height, hz = (int(word) for word in sys.argv[1:4])
        self._frames, self.sent = self._render(), 0
        self._K = self._cameras.K
        self._out = {
            name: [
                self.create_publisher(kind, topic(topics.prefix_of(name)), SENSOR)
                for kind, topic in (
                    (Image, topics.color),
                    (Image, topics.depth),
                    (CameraInfo, topics.info),
                )
            ]
            for name in self._cameras.T_base_camera
        }
        print("ready", flush=True)
        sys.stdin.readline()
        self.create_timer(1 / hz, self._send, clock=STEADY)

    def _render(self) -> list:
        sim, self._cameras = Simulator(), SimCameras(self._width, self._height, choose_renderer())
        scenes = []
        for k in range(SCENES):
            sim.reset(sample_layout("pick_place", SEED + k))
            scenes.append(self._cameras(sim.snapshot()))
        return scenes

    def _send(self) -> None:
        stamp = now_ns(self)
        for item in self._frames[self.sent % SCENES]:
            color, depth, info = self._out[item.camera]
            color.publish(image_messages.image(stamp, item.camera, item.color))
            depth.publish(image_messages.image(stamp, item.camera, item.depth_mm))
            info.publish(
                image_messages.camera_info(stamp, item.camera, self._K, self._width, self._height)
            )
        self.sent += 1

    def close(self) -> None:
        """Print how many frames each camera sent."""
        print(f"sent {self.sent}", flush=True)


def bench_recording(width: int, height: int, hz: int, seconds: int, file: str | None) -> int:
    """Record for ``seconds``. Prints what each topic sent, lost, dropped and recorded."""
    out = Path(tempfile.mkdtemp(prefix="gwm_recording_"))
    nodes = processes(
        GraphConfig(policy="expert", publish_objects=True, record=str(out), console=0)
    )
    rows: dict[str, dict[str, int]] = {}
    try:
        with ending() as end, live(nodes, out / "nodes.log") as (operator, supervisor):
            operator.require("start", lambda: operator.ready, START_TIME, supervisor.poll_all)
            _record(rows, operator, supervisor.poll_all, (width, height, hz), seconds, out)
    finally:
        shutil.rmtree(out)
    result = {
        "width": width,
        "height": height,
        "hz": hz,
        "seconds": seconds,
        "topics": rows,
        "trouble": end.trouble,
    }
    if file:
        write_json(file, result)
    print(
        f"2 x {width}x{height} at {hz} Hz for {seconds:.0f} s: sent, lost on the way, dropped by"
        " the recorder, recorded"
    )
    for topic, row in rows.items():
        print(
            f"  {topic:48} {row['sent']:6} {row['lost']:6} {row['dropped']:6} {row['recorded']:6}"
        )
    if end.trouble:
        print(f"it failed: {end.trouble}")
    return end.code


def _record(
    rows: dict,
    operator: OperatorClient,
    poll,
    shape: tuple[int, int, int],
    seconds: float,
    out: Path,
) -> None:
    """Fill ``rows``, by topic."""
    operator.enable_cameras(False)
    command = [sys.executable, "-m", __spec__.name, *map(str, shape)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as source:
        try:
            if source.stdout.readline().strip() != "ready":
                raise RequestFailed("the source of frames did not start")
            operator.reset_simulation("pick_place", SEED, "nominal")
            operator.request("recorder/start", poll)
            operator.arm(poll)
            source.stdin.write("\n")
            source.stdin.flush()
            operator.wait("time", lambda: False, seconds, poll)
        finally:
            source.terminate()
        sent = int(source.stdout.read().split()[-1])
    operator.wait("the last frames", lambda: False, 1.0, poll)
    operator.request("recorder/save", poll)
    operator.reports.pop("recorder")
    operator.require("counts", lambda: "recorder" in operator.reports, 10.0, poll)
    report = operator.reports["recorder"]
    episode = read_episode(next(out.glob("episode_*[0-9]")))
    for (camera, kind), stream in episode.images.items():
        prefix = topics.prefix_of(camera)
        topic = topics.color(prefix) if kind == "color" else topics.depth(prefix)
        dropped, recorded = int(report.get(f"dropped {topic}", 0)), len(stream)
        rows[topic] = {
            "sent": sent,
            "lost": sent - dropped - recorded,
            "dropped": dropped,
            "recorded": recorded,
        }
    lost, dropped = (int(report.get(f"{what} {topics.COMMAND}", 0)) for what in ("lost", "dropped"))
    recorded = len(episode.commands)
    rows[topics.COMMAND] = {
        "sent": recorded + lost + dropped,
        "lost": lost,
        "dropped": dropped,
        "recorded": recorded,
    }


if __name__ == "__main__":
    sys.exit(spin(SyntheticCamera))
