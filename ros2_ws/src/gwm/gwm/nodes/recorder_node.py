"""Records episodes of the live graph in the format of ``gwm collect``: start, then save or
discard.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2
from std_msgs.msg import Float64MultiArray, String, UInt64
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from gwm.doctor.report import QUICK, run_checks
from gwm.ros import image_messages, messages
from gwm.ros.job_queue import JobQueue
from gwm.ros.node import EVERY, RELIABLE, SENSOR, STEADY, declare, now_ns, spin, subscribe_to_all
from gwm_core import topics
from gwm_core.data.ros_messages import compressed_color, compressed_depth, serialized
from gwm_core.errors import InputError
from gwm_core.joint_states import read_gripper_state, read_joint_state
from gwm_core.reasons import Reasons
from gwm_core.recording.backlog import WriteBacklog
from gwm_core.recording.provenance import about
from gwm_core.recording.recorder import DiskConfig, Recorder
from gwm_core.recording.ring_buffer import RingBuffer
from gwm_core.site import site_of

READERS = {topics.JOINT_STATES: read_joint_state, topics.GRIPPER_STATES: read_gripper_state}
OFTEN = dict.fromkeys(
    (topics.JOINT_STATES, topics.GRIPPER_STATES, topics.COMMAND, topics.STATUS), EVERY
)
OFTEN[topics.ALIVE] = QoSProfile(depth=EVERY.depth, reliability=SENSOR.reliability)
# [bytes], and [s] it would take to write them, that may wait for the writing thread
BURST, BEHIND = 256 << 20, 3.0
# [s] between a mark that says save and saving: what was said before it comes over other topics
SETTLE = 0.5


@dataclass(frozen=True)
class RecorderParameters(DiskConfig):
    """Parameters of the node."""

    robot: str = "sim"
    site: str = ""
    record: str = "runs"
    task: str = "pick_place"
    policy: str = ""
    operator: str = ""  # who teaches or evaluates
    lossless: bool = False  # colour as PNG; depth always is
    keep: float = 30.0  # [s] of the past at hand for recorder/keep
    keep_mb: int = 512  # of memory for them, at most


class RecorderNode(Node):
    """Everything small is written as received; images are compressed first, depth without loss. A
    thread writes.

    That thread alone has to do with the episode: whatever is said, counted or asked goes through
    its backlog.
    """

    def __init__(self):
        super().__init__("recorder")
        self._settings = p = declare(self, RecorderParameters)
        self._site = site_of(p.robot, p.site)
        known = about(self._site, p.robot, p.task, p.policy, p.operator, Path(p.record))
        disk = DiskConfig(**{field.name: getattr(p, field.name) for field in fields(DiskConfig)})
        self._recording = Recorder(Path(p.record), known, RingBuffer(p.keep, p.keep_mb << 20), disk)
        self._reasons = Reasons(self.get_logger().warn)
        self._received = Counter()
        self._backlog = WriteBacklog(BURST, BEHIND)
        self._jobs = JobQueue(self, lambda: self._recording.tick(time.monotonic()), self._backlog)
        self._jobs.ask(self._examine).add_done_callback(self._complain)
        self._saving = self.create_timer(SETTLE, self._settled, clock=STEADY, autostart=False)
        self._subscribe_all()
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        # what waits for the thread must not keep others from running
        aside = ReentrantCallbackGroup()
        kept = self._recording
        for name, act, after_pictures in (
            ("start", kept.start, False),
            ("save", lambda _: kept.save(), True),
            ("discard", lambda _: kept.discard(), False),
            ("keep", lambda _: kept.keep(), True),
        ):
            serve = self._service(act, after_pictures)
            self.create_service(Trigger, f"recorder/{name}", serve, callback_group=aside)
        self.create_timer(0.5, self._report, clock=STEADY)

    def _subscribe_all(self) -> None:
        kinds = {
            topics.JOINT_STATES: JointState,
            topics.GRIPPER_STATES: JointState,
            topics.COMMAND: JointState,
            topics.CHUNK: JointTrajectory,
            topics.ALIVE: UInt64,
            topics.STATUS: DiagnosticArray,
            topics.SIM_RESULT: String,
            topics.MARK: String,
            topics.DECISION: String,
            topics.APPROVE: String,
            topics.MODE: String,
            topics.IMAGINED: Float64MultiArray,
            topics.DIVERGENCE: Float64MultiArray,
            topics.SCENE: PointCloud2,
            topics.IMAGINED_SCENE: PointCloud2,
        }
        for view in (*self._site.cameras, topics.AFAR):
            kinds |= {
                topics.imagined(view, step): CompressedImage for step in range(1, topics.STEPS + 1)
            }
        for topic, kind in kinds.items():
            self._subscribe(kind, topic, OFTEN.get(topic, RELIABLE))
        for name, camera in self._site.cameras.items():
            color = partial(compressed_color, lossless=self._settings.lossless)
            pictures = {
                topics.color(camera.prefix): ("color", "/compressed", color),
                topics.depth(camera.prefix): ("depth", "/compressedDepth", compressed_depth),
            }
            for topic, how in pictures.items():
                self._subscribe(Image, topic, SENSOR, partial(self._picture, name, *how))
            self._subscribe(CameraInfo, topics.info(camera.prefix), SENSOR)

    def _subscribe(self, kind, topic: str, qos, write: Callable | None = None) -> None:
        """Have the thread write what comes, as it came; count what came, was refused, and never
        arrived.
        """
        self._received[topic] = 0
        write = write or partial(
            self._plain, f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}", kind
        )

        def take(content: bytes) -> None:
            self._received[topic] += 1
            job = partial(write, topic, time.monotonic(), now_ns(self), content)
            if reason := self._jobs.offer(job, len(content), kind is Image):
                self._jobs.tell(partial(self._recording.miss, "dropped", topic))
                self.get_logger().error(f"{topic} dropped: {reason}", throttle_duration_sec=2.0)
            # recorded as it came, but no episode can be made of what cannot be read
            if topic in READERS:
                reason = READERS[topic](deserialize_message(content, kind))[1]
                self._reasons.note(topic, reason, time.monotonic())
            if topic in (topics.SIM_RESULT, topics.MARK):
                self._listen(topic, deserialize_message(content, String))

        def missed(event) -> None:
            self._jobs.tell(partial(self._recording.miss, "lost", topic, event.total_count_change))

        events = SubscriptionEventCallbacks(message_lost=missed)
        subscribe_to_all(self, kind, topic, take, qos, event_callbacks=events, raw=True)

    def _plain(self, name: str, kind, topic: str, came: float, logged: int, content: bytes) -> None:
        stamp = messages.stamp_of(content) if messages.has_header(kind) else logged
        self._recording.take(came, topic, name, content, stamp)

    def _picture(
        self, camera, kind, ending, compress, topic: str, came: float, logged: int, content: bytes
    ) -> float:
        """In the thread: a malformed picture is refused, anything else that goes wrong is a fault
        of ours.
        """
        begun = time.monotonic()
        message = deserialize_message(content, Image)
        stamp = messages.stamp_ns(message.header.stamp)
        try:
            encoded = serialized(
                topic + ending, compress(stamp, camera, image_messages.pixels(message, kind)), stamp
            )
        except (ValueError, TypeError) as error:
            self.get_logger().error(f"{topic} not recorded: {error}", throttle_duration_sec=2.0)
            return time.monotonic() - begun
        encoding = time.monotonic() - begun
        self._recording.take(came, *encoded)
        return encoding

    def _listen(self, topic: str, message) -> None:
        """Keep what is said of the episode, and save it where the operator says so: after their
        last word on it.
        """
        try:
            if topic == topics.SIM_RESULT:
                self._jobs.tell(partial(self._recording.result, dict(json.loads(message.data))))
                return
            marks = messages.mark_of(message)
        except (ValueError, TypeError) as error:
            self.get_logger().error(f"{topic} refused: {error}", throttle_duration_sec=2.0)
            return
        save = marks.pop("save", False)
        self._jobs.tell(partial(self._mark, marks))
        if save:
            self._saving.reset()

    def _mark(self, marks: dict) -> None:
        if not self._recording.mark(marks):
            self.get_logger().error(
                f"{topics.MARK} refused: no episode is recorded, {marks} is said of none"
            )

    def _settled(self) -> None:
        if not self._saving.is_canceled():
            self._saving.cancel()
            self._jobs.ask(self._recording.save).add_done_callback(self._complain)

    def _complain(self, future) -> None:
        """Of what nobody waits for, say at least what went wrong."""
        if (error := future.exception()) is not None:
            self.get_logger().error(str(error))

    def _service(self, act: Callable, after_pictures: bool):
        """Serve ``act``, which is given when it was asked for [s]; the answer tells what came of
        it.
        """

        async def serve(request, response):
            self._settled()  # what was wished first is done first
            work = partial(act, time.monotonic())
            try:
                response.message, response.success = (
                    str(await self._jobs.ask(work, after_pictures)),
                    True,
                )
            except (InputError, OSError) as error:
                response.message, response.success = str(error), False
            return response

        return serve

    def _examine(self) -> None:
        """Have the doctor's quick findings in every episode."""
        self._recording.about["doctor"] = [check._asdict() for check in run_checks(QUICK)]

    def _report(self) -> None:
        kept, behind = self._recording, self._backlog
        values = {
            "recording": kept.on,
            "saved": kept.saved,
            "cut": kept.cut,
            "kept_s": f"{kept.kept:.0f}",
        }
        values |= {"free": f"{kept.free:.3f}", "waiting_mb": f"{behind.size / 1e6:.1f}"}
        values |= {
            "waiting": behind.waiting,
            "done": behind.done,
            "behind_s": f"{behind.seconds:.1f}",
        }
        values |= {
            "picture_ms": f"{1e3 * (behind.encoding + behind.writing):.1f}",
            "slower": behind.slow,
        }
        for what, counts in {"received": self._received, **kept.counts}.items():
            values |= {f"{what} {topic}": count for topic, count in counts.items()}
        values |= self._reasons.values()
        self._diagnostics.publish(
            messages.diagnostics(now_ns(self), "recorder", "recording", values)
        )

    def close(self) -> None:
        """An unfinished episode stays behind as .partial."""
        self._settled()
        self._jobs.close()
        if partial_folder := self._recording.abandon():
            self.get_logger().warn(
                f"{partial_folder} was not saved: `gwm data recover {partial_folder}`"
            )


def main() -> int:
    """Entry point."""
    return spin(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
