"""Load the shipped bundle and plan once from simulated cameras.

    python examples/03_load_a_bundle_and_plan.py [BUNDLE]

Loading checks every hash, and runs the golden inputs on the chosen backend. ``backend="auto"``
takes the fastest that works here, and compiles the network on first use.
"""

import sys
from pathlib import Path

from gwm_core import Observation, SimEnvironment, choose_renderer, sample_layout, trained_planner

BUNDLE = Path(__file__).parents[1] / "models/demo"


def main(bundle: str) -> None:
    """Print the chunk that the policy makes of one observation."""
    planner = trained_planner(bundle, backend="torch")
    print(f"tasks of {bundle}: {', '.join(planner.policy.tasks)}")

    environment = SimEnvironment(renderer=choose_renderer())
    environment.sim.reset(sample_layout("pick_place", seed=5000))
    state = environment.state(environment.sim.width)
    observation = Observation(state.stamp, environment.frames(), state, "pick_place")

    decision = planner.decide(observation)
    if decision.chunk is None:
        sys.exit(f"no chunk: {decision.reason}")
    for k, (pose, q) in enumerate(zip(decision.poses, decision.chunk.q), 1):
        print(
            f"+{k * decision.chunk.dt:.1f} s  tool at {pose[:3].round(3)} m,"
            f" fingers {pose[9]:.3f} m, joints {q.round(2)}"
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(BUNDLE))
