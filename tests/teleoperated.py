"""An operator at a gamepad in front of the simulation, without ROS: records a Joy stream, and
replays one.

python tests/teleoperated.py     writes tests/data/joy_lift.csv again
"""

from pathlib import Path

import numpy as np

from gwm_core.control.devices import DEVICES
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.control.teleop import Teleop, TeleopConfig
from gwm_core.geometry.kinematics import HOME_Q, fk
from gwm_core.sim.expert import nearest_symmetry
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import Success, sample_layout
from gwm_core.types import ArmState

RECORDING = Path(__file__).parent / "data/joy_lift.csv"
SEED, TICK, JOY_PERIOD = 310, 0.01, 0.02
AXES, BUTTONS = 8, 12
# of full deflection: a thumb is never quite still, and a pad that is counts as gone after a second
TREMOR = 0.01


def read_recording() -> list[tuple[list[float], list[int]]]:
    """One Joy (axes, buttons) every 20 ms."""
    rows = np.loadtxt(RECORDING, delimiter=",")
    return [(row[:AXES].tolist(), row[AXES:].astype(int).tolist()) for row in rows]


class Hand:
    """The operator's: looks at the cube, goes above it, down, closes, lifts."""

    def __init__(self):
        self.stage, self.since, self.tremor = 0, 0.0, TREMOR

    def joy(self, sim: Simulator, now: float) -> tuple[np.ndarray, np.ndarray]:
        """What the gamepad tells now."""
        device, config = DEVICES["gamepad"], TeleopConfig()
        axes, buttons = np.zeros(AXES), np.zeros(BUTTONS, int)
        if now < 0.3:
            return axes, buttons  # the clutch not held yet
        T, red = fk(sim.q), sim.objects()["red"]
        yaw = np.arctan2(T[1, 0], T[0, 0])
        goal = np.array([*red[:2], red[2] + (0.09 if self.stage == 0 else 0.0)])
        if self.stage >= 2:
            goal = np.array([*T[:2, 3], T[2, 3] if self.stage == 2 else 0.18])
        error = np.array(
            [
                *(goal - T[:3, 3]),
                0,
                0,
                nearest_symmetry(red[3], yaw) - yaw if self.stage < 2 else 0.0,
            ]
        )
        wish = np.clip(2.0 * error / np.repeat([config.speed, config.turn_speed], 3), -1, 1)
        wish[np.abs(wish) < 0.02] = 0
        wish = np.where(
            wish == 0, 0, np.sign(wish) * (config.deadband + (1 - config.deadband) * np.abs(wish))
        )
        for (index, sign), deflection in zip(device.axes, wish):
            axes[index] = sign * deflection
        self.tremor = -self.tremor
        axes[device.axes[0][0]] += self.tremor
        buttons[device.clutch] = 1
        buttons[device.close] = self.stage == 2
        near = np.abs(error[:3]).max() < 0.006 and abs(error[5]) < 0.05
        if (self.stage in (0, 1) and near) or (self.stage == 2 and now - self.since > 1.2):
            self.stage, self.since = self.stage + 1, now
        return axes.round(4), buttons


def run(sim: Simulator, joy, seconds: float = 25.0) -> tuple[bool, list, list]:
    """Success, the commands the gate sent, and the Joys, of one try with ``joy(sim, now)`` every 20
    ms.
    """
    sim.data.time = 0.0
    sim.reset(sample_layout("lift", SEED))
    sim.teleport(HOME_Q)
    gate, teleop, success = (
        Gate(GateConfig(auto_arm=True)),
        Teleop(DEVICES["gamepad"]),
        Success("lift"),
    )
    period, log, joys, width = round(TeleopConfig().period / TICK), [], [], None
    gate.measure_at_rest(ArmState(1, sim.q, sim.dq, sim.width))
    for k in range(round(seconds / TICK)):
        now = k * TICK
        stamp = 1 + round(now * 1e9)
        gate.measure(ArmState(stamp, sim.q, sim.dq, sim.width), now)
        gate.receive_policy_heartbeat(1, now)
        if k == 0:
            gate.arm(now)
        if k % 2 == 0:
            joys.append(joy(sim, now))
            teleop.joy(*joys[-1], now)
        if k % period == 0 and (chunk := teleop.make_chunk(stamp, now)) is not None:
            gate.accept(chunk, 0.0, now)
        command = gate.step(now)
        log.append(command)
        sim.command(command.reference.q, command.reference.dq)
        teleop.reference(command.reference.q, command.width, now)
        if command.width != width:
            sim.grip(command.width)
            width = command.width
        sim.step(TICK)
        if success.update(now, sim.objects(), fk(sim.q)[:3, 3], sim.width):
            return True, log, joys
    return False, log, joys


if __name__ == "__main__":
    lifted, _, recorded = run(Simulator(), Hand().joy)
    if not lifted:
        raise SystemExit("the cube was not lifted")
    recorded += [recorded[-1]] * 50
    rows = np.array([[*axes, *buttons] for axes, buttons in recorded])
    RECORDING.parent.mkdir(exist_ok=True)
    np.savetxt(RECORDING, rows, fmt="%.4g", delimiter=",")
    print(f"{len(rows)} messages, {len(rows) * JOY_PERIOD:.1f} s")
