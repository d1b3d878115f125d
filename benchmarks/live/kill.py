"""``gwm bench kill``: kill a process that replays recorded chunks, and time the gate's ramp.

The gate is the real process. This one is the arm: it follows the commands, publishes joint states,
and watches. The process to be killed is this module too, run with a file of plans as its argument;
it waits for a line on its input.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes
from gwm.process.session import IdleLoop, ending, live
from gwm.ros import messages
from gwm.ros.node import NEWEST, RELIABLE, SENSOR, STEADY, now_ns, spin
from gwm.ros.operator_client import OperatorClient
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt64
from trajectory_msgs.msg import JointTrajectory

from benchmarks.gate.recorded_chunks import recorded_chunks
from gwm_core import topics
from gwm_core.files.json_files import to_json, write_json
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.types import OPEN_WIDTH, ActionChunk

PERIOD = 0.5  # [s] between plans
BRAKING = 3.0  # [rad/s2] against the motion: the replayed plans do not brake so hard, a ramp does
MOVING = 0.06  # [rad/s]
GATE = ("periods", "late", "longest_ms", "step_ms_p99", "joints_hz")  # of its status
TYPICAL_DELAY = 0.060  # [s] until the ramp begins, nearly always
MAX_DELAY = 0.120  # [s] always


class ReplayNode(Node):
    """Publishes a heartbeat and recorded chunks in turn, moved to the gate's reference."""

    def __init__(self):
        super().__init__("replay")
        self._chunks = np.load(sys.argv[1])["q"]
        self._next = random.randrange(1000)
        self._q = None
        self._chunk = self.create_publisher(JointTrajectory, topics.CHUNK, RELIABLE)
        self._alive = self.create_publisher(UInt64, topics.ALIVE, SENSOR)
        self.create_subscription(JointState, topics.COMMAND, self._on_command, NEWEST)
        print("ready", flush=True)
        sys.stdin.readline()
        self._last = 0
        self.create_timer(0.02, self._publish_heartbeat, clock=STEADY)
        self.create_timer(PERIOD, self._publish_chunk, clock=STEADY)

    def _on_command(self, message) -> None:
        self._q = np.array(message.position[:7])

    def _publish_heartbeat(self) -> None:
        self._alive.publish(UInt64(data=self._last))

    def _publish_chunk(self) -> None:
        if self._q is None:
            return
        chunk = self._chunks[self._next % len(self._chunks)]
        self._next += 1
        # The same motion, towards home.
        offset = np.where(self._q > HOME_Q, -1.0, 1.0) * np.abs(chunk - chunk[0])
        self._last = now_ns(self)
        self._chunk.publish(
            messages.trajectory(
                ActionChunk(self._last, self._q + offset, np.full(len(chunk), OPEN_WIDTH))
            )
        )


class ReplayedArm(OperatorClient):
    """An arm that follows commands exactly and publishes its joint states."""

    def __init__(self, joint_hz: float):
        super().__init__()
        self.q = HOME_Q.copy()
        self._joints = self.create_publisher(JointState, topics.JOINT_STATES, RELIABLE)
        self._fingers = self.create_publisher(JointState, topics.GRIPPER_STATES, RELIABLE)
        self.create_subscription(JointState, topics.TARGET_JOINT, self._on_target, NEWEST)
        self.create_timer(1.0 / joint_hz, self._publish_state, clock=STEADY)

    def _on_target(self, message) -> None:
        self.q = np.array(message.position)

    def _publish_state(self) -> None:
        stamp = now_ns(self)
        self._joints.publish(messages.joint_state(stamp, topics.ARM_JOINTS, self.q, np.zeros(7)))
        self._fingers.publish(
            messages.joint_state(stamp, topics.FINGER_JOINTS, [OPEN_WIDTH / 2] * 2)
        )

    def speed(self) -> float:
        """Return the speed of the fastest joint in the last command [rad/s]."""
        return float(np.abs(self.commands[-1][1]).max()) if self.commands else 0.0


def bench_kill(kills: int, joint_hz: float, path: str | None) -> int:
    """Kill the process ``kills`` times. Returns 1 for a late ramp or an unfinished run."""
    done: list[tuple[float, float]] = []
    idle, begun = IdleLoop(), False
    (gate,) = (node for node in processes(GraphConfig(policy="expert")) if node.name == "gate")
    with tempfile.TemporaryDirectory() as folder:
        plans, log = Path(folder) / "plans.npz", Path(folder) / "log"
        np.savez(
            plans, q=np.array([p.q for p in recorded_chunks() if np.ptp(p.q, axis=0).max() > 0.15])
        )
        with (
            ending() as end,
            idle,
            live([gate], log, lambda: ReplayedArm(joint_hz)) as (arm, supervisor),
        ):
            begun = True
            arm.require("gate", lambda: arm.status, 30.0, supervisor.poll_all)
            arm.arm(supervisor.poll_all)
            _kills(done, arm, supervisor.poll_all, plans, kills)
    if not begun:
        raise end.error
    # a gap in idle is the machine's
    figures = _figures(done, arm) | {"trouble": end.trouble, "idle": idle.figures}
    if path:
        write_json(path, figures)
    print(to_json(figures))
    late = figures["within_120_ms"] < kills or figures["within_60_ms"] < 0.95 * kills
    return end.code or int(late or figures["violations"] > 0)


def _figures(done: list[tuple[float, float]], arm: ReplayedArm) -> dict:
    """Return figures of the kills that were ``done``, each with seconds to ramp and to rest."""
    delays, rests = np.array(done).reshape(-1, 2).T
    fields = arm.last_status.to_fields() if arm.last_status else {}
    figures = {
        "kills": len(done),
        "violations": arm.command_check().total,
        "within_60_ms": int(np.sum(delays <= TYPICAL_DELAY)),
        "within_120_ms": int(np.sum(delays <= MAX_DELAY)),
        "gate": {k: float(fields[k]) for k in GATE if k in fields},
        "stops": dict(arm.last_status.stops) if arm.last_status else {},
    }
    if done:
        times = np.quantile(1e3 * delays, [0.5, 0.95, 1.0]).round(1).tolist()
        figures |= {
            "ms": dict(zip(("p50", "p95", "worst"), times)),
            "rest_ms_worst": round(1e3 * rests.max()),
        }
    return figures


def _kills(
    done: list[tuple[float, float]], arm: ReplayedArm, poll, plans: Path, kills: int
) -> None:
    """Append seconds from each kill to the first command of the ramp, and to the first at rest.

    They follow from the stamps of the gate's commands, so this process may be busy.
    """
    waiting = _spawn(plans)
    try:
        for k in range(kills):
            process, waiting = waiting, _spawn(plans)
            process.stdin.write("\n")
            process.stdin.flush()
            arm.require("motion", lambda: arm.speed() > MOVING, 15.0, poll)
            arm.wait("a moment", lambda: False, random.uniform(0.05, 0.6), poll)
            arm.require("motion", lambda: arm.speed() > MOVING, 15.0, poll)
            killed = time.time()
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

            def rests(killed=killed) -> bool:
                return arm.speed() < 1e-6 and arm.commands[-1][4] > killed

            arm.require("rest", rests, 3.0, poll)
            newest = arm.commands[-400:]
            after = [
                (at - killed, np.array(dq), np.array(ddq))
                for _, dq, ddq, _, at, _ in newest
                if at > killed
            ]
            delay = next(at for at, dq, ddq in after if _slows(dq, ddq))
            done.append((delay, next(at for at, dq, _ in after if np.abs(dq).max() < 1e-6)))
            if delay > TYPICAL_DELAY:
                print(
                    f"kill {k + 1}: {1e3 * delay:.0f} ms, {arm.says}", file=sys.stderr, flush=True
                )
            arm.wait("the end of it", lambda: False, 0.3, poll)
    finally:
        waiting.kill()
        waiting.wait()


def _slows(dq: np.ndarray, ddq: np.ndarray) -> bool:
    """Return whether a command belongs to a ramp or is at rest."""
    against = -ddq * np.sign(dq) * (np.abs(dq) > 0.01)
    return bool(against.max() > BRAKING or np.abs(dq).max() < 1e-6)


def _spawn(plans: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live.kill", str(plans)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return process


if __name__ == "__main__":
    sys.exit(spin(ReplayNode))
