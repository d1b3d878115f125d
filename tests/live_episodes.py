"""Episodes as a live graph records them: the simulator, by the recorder's own class, cameras at
their own rate.
"""

from __future__ import annotations

from pathlib import Path

from gwm_core import topics
from gwm_core.data.ros_messages import (
    STORE,
    camera_info,
    compressed_color,
    compressed_depth,
    joint_state,
    serialized,
)
from gwm_core.recording.recorder import DiskConfig, Recorder
from gwm_core.recording.ring_buffer import RingBuffer
from gwm_core.runtime.planner import Planner
from gwm_core.sim.expert import Expert
from gwm_core.sim.rollout import Observer, RolloutConfig, SimEnvironment, rollout
from gwm_core.sim.tasks import sample_layout
from gwm_core.site import simulation_site
from gwm_core.training.collection.episode_sources import LATENCY

BEGUN = 1_700_000_000_000_000_000  # [ns] live stamps are of the wall clock


def status(stamp: int, state: str, cause: str, plan: int):
    """gate/status as the gate publishes it."""
    kinds = STORE.types
    values = {"state": state, "cause": cause, "plan": plan}
    pairs = [
        kinds["diagnostic_msgs/msg/KeyValue"](key, str(value)) for key, value in values.items()
    ]
    header = kinds["std_msgs/msg/Header"](
        kinds["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9)), ""
    )
    one = kinds["diagnostic_msgs/msg/DiagnosticStatus"](0, "gate", f"{state}: {cause}", "", pairs)
    return kinds["diagnostic_msgs/msg/DiagnosticArray"](header, [one])


class Live(Observer):
    """Gives a recorder what a graph publishes; at the end the gate ramps and rests, as when an
    operator says hold.
    """

    def __init__(self, recording: Recorder, world: SimEnvironment, hz: float):
        self._recording, self._world, self._hz = recording, world, hz
        self._pictures, self._ticks = 0, 0

    def write(self, topic: str, message, stamp: int) -> None:
        """A message that comes now."""
        self._recording.take(stamp * 1e-9, *serialized(topic, message, stamp))

    def tick(self, state, command) -> None:
        """Joints and commands at 100 Hz, statuses at 10 Hz, pictures at the cameras' rate."""
        stamp, r = BEGUN + state.stamp, command.reference
        self.write(
            topics.JOINT_STATES, joint_state(stamp, topics.ARM_JOINTS, state.q, state.dq), stamp
        )
        self.write(
            topics.GRIPPER_STATES,
            joint_state(stamp, topics.FINGER_JOINTS, [state.width / 2] * 2),
            stamp,
        )
        names = (*topics.ARM_JOINTS, topics.WIDTH)
        sent = joint_state(stamp + 1, names, [*r.q, command.width], [*r.dq, 0], [*r.ddq, 0])
        self.write(topics.COMMAND, sent, stamp + 1)
        if self._ticks % 10 == 0:
            follows = ("RUNNING", "following plans") if command.chunk_id else ("HOLD", "armed")
            self.write(topics.STATUS, status(stamp + 2, *follows, command.chunk_id), stamp + 2)
        if state.stamp * 1e-9 >= self._pictures / self._hz:
            self._pictures += 1
            self._see(stamp)
        self._ticks += 1

    def _see(self, stamp: int) -> None:
        cameras = self._world.cameras
        for image in cameras(self._world.sim.snapshot()):
            prefix = topics.prefix_of(image.camera)
            info = camera_info(stamp, image.camera, cameras.K, cameras.width, cameras.height)
            self.write(topics.info(prefix), info, stamp)
            color = compressed_color(stamp, image.camera, image.color)
            depth = compressed_depth(stamp, image.camera, image.depth_mm)
            self.write(topics.color(prefix) + "/compressed", color, stamp)
            self.write(topics.depth(prefix) + "/compressedDepth", depth, stamp)


def record_live(
    folder: Path, hz: float, seeds: tuple[int, ...], renderer: str, seconds: float = 30.0
) -> Path:
    """An episode for each seed, of the expert that lifts the cube; returns ``folder``."""
    world = SimEnvironment(renderer=renderer)
    about = {
        "task": "lift",
        "robot": "sim",
        "cameras": {n: c.to_dict() for n, c in simulation_site().cameras.items()},
    }
    recording = Recorder(
        folder, about | {"unusable": []}, RingBuffer(1.0, 1 << 20), DiskConfig(0, 0.0)
    )
    for seed in seeds:
        recording.start()
        plan = RolloutConfig(latency=LATENCY, replan_every=2, time_limit=seconds)
        trial = rollout(
            world, Planner(Expert()), sample_layout("lift", seed), plan, Live(recording, world, hz)
        )
        recording.save({"success": trial.success, "seconds": trial.seconds})
    return folder
