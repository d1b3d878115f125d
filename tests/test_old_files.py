"""Files of an older version load, with the numbers that its code printed for them; or are
refused.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes

from gwm_core.data.checks import findings
from gwm_core.data.episode import read_episode, synced_observations
from gwm_core.data.resampled_episode import resample
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import fk
from gwm_core.model.checkpoint import load_policy, load_vae
from gwm_core.runtime.imagination import open_imagination
from gwm_core.runtime.imagined_world import load_imagined_world
from gwm_core.runtime.planner import trained_planner
from gwm_core.scene.lift import LiftConfig, lift
from gwm_core.scene.ply_io import load_scene
from gwm_core.site import simulation_site
from gwm_core.types import Observation

OLD = Path(__file__).parent / "data/old"
NUMBERS = json.loads((OLD / "numbers.json").read_text())


def close(found, expected, tolerance=1e-4):
    np.testing.assert_allclose(np.float64(found), expected, rtol=tolerance, atol=tolerance)


def first_observation():
    episode = read_episode(OLD / "episode")
    stamp, images, state = next(synced_observations(episode))
    frames = tuple(episode.frame(camera, *pair) for camera, pair in images.items())
    return Observation(stamp, frames, state, "lift")


@pytest.fixture(scope="module")
def observation():
    return first_observation()


@pytest.fixture(scope="module")
def scene(observation):
    return lift(observation.frames, LiftConfig(count=128))


@pytest.mark.parametrize("name", ["episode", "recording"])
def test_an_old_episode_has_the_same_content(name):
    expected = NUMBERS[name]
    episode = read_episode(OLD / name)
    observations = list(synced_observations(episode))
    table = resample(episode)[0]
    assert (len(episode.states), len(episode.commands)) == (
        expected["states"],
        expected["commands"],
    )
    assert len(observations) == expected["observations"]
    assert observations[0].stamp == expected["first_stamp"]
    assert observations[-1].stamp == expected["last_stamp"]
    close(np.sum([state.q for state in episode.states]), expected["sum_q"])
    close(np.nansum([state.width for state in episode.states]), expected["sum_width"])
    close(episode.commands.sum(), expected["sum_commands"])
    K = episode.intrinsics["front"]
    close([K[0, 0], K[0, 2]], [expected["fx"], expected["cx"]])
    assert [list(interval) for interval in episode.unusable] == expected["unusable"]
    assert [list(interval) for interval in episode.off_task] == expected["off_task"]
    assert (len(table), int(table.usable.sum())) == (expected["rows"], expected["usable_rows"])
    close(np.float64(table.columns["action"]).sum(), expected["sum_actions"])
    assert episode.notes == expected["notes"] and findings(OLD / name).errors == []


def test_a_recording_knows_when_its_gate_was_off_the_task():
    assert NUMBERS["recording"]["off_task"], "gate/status is in it"


def test_an_old_episode_is_lifted_to_the_same_scene(scene):
    close(np.float64(scene).mean(0), NUMBERS["lift"]["mean"])


def test_an_old_ply_scene_is_the_same():
    scene = load_scene(OLD / "scene.ply")
    assert len(scene) == NUMBERS["scene"]["gaussians"]
    close(np.float64(scene).mean(0), NUMBERS["scene"]["mean"])


def weights(network):
    tensors = [parameter.detach().double() for parameter in network.parameters()]
    return sum(t.numel() for t in tensors), float(sum(t.abs().sum() for t in tensors))


@pytest.mark.parametrize(
    "take",
    [
        load_policy,
        trained_planner,
        lambda folder: processes(GraphConfig(policy=str(folder), task="lift")),
        lambda folder: open_imagination(folder, simulation_site()),
    ],
)
def test_a_policy_of_the_older_kind_is_refused_in_one_line(take, tmp_path):
    """A bundle, the checkpoint that it was made of, and one with a world model beside it."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for name in ("policy.safetensors", "manifest.json"):
        shutil.copyfile(OLD / "bundle" / name, checkpoint / name)
    both = shutil.copytree(OLD / "bundle", tmp_path / "both")
    (both / "world.safetensors").write_bytes(b"weights")
    for folder in (OLD / "bundle", checkpoint, both):
        with pytest.raises(InputError, match="older kind, without futures") as error:
            take(folder)
        assert "`gwm train policy`" in str(error.value) and "\n" not in str(error.value)


def test_a_world_model_without_a_policy_is_refused_where_one_predicts(tmp_path):
    (tmp_path / "world.safetensors").write_bytes(b"weights")
    with pytest.raises(InputError, match="older kind"):
        load_imagined_world(tmp_path)


def test_an_old_vae_encodes_and_decodes_the_same(observation, scene):
    vae = load_vae(OLD / "model").eval()
    count, total = weights(vae)
    assert count == NUMBERS["vae"]["parameters"]
    close(total, NUMBERS["vae"]["sum"])
    T = fk(observation.state.q)
    with torch.no_grad():
        latent = vae.observe(scene[None], T[None])
        decoded = vae.decode(latent)
    close(latent.double().mean((0, 1)), NUMBERS["vae"]["latent"])
    close(decoded.double().mean((0, 1)), NUMBERS["vae"]["decoded"])
