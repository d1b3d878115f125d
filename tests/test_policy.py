import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gwm_core.errors import InputError
from gwm_core.model import weights_file
from gwm_core.model.checkpoint import (
    MANIFEST,
    WEIGHTS,
    load_policy,
    load_predicting_policy,
    load_vae,
    save_policy,
    save_vae,
)
from gwm_core.model.config import VAES, named_config
from gwm_core.model.flow_matching import euler, noised
from gwm_core.model.vae import VAE
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.policy_runner import PolicyRunner
from gwm_core.types import ArmState, Observation

CONFIG = named_config("tiny")[0]


@pytest.fixture
def policy():
    torch.manual_seed(0)
    policy = WorldActionModel(CONFIG).eval()
    for parameter in policy.parameters():  # also those that start at zero
        parameter.data += 0.05 * torch.randn_like(parameter)
    return policy


def inputs(batch=3):
    g = torch.Generator().manual_seed(1)
    points = torch.rand(batch, 256, 3, generator=g) * torch.tensor([0.4, 0.6, 0.2]) + torch.tensor(
        [0.3, -0.3, 0.0]
    )
    proprio = torch.rand(batch, 11, generator=g)
    return points, torch.rand(batch, 256, 3, generator=g), proprio, torch.arange(batch) % 3


def test_moving_hand_and_scene_sideways_moves_the_plan_with_them(policy):
    points, colors, proprio, task = inputs()
    shift = torch.tensor([0.07, -0.11, 0.0])
    moved = proprio.clone()
    moved[:, :3] += shift
    with torch.no_grad():
        a, b = policy(points, colors, proprio, task), policy(points + shift, colors, moved, task)
    torch.testing.assert_close(a[..., :3] + shift, b[..., :3], atol=2e-4, rtol=0)
    torch.testing.assert_close(a[..., 3:], b[..., 3:], atol=2e-4, rtol=0)


def test_rows_do_not_depend_on_the_rest_of_the_batch(policy):
    points, colors, proprio, task = inputs()
    with torch.no_grad():
        whole = policy(points, colors, proprio, task)
        alone = policy(points[1:2], colors[1:2], proprio[1:2], task[1:2])
    torch.testing.assert_close(whole[1:2], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("what", ["points", "colors", "proprio", "task"])
def test_every_input_matters(policy, what):
    values = dict(zip(("points", "colors", "proprio", "task"), inputs()))
    with torch.no_grad():
        before = policy(**values)
        if what == "task":
            values["task"] = (values["task"] + 1) % 3
        elif what == "proprio":
            values["proprio"] = values["proprio"] + 0.1
        else:
            values[what] = values[what].flip(-1)
        assert (policy(**values) - before).abs().max() > 1e-3


def test_cached_denoising_equals_the_sampler(policy):
    """Encoding once and keeping keys and values gives what encoding anew for every step gives."""
    points, colors, *rest = values = inputs()
    with torch.no_grad():

        def anew(x, t):
            condition, kv = policy.encode(policy.gather(points, colors), *rest)
            return policy.denoise(x, policy.modulate(condition, t), kv)

        x = euler(anew, policy.noise.expand(3, -1, -1), CONFIG.steps)
        whole = policy(*values)
    normalized = policy.plan_decoder.normalize(whole, values[2][:, :3])
    torch.testing.assert_close(normalized, x, atol=1e-4, rtol=1e-4)


def test_euler_is_exact_on_straight_paths():
    data, noise = torch.randn(2, 4, 10), torch.randn(2, 4, 10)
    for steps in (1, 3, 10):
        torch.testing.assert_close(
            euler(lambda x, t: data - noise, noise, steps), data, atol=1e-5, rtol=1e-5
        )
    torch.testing.assert_close(noised(data, noise, torch.ones(1)), data)


def test_masked_rows_do_not_count(policy):
    """Of a sample none of whose rows is valid, nothing matters; of the others, only valid rows are
    targets.
    """
    values, rows = inputs(), torch.randn(3, 16, 10)

    def loss(rows, valid):
        torch.manual_seed(3)
        noise, times = torch.randn(3, 2, 16, 10), torch.rand(3, 2, 1, 1)
        points, colors, proprio, task = values
        tokens = policy.training_tokens(points, colors, proprio)
        return policy.plan_loss(tokens, proprio, task, rows, valid, noise, times)

    valid = torch.ones(3, 16, dtype=torch.bool)
    valid[2] = False
    wild = rows.clone()
    wild[2] = 1e3
    with torch.no_grad():
        assert loss(rows, valid) == loss(wild, valid) != loss(rows, valid.roll(1, 0))
        half = valid.clone()
        half[:, 8:] = False
        assert loss(rows, half) != loss(rows, valid)


def test_a_checkpoint_loads_to_the_same_function(policy, tmp_path):
    save_policy(tmp_path, policy, {"command": "none"})
    loaded = load_policy(tmp_path)
    assert loaded.config == CONFIG
    with torch.no_grad():
        torch.testing.assert_close(loaded(*inputs()), policy(*inputs()), atol=0, rtol=0)


def test_a_vae_of_an_earlier_version_loads(tmp_path):
    """With the names of version 0.1."""
    torch.manual_seed(0)
    vae = VAE(VAES["tiny"][0])
    vae.gripper_tokens.normal_()
    save_vae(tmp_path, vae, {})
    file, manifest_file = tmp_path / "vae.safetensors", tmp_path / weights_file.MANIFESTS["vae"]
    tensors_before = {new: old for old, new in weights_file._RENAMED_TENSORS["vae"].items()}
    fields_before = {new: old for old, new in weights_file._RENAMED_FIELDS["vae"].items()}
    with safe_open(file, framework="pt") as opened:
        config = json.loads(opened.metadata()["config"])
    config = {fields_before.get(name, name): value for name, value in config.items()}
    tensors = {}
    for name, tensor in load_file(file).items():
        first, dot, rest = name.partition(".")
        tensors[tensors_before.get(first, first) + dot + rest] = tensor
    assert {"riders", "part", "shown"} <= set(tensors) | set(config)
    save_file(tensors, file, metadata={"config": json.dumps(config)})
    manifest = json.loads(manifest_file.read_text())
    manifest["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest_file.write_text(json.dumps(manifest))
    loaded = load_vae(tmp_path)
    assert loaded.config == vae.config
    torch.testing.assert_close(loaded.state_dict(), vae.state_dict(), atol=0, rtol=0)
    arrays = weights_file.read_weights(tmp_path, "vae").arrays()
    np.testing.assert_array_equal(arrays["gripper_tokens"], vae.gripper_tokens.numpy())


def damage_weights(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_weights, "does not match its manifest"),
        (lambda f: (f / MANIFEST).unlink(), "no policy in"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-100]), "does not match"),
        (lambda f: (f / MANIFEST).write_text("{}"), "no policy in"),
        (lambda f: (f / MANIFEST).write_text("[]"), "no policy in"),
        (
            lambda f: (f / MANIFEST).write_text(json.dumps({"sha256": {WEIGHTS: "0" * 64}})),
            "does not match",
        ),
    ],
)
def test_damaged_weights_are_refused_in_one_line(policy, tmp_path, damage, named):
    save_policy(tmp_path, policy, {})
    damage(tmp_path)
    with pytest.raises(InputError, match=named) as error:
        load_policy(tmp_path)
    assert "\n" not in str(error.value)


def test_the_actor_gives_absolute_rows_and_refuses_an_unknown_task(policy, tmp_path):
    save_policy(tmp_path, policy, {})
    actor = PolicyRunner(tmp_path)
    scene = np.random.default_rng(0).random((1024, 14)).astype(np.float32)
    state = ArmState(1, np.array([0, -0.3, 0, -2.3, 0, 2.0, 0.785]), np.zeros(7), 0.08)
    rows = actor.act(scene, Observation(1, (), state, "stack"))
    assert rows.shape == (16, 10) and np.isfinite(rows).all()
    # same noise every time
    assert np.array_equal(rows, actor.act(scene, Observation(1, (), state, "stack")))
    with pytest.raises(InputError, match="lift, pick_place, stack"):
        actor.act(scene, Observation(1, (), state, "juggle"))


def test_the_network_to_begin_from_has_seen_no_demonstration_of_stack():
    folder = Path(__file__).parents[1] / "models/first"
    manifest = weights_file.read_weights(folder, "policy").manifest
    seen = {name for name in manifest["provenance"]["trained_on"] if name.startswith("stack ")}
    assert seen == {f"stack nominal {seed}" for seed in range(2100, 2160)}  # play
    assert load_predicting_policy(folder).config.tasks == ("lift", "pick_place", "stack")
    assert weights_file.digest(folder / "vae.safetensors") == weights_file.digest(
        folder.with_name("demo") / "vae.safetensors"
    )
