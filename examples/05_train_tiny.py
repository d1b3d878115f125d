"""Collect two demonstrations and train a tiny policy on them, in half a minute.

    python examples/05_train_tiny.py [FOLDER]

The policy is far too small to be good. `./gwm train policy` trains the real one.
"""

import sys
from dataclasses import replace
from pathlib import Path

from gwm_core import (
    POLICIES,
    CollectConfig,
    TrainingRun,
    choose_renderer,
    collect,
    load_samples,
    train_world_action_model,
)


def main(folder: Path) -> None:
    """Write FOLDER/episodes and FOLDER/policy."""
    episodes, policy = folder / "episodes", folder / "policy"
    outcomes = collect(
        CollectConfig("lift", episodes, episodes=2, seed=10, renderer=choose_renderer()),
        processes=1,
    )
    print(f"2 episodes, {outcomes['success']} of them succeeded")

    network, training = POLICIES["tiny"]
    network = replace(network, tasks=("lift",))
    training = replace(training, iterations=10, warmup=2, validate_every=5)
    samples = load_samples([episodes], network.tasks, network.lift, processes=1)
    print(f"{len(samples)} samples: a scene, the arm's state and the next 16 waypoints each")

    figures = train_world_action_model(
        samples,
        network,
        TrainingRun(
            training,
            policy,
            {"example": "05_train_tiny"},
            progress=lambda done, total, values: print(f"{done}/{total} {values}"),
        ),
    )
    print(f"{policy}: held-out position error {figures['position_mm']:.0f} mm")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples"))
