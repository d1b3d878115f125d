"""Records episodes of the live graph in the format of ``gwm collect``: start, save or discard."""

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
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2
from std_msgs.msg import Float64MultiArray, String, UInt64
from trajectory_msgs.msg import JointTrajectory

from gwm.doctor.report import QUICK, run_checks
from gwm.ros import image_messages, messages
from gwm.ros.job_queue import JobQueue
from gwm.ros.late_service import LateAnswer, serve_later
from gwm.ros.node import EVERY, RELIABLE, SENSOR, STEADY, declare, now_ns, spin, subscribe_to_all
from gwm_core import topics
from gwm_core.data.ros_messages import compressed_color, compressed_depth, serialized
from gwm_core.errors import InputError
from gwm_core.joint_states import read_gripper_state, read_joint_state
from gwm_core.reasons import Reasons
from gwm_core.recording.backlog import WriteBacklog
from gwm_core.recording.provenance import provenance
from gwm_core.recording.recorder import DiskConfig, Recorder
from gwm_core.recording.ring_buffer import RingBuffer
from gwm_core.site import site_of

READERS = {topics.JOINT_STATES: read_joint_state, topics.GRIPPER_STATES: read_gripper_state}
HIGH_RATE = dict.fromkeys(
    (topics.JOINT_STATES, topics.GRIPPER_STATES, topics.COMMAND, topics.STATUS), EVERY
)
HIGH_RATE[topics.ALIVE] = QoSProfile(depth=EVERY.depth, reliability=SENSOR.reliability)
# What may wait for the writing thread: [bytes], and [s] that it would take to write them.
MAX_BACKLOG_BYTES = 256 << 20
MAX_BACKLOG_TIME = 3.0
SETTLE = 0.5  # [s] from a mark with "save" to saving: earlier messages of other topics may follow


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
    keep: float = 30.0  # [s] of the past, held for recorder/keep
    keep_mb: int = 512  # of memory for it, at most


class RecorderNode(Node):
    """Records topics as received. Images are compressed first, depth without loss.

    A thread writes, and it alone touches the episode. Marks, counts and requests go through its
    backlog.
    """

    def __init__(self):
        super().__init__("recorder")
        self._settings = p = declare(self, RecorderParameters)
        self._site = site_of(p.robot, p.site)
        details = provenance(self._site, p.robot, p.task, p.policy, p.operator, Path(p.record))
        disk = DiskConfig(**{field.name: getattr(p, field.name) for field in fields(DiskConfig)})
        self._recording = Recorder(
            Path(p.record), details, RingBuffer(p.keep, p.keep_mb << 20), disk
        )
        self._reasons = Reasons(self.get_logger().warn)
        self._received = Counter()
        self._corrections, self._correction = 0, ""  # how many, and why the last one was refused
        self._backlog = WriteBacklog(MAX_BACKLOG_BYTES, MAX_BACKLOG_TIME)
        self._jobs = JobQueue(self, lambda: self._recording.tick(time.monotonic()), self._backlog)
        self._jobs.ask(self._run_checks, self._log_failure)
        self._saving = self.create_timer(SETTLE, self._save_if_due, clock=STEADY, autostart=False)
        self._subscribe_all()
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        recording = self._recording
        for name, act, after_pictures in (
            ("start", recording.start, False),
            ("save", lambda _: recording.save(), True),
            ("discard", lambda _: recording.discard(), False),
            ("keep", lambda _: recording.keep(), True),
        ):
            serve = self._service(act, after_pictures)
            serve_later(self, f"recorder/{name}", serve)
        self.create_timer(0.5, self._report, clock=STEADY)

    def _subscribe_all(self) -> None:
        kinds = {
            topics.JOINT_STATES: JointState,
            topics.GRIPPER_STATES: JointState,
            topics.COMMAND: JointState,
            topics.CHUNK: JointTrajectory,
            topics.ALIVE: UInt64,
            topics.STATUS: DiagnosticArray,
            topics.FCI_STATE: DiagnosticArray,
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
            kinds |= {topics.imagined(view, step): CompressedImage for step in topics.LOOKAHEADS}
        for topic, kind in kinds.items():
            self._subscribe(kind, topic, HIGH_RATE.get(topic, RELIABLE))
        for name, camera in self._site.cameras.items():
            color = partial(compressed_color, lossless=self._settings.lossless)
            pictures = {
                topics.color(camera.prefix): ("color", "/compressed", color),
                topics.depth(camera.prefix): ("depth", "/compressedDepth", compressed_depth),
            }
            for topic, how in pictures.items():
                self._subscribe(Image, topic, SENSOR, partial(self._write_picture, name, *how))
            self._subscribe(CameraInfo, topics.info(camera.prefix), SENSOR)

    def _subscribe(self, kind, topic: str, qos, write: Callable | None = None) -> None:
        """Have the thread write a topic as received; count received, dropped and lost messages."""
        self._received[topic] = 0
        write = write or partial(
            self._write_message, f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}", kind
        )

        def take(content: bytes) -> None:
            self._received[topic] += 1
            job = partial(write, topic, time.monotonic(), now_ns(self), content)
            if reason := self._jobs.offer(job, len(content), kind is Image):
                self._jobs.tell(partial(self._recording.count_missing, "dropped", topic))
                self.get_logger().error(f"{topic} dropped: {reason}", throttle_duration_sec=2.0)
            # It is recorded as received, but no sample can be made of an unreadable message.
            if topic in READERS:
                reason = READERS[topic](deserialize_message(content, kind))[1]
                self._reasons.note(topic, reason, time.monotonic())
            if topic in (topics.SIM_RESULT, topics.MARK):
                self._take_mark(topic, deserialize_message(content, String))

        def missed(event) -> None:
            self._jobs.tell(
                partial(self._recording.count_missing, "lost", topic, event.total_count_change)
            )

        events = SubscriptionEventCallbacks(message_lost=missed)
        subscribe_to_all(self, kind, topic, take, qos, event_callbacks=events, raw=True)

    def _write_message(
        self, name: str, kind, topic: str, received: float, logged: int, content: bytes
    ) -> None:
        stamp = messages.stamp_of(content) if messages.has_header(kind) else logged
        self._recording.take(received, topic, name, content, stamp)
        if topic == topics.CHUNK:
            self._recording.interventions.chunk(messages.frame_of(content), stamp)

    def _write_picture(
        self,
        camera,
        kind,
        ending,
        compress,
        topic: str,
        received: float,
        logged: int,
        content: bytes,
    ) -> float:
        """Compress and record an image, in the thread. A malformed one is refused."""
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
        self._recording.take(received, *encoded)
        return encoding

    def _take_mark(self, topic: str, message) -> None:
        """Record a result or a mark of the episode, and save the episode where a mark says so."""
        try:
            if topic == topics.SIM_RESULT:
                self._jobs.tell(partial(self._recording.result, dict(json.loads(message.data))))
                return
            marks = messages.mark_of(message)
        except (ValueError, TypeError) as error:
            self.get_logger().error(f"{topic} refused: {error}", throttle_duration_sec=2.0)
            return
        if episode := marks.pop("correct", ""):
            self._save_if_due()  # requests are served in order
            self._jobs.ask(
                partial(self._recording.correct, episode, marks["success"]), self._note_correction
            )
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

    def _save_if_due(self) -> None:
        if not self._saving.is_canceled():
            self._saving.cancel()
            self._jobs.ask(self._recording.save, self._log_failure)

    def _note_correction(self, _, error: BaseException | None) -> None:
        self._corrections += 1
        self._correction = "" if error is None else str(error)
        self._log_failure(None, error)

    def _log_failure(self, _, error: BaseException | None) -> None:
        """Log the error of a job that nobody waits for."""
        if error is not None:
            self.get_logger().error(str(error))

    def _service(self, act: Callable, after_pictures: bool):
        """Return a service that runs ``act(time of the request [s])`` in the thread."""

        def serve(answer: LateAnswer) -> None:
            self._save_if_due()  # requests are served in order

            def finish(result, error: BaseException | None) -> None:
                if error is not None and not isinstance(error, InputError | OSError):
                    raise error
                answer.give(error is None, str(result if error is None else error))

            self._jobs.ask(partial(act, time.monotonic()), finish, after_pictures)

        return serve

    def _run_checks(self) -> None:
        """Put the doctor's quick checks into every episode."""
        self._recording.about["doctor"] = [check._asdict() for check in run_checks(QUICK)]

    def _report(self) -> None:
        recording, backlog = self._recording, self._backlog
        values = {
            "recording": recording.is_recording,
            "saved": recording.saved,
            "verdict": recording.verdict,
            "corrections": self._corrections,
            "correction": self._correction,
            "episodes": recording.episodes,
            "seconds": f"{recording.seconds(time.monotonic()):.1f}",
            "cut": recording.cut,
            "kept_s": f"{recording.buffered:.0f}",
            "free": f"{recording.free:.3f}",
            "waiting_mb": f"{backlog.size / 1e6:.1f}",
            "waiting": backlog.waiting,
            "done": backlog.done,
            "behind_s": f"{backlog.seconds:.1f}",
            "picture_ms": f"{1e3 * (backlog.encoding + backlog.writing):.1f}",
            "slower": backlog.bottleneck,
        }
        for what, counts in {"received": self._received, **recording.counts}.items():
            values |= {f"{what} {topic}": count for topic, count in counts.items()}
        values |= self._reasons.values()
        text = "recording" if recording.is_recording else "ready"
        self._diagnostics.publish(messages.diagnostics(now_ns(self), "recorder", text, values))

    def close(self) -> None:
        """End the thread. An unfinished episode stays behind as .partial."""
        self._save_if_due()
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
