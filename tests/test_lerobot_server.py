"""LeRobot's checkpoints behind our server for them, in a Python that has lerobot 0.6.1."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect

from gwm_core.runtime.remote import wire
from gwm_core.runtime.remote.actions import rows_of
from gwm_core.runtime.remote.contract import parse_contract
from gwm_core.runtime.remote.observations import observation_of
from gwm_core.types import ArmState, Frame, Observation

PYTHON = os.environ.get("GWM_LEROBOT_PYTHON")
SERVE = Path(__file__).parents[1] / "examples/lerobot/serve.py"
pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="GWM_LEROBOT_PYTHON: a Python with lerobot 0.6.1"),
    pytest.mark.timeout(300),
]
# a checkpoint with random weights, and what LeRobot's own loop makes of a picture and a state
MAKE = """
import sys
import numpy as np, torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies import make_pre_post_processors
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
folder, out = sys.argv[1:]
seen = {
    "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 64, 96)),
    "observation.state": PolicyFeature(FeatureType.STATE, (9,)),
}
done = {"action": PolicyFeature(FeatureType.ACTION, (10,))}
config = ACTConfig(
    input_features=seen, output_features=done, chunk_size=8, n_action_steps=8, dim_model=32,
    n_heads=2, dim_feedforward=32, n_encoder_layers=1, n_vae_encoder_layers=1,
    pretrained_backbone_weights=None, device="cpu",
)
torch.manual_seed(0)
policy = ACTPolicy(config).eval()
policy.save_pretrained(folder + "/act")
shapes = {name: f.shape if len(f.shape) == 1 else (3, 1, 1) for name, f in (seen | done).items()}
stats = {
    name: {"mean": torch.full(shape, 0.1), "std": torch.full(shape, 2.0)}
    for name, shape in shapes.items()
}
before, after = make_pre_post_processors(config, dataset_stats=stats)
before.save_pretrained(folder + "/act")
after.save_pretrained(folder + "/act")
DiffusionConfig(input_features=seen, output_features=done).save_pretrained(folder)
given = np.load(out)
batch = {
    "observation.images.front": torch.tensor(given["image"]).permute(2, 0, 1) / 255,
    "observation.state": torch.tensor(given["state"]),
    "task": "stack",
}
with torch.inference_mode():
    rows = [after(policy.select_action(before(dict(batch))))[0].numpy() for _ in range(8)]
np.save(out, np.stack(rows))
"""


@pytest.fixture(scope="module")
def observation():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (64, 96, 3), np.uint8)
    frame = Frame("front", 1, image, np.ones((64, 96), np.float32), np.eye(3), np.eye(4))
    state = ArmState(1, np.linspace(-1, 1, 7), np.zeros(7), 0.04, 0.03)
    return Observation(1, (frame,), state, "stack")


@pytest.fixture(scope="module")
def checkpoint(observation, tmp_path_factory):
    """Folder of a checkpoint, and the rows that LeRobot itself plans for ``observation``."""
    folder = tmp_path_factory.mktemp("lerobot")
    state = observation.state
    values = np.float32([*state.q, state.width, state.width_command])
    with open(folder / "plan.npy", "wb") as file:
        np.savez(file, image=observation.frames[0].color, state=values)
    run(folder, "-c", MAKE, folder, folder / "plan.npy")
    return folder / "act", np.load(folder / "plan.npy")


def run(home, *words):
    done = subprocess.run(
        [PYTHON, *map(str, words)], env=environment(home), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def environment(home):
    return os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}


def test_a_checkpoint_plans_as_in_lerobot_itself(checkpoint, observation, tmp_path):
    folder, wanted = checkpoint
    server = subprocess.Popen(
        [PYTHON, str(SERVE), str(folder), "0"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = next(line for line in server.stdout if "ws://" in line)
        address = next(word for word in line.split() if word.startswith("ws://"))
        with connect(address, max_size=None) as socket:
            metadata = wire.unpack(socket.recv(timeout=20))
            contract = parse_contract(address, metadata["contract"])
            assert contract.actions.rows == 8 and contract.images["observation.images.front"]
            for wrong in (b"no message", wire.pack({"observation.state": np.zeros(9), "task": ""})):
                socket.send(wrong)  # the second one lacks the picture
                said = socket.recv(timeout=20)
                assert isinstance(said, str) and ": " in said
            socket.send(wire.pack(observation_of(contract, observation)))
            rows = rows_of(contract.actions, wire.unpack(socket.recv(timeout=20)))
        np.testing.assert_allclose(rows, wanted, atol=1e-5)
    finally:
        server.kill()
        server.wait()


def test_a_policy_with_a_history_is_refused(checkpoint, tmp_path):
    done = subprocess.run(
        [PYTHON, str(SERVE), str(checkpoint[0].parent), "0"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "sees 2 observations at once: train it with 1" in done.stderr.splitlines()[-1]
