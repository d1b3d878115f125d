"""Drive the simulated arm through the gate: follow a chunk, then stop in the middle of it.

    python examples/04_gate_in_simulation.py

The gate reads no clock. The loop below is its clock: 100 periods are one second.
"""

from dataclasses import replace

import numpy as np

from gwm_core import (
    HOME_Q,
    ActionChunk,
    Gate,
    SimEnvironment,
    check_commands,
    columns,
    sample_layout,
)

PERIOD = 0.01  # [s]
STOP_AT = 0.8  # [s] the chunk ends at 1.6 s


def main() -> None:
    """Print what the gate does and what the independent checker says."""
    environment = SimEnvironment(cameras=False)
    simulator = environment.sim
    simulator.reset(sample_layout("lift", seed=5000))
    simulator.teleport(HOME_Q)

    gate, commands = Gate(), []
    begin = environment.state(simulator.width)
    for tick in range(-20, 0):  # the gate arms only after fresh joint states without a break
        stamp = begin.stamp + round(tick * PERIOD * 1e9) + 10**9
        gate.measure(replace(begin, stamp=stamp), tick * PERIOD)
    print("arm:", gate.arm(-PERIOD) or "accepted")

    q = HOME_Q + np.linspace(0, 0.2, 16)[:, None] * [1, 0, 0, 0, 0, 0, 0]  # (16, 7) [rad]
    for tick in range(150):
        now = tick * PERIOD
        state = environment.state(simulator.width)
        state = replace(state, stamp=state.stamp + 10**9)
        gate.measure(state, now)
        gate.beat(1, now)  # says that the policy is alive
        if tick == 1:
            chunk = ActionChunk(state.stamp, q, np.full(16, 0.08))
            print("chunk:", gate.accept(chunk, age=0.0, now=now) or "accepted")
        if tick == round(STOP_AT / PERIOD):
            gate.stop()
        command = gate.step(now)
        if command is not None:
            simulator.command(command.reference.q, command.reference.dq)
            commands.append(command)
        if tick % 20 == 0:
            print(f"{now:.1f} s  {gate.state.name:9s} joint 1 at {simulator.q[0]:+.3f} rad")
        simulator.step(PERIOD)
    result = check_commands(*columns(commands))
    print(f"{gate.state.name}: {gate.cause}; {result.total} violations in {len(commands)} commands")


if __name__ == "__main__":
    main()
