"""Record a rollout of the simulation as the live recorder does, with the truth about its tasks."""

from __future__ import annotations

from gwm_core import topics
from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.data.ros_messages import camera_info, compressed_color, compressed_depth, joint_state
from gwm_core.geometry.kinematics import fk
from gwm_core.sim.rollout import Observer, SimEnvironment
from gwm_core.sim.tasks import TASKS, reached

# [s] a sample every 0.1 s trains as well as one every 1/15 s, and costs less
CAMERA_PERIOD = 0.1


class SimRecorder(Observer):
    """Writes observations and commands of a rollout.

    Attributes:
        reached: task -> intervals [begin, end] [ns] in which its rule holds, for every task that
            the layout has the objects of.
    """

    def __init__(self, writer: EpisodeWriter, world: SimEnvironment):
        self._writer, self._world = writer, world
        self._next_image = 0.0
        objects = world.sim.objects()
        self.reached: dict[str, list[list[int]]] = {
            task: [] for task in TASKS if task != "stack" or "blue" in objects
        }
        self._holds = dict.fromkeys(self.reached, False)
        for name in world.cameras.T_base_camera:
            topic = topics.info(topics.prefix_of(name))
            writer.write(
                topic,
                camera_info(1, name, world.cameras.K, world.cameras.width, world.cameras.height),
                1,
            )

    def tick(self, state, command) -> None:
        """Joint states and command every 10 ms, images every CAMERA_PERIOD."""
        stamp, write = state.stamp, self._writer.write
        write(topics.JOINT_STATES, joint_state(stamp, topics.ARM_JOINTS, state.q, state.dq), stamp)
        write(
            topics.GRIPPER_STATES,
            joint_state(stamp, topics.FINGER_JOINTS, [state.width / 2] * 2),
            stamp,
        )
        r = command.reference
        message = joint_state(
            stamp,
            (*topics.ARM_JOINTS, topics.WIDTH),
            [*r.q, command.width],
            [*r.dq, 0],
            [*r.ddq, 0],
            topics.RESET_FRAME if command.reference_reset else "",
        )
        write(topics.COMMAND, message, stamp)
        self._note_tasks(stamp)
        if stamp * 1e-9 >= self._next_image - 1e-6:
            self._next_image += CAMERA_PERIOD
            for image in self._world.cameras(self._world.sim.snapshot()):
                prefix = topics.prefix_of(image.camera)
                color = compressed_color(stamp, image.camera, image.color)
                depth = compressed_depth(stamp, image.camera, image.depth_mm)
                write(topics.color(prefix) + "/compressed", color, stamp)
                write(topics.depth(prefix) + "/compressedDepth", depth, stamp)

    def _note_tasks(self, stamp: int) -> None:
        sim = self._world.sim
        now = sim.objects(), fk(sim.q)[:3, 3], sim.width
        for task, intervals in self.reached.items():
            holds = reached(task, *now)
            if holds and not self._holds[task]:
                intervals.append([stamp, stamp])
            elif holds:
                intervals[-1][1] = stamp
            self._holds[task] = holds
