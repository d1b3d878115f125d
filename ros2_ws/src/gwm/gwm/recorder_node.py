"""Records episodes of the live graph in the format of ``gwm collect``: start, then save or discard."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2
from std_msgs.msg import Float64MultiArray, String, UInt64
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from gwm import messages
from gwm.node import RELIABLE, SENSOR, STEADY, declare, now_ns, spin
from gwm_core import topics
from gwm_core.data.episode import EpisodeWriter, compressed_color, compressed_depth, serialized
from gwm_core.data.ring import Ring
from gwm_core.errors import InputError
from gwm_core.site import site_of


@dataclass(frozen=True)
class RecorderParameters:
    """Parameters of the node."""

    robot: str = "sim"
    site: str = ""
    record: str = "runs"
    task: str = "pick_place"
    keep: float = 30.0  # [s] of the past at hand for recorder/keep
    keep_mb: int = 512  # of memory for them, at most


class RecorderNode(Node):
    """Everything small is written as received; images are compressed first, depth without loss."""

    def __init__(self):
        super().__init__("recorder")
        self._settings = declare(self, RecorderParameters)
        self._site = site_of(self._settings.robot, self._settings.site)
        self._writer, self._folder, self._result, self._marks = None, None, {}, {}
        self._saved = ""  # the last episode
        self._ring = Ring(self._settings.keep, self._settings.keep_mb << 20)
        self._received: dict[str, int] = {}
        kinds = {
            topics.JOINT_STATES: JointState, topics.GRIPPER_STATES: JointState, topics.COMMAND: JointState,
            topics.CHUNK: JointTrajectory, topics.ALIVE: UInt64, topics.STATUS: DiagnosticArray,
            topics.SIM_RESULT: String, topics.MARK: String, topics.DECISION: String, topics.APPROVE: String,
            topics.MODE: String, topics.IMAGINED: Float64MultiArray, topics.DIVERGENCE: Float64MultiArray,
            topics.SCENE: PointCloud2, topics.IMAGINED_SCENE: PointCloud2,
        }  # fmt: skip
        for view in (*self._site.cameras, topics.AFAR):
            kinds |= {topics.imagined(view, step): CompressedImage for step in range(1, topics.STEPS + 1)}
        for topic, kind in kinds.items():
            self._subscribe(kind, topic, self._plain(topic), SENSOR if topic == topics.ALIVE else RELIABLE)
        for name, camera in self._site.cameras.items():
            self._subscribe(Image, topics.color(camera.prefix), self._image(name, camera.prefix, "color"), SENSOR)
            self._subscribe(Image, topics.depth(camera.prefix), self._image(name, camera.prefix, "depth"), SENSOR)
            self._subscribe(CameraInfo, topics.info(camera.prefix), self._plain(topics.info(camera.prefix)), SENSOR)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        for name, act in {
            "start": self._start,
            "save": self._save,
            "discard": self._discard,
            "keep": self._keep,
        }.items():
            self.create_service(Trigger, f"recorder/{name}", self._service(act))
        self.create_timer(0.5, self._report, clock=STEADY)

    def _subscribe(self, kind, topic, callback, qos) -> None:
        self._received[topic] = 0

        def count(message):
            self._received[topic] += 1
            try:
                if topic == topics.SIM_RESULT:
                    self._result = dict(json.loads(message.data))
                self._take(*callback(message))
                if topic == topics.MARK:
                    self._on_mark(message)
            except (ValueError, TypeError) as error:  # a malformed message; anything else is a fault of ours
                self.get_logger().error(f"{topic} not recorded: {error}", throttle_duration_sec=2.0)

        self.create_subscription(kind, topic, count, qos)

    def _take(self, topic: str, kind: str, content, stamp: int) -> None:
        self._ring.add(time.monotonic(), (topic, kind, content, stamp), len(content))
        if self._writer is not None:
            self._writer.write_cdr(topic, kind, content, stamp)

    def _on_mark(self, message) -> None:
        """Keep what the operator says of the episode, and save it where they say so: after their last word on it."""
        marks = messages.mark_of(message)
        save = marks.pop("save", False)
        self._marks |= marks
        if save:
            self._save()

    def _plain(self, topic: str):
        def written(message):
            package = type(message).__module__.partition(".msg.")[0]
            name = f"{package}/msg/{type(message).__name__}"
            stamp = messages.stamp_ns(message.header.stamp) if hasattr(message, "header") else now_ns(self)
            return topic, name, serialize_message(message), stamp

        return written

    def _image(self, camera: str, prefix: str, kind: str):
        def written(message):
            stamp, content = messages.stamp_ns(message.header.stamp), messages.pixels(message, kind)
            if kind == "color":
                return serialized(topics.color(prefix) + "/compressed", compressed_color(stamp, camera, content), stamp)
            return serialized(
                topics.depth(prefix) + "/compressedDepth", compressed_depth(stamp, camera, content), stamp
            )

        return written

    def _service(self, act):
        def serve(request, response):
            try:
                response.message, response.success = str(act()), True
            except InputError as error:
                response.message, response.success = str(error), False
            return response

        return serve

    def _start(self) -> Path:
        if self._writer is not None:
            raise InputError("already recording: save or discard first")
        self._folder = self._new("episode")
        self._writer, self._marks = EpisodeWriter(self._folder), {}
        return self._folder

    def _new(self, kind: str) -> Path:
        """A folder that is not there, whole or not."""
        parent = Path(self._settings.record)
        taken = [int(path.stem.removeprefix(f"{kind}_")) for path in parent.glob(f"{kind}_[0-9]*")]
        return parent / f"{kind}_{max(taken, default=-1) + 1:06d}"

    def _keep(self) -> Path:
        if not len(self._ring):
            raise InputError("nothing came in the last seconds")
        writer = EpisodeWriter(self._new("kept"))
        for item in self._ring:
            writer.write_cdr(*item)
        return writer.close({"task": self._settings.task, **self._about(), "kept": round(self._ring.seconds, 1)})

    def _save(self) -> Path:
        writer = self._take_writer()
        self._saved = writer.close({"task": self._settings.task, **self._result, **self._marks, **self._about()})
        return self._saved

    def _about(self) -> dict:
        cameras = {name: camera.to_dict() for name, camera in self._site.cameras.items()}
        return {"robot": self._settings.robot, "saved": time.time(), "unusable": [], "cameras": cameras}

    def _discard(self) -> str:
        self._take_writer().discard()
        return "discarded"

    def _take_writer(self) -> EpisodeWriter:
        if self._writer is None:
            raise InputError("not recording: start first")
        writer, self._writer = self._writer, None
        return writer

    def _report(self) -> None:
        values = {"recording": self._writer is not None, "saved": self._saved}
        values["kept_s"] = f"{self._ring.seconds:.0f}"
        values |= {f"received {topic}": n for topic, n in self._received.items()}
        self._diagnostics.publish(messages.diagnostics(now_ns(self), "recorder", "recording", values))

    def close(self) -> None:
        """An unfinished episode stays behind as .partial."""
        if self._writer is not None:
            self.get_logger().warn(f"{self._folder}.partial was not saved")


def main() -> int:
    """Entry point."""
    return spin(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
