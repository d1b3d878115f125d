"""Rotated and reflected demonstrations are what the arm itself would do there."""

import math

import numpy as np
import pytest
import torch

from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.model.config import WorldActionTraining
from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.policy_batches import PolicyBatches
from gwm_core.training.symmetries import draw, transform_rows, transformed

ANGLE = 0.5
HOME = np.array([0.0, -0.6, 0.0, -2.2, 0.0, 1.8, math.pi / 4])
# of the joints, by a reflection; that of joint 7 is about pi / 4, at which the hand is mounted
REFLECTED = np.array([-1, 1, -1, 1, -1, 1, -1])


def rows_of(q):
    return torch.from_numpy(to_rows(fk(q), 0.05))


@pytest.mark.parametrize("reflect", [False, True])
def test_a_moved_row_is_what_moved_joints_reach(reflect):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    matrices = draw(64, ANGLE, reflect, torch.device("cpu")).double()
    q = HOME + rng.uniform(-0.4, 0.4, (64, 16, 7))
    moved = transform_rows(rows_of(q), matrices)
    side = torch.linalg.det(matrices).numpy().round()
    assert set(side) == ({1.0, -1.0} if reflect else {1.0})
    mirrored = q * REFLECTED + np.array([0, 0, 0, 0, 0, 0, math.pi / 2])
    own = np.where(side[:, None, None] < 0, mirrored, q)
    own[..., 0] += torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]).numpy()[:, None]
    np.testing.assert_allclose(moved, rows_of(own), atol=1e-6)


def test_angles_fill_the_range_and_nothing_else_changes():
    torch.manual_seed(0)
    matrices = draw(4000, ANGLE, True, torch.device("cpu"))
    angle = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0])
    assert angle.abs().max() <= ANGLE and angle.std() == pytest.approx(ANGLE / 3**0.5, rel=0.05)
    assert torch.linalg.det(matrices).mean().abs() < 0.05
    assert torch.equal(draw(3, 0.0, False, torch.device("cpu")), torch.eye(3).expand(3, 3, 3))


def test_scene_gripper_and_plan_move_together():
    """Distances and angles between them stay, and so do widths and all that is no position."""
    torch.manual_seed(0)
    q = HOME + np.random.default_rng(1).uniform(-0.4, 0.4, (32, 17, 7))
    rows = rows_of(q)
    batch = {
        "points": torch.rand(32, 50, 3).double(),
        "proprio": torch.cat([rows[:, 0], torch.full((32, 1), 0.08).double()], -1),
        "rows": rows[:, 1:],
        "valid": torch.ones(32, 16, dtype=torch.bool),
    }
    moved = transformed(batch, draw(32, ANGLE, True, torch.device("cpu")))

    def seen_from_the_gripper(b):
        return torch.cat([b["points"], b["rows"][..., :3]], 1) - b["proprio"][:, None, :3]

    before, after = seen_from_the_gripper(batch), seen_from_the_gripper(moved)
    torch.testing.assert_close(
        torch.cdist(after, after), torch.cdist(before, before), atol=1e-6, rtol=1e-6
    )
    along = (before * batch["proprio"][:, None, 3:6]).sum(-1)
    torch.testing.assert_close((after * moved["proprio"][:, None, 3:6]).sum(-1), along)
    assert not torch.allclose(moved["points"], batch["points"])
    assert torch.equal(moved["proprio"][:, 9:], batch["proprio"][:, 9:])
    assert torch.equal(moved["rows"][..., 9], batch["rows"][..., 9])
    assert moved["valid"] is batch["valid"]


@pytest.mark.parametrize("recorded", [False, True])
def test_a_training_batch_is_rotated_and_reflected_unless_as_recorded(recorded):
    torch.manual_seed(0)
    config = WorldActionTraining(held_out=0.5, rotation=ANGLE)
    rows = np.tile(to_rows(fk(HOME), 0.05), (4, 17, 1)).astype(np.float32)
    samples = PolicySamples(
        points=np.tile(rows[:, :1, :3].astype(np.float16), (1, 20, 1)),
        colors=np.zeros((4, 20, 3), np.uint8),
        proprio=np.concatenate([rows[:, 0], rows[:, 0, 9:]], -1),
        rows=rows[:, 1:],
        valid=np.ones((4, 16), bool),
        task=np.zeros(4, np.int64),
        episode=np.arange(4),
    )
    config = config.as_recorded() if recorded else config
    batches = PolicyBatches(samples, torch.device("cpu"), config, 16)
    batch = batches.sample_batch(500)
    noise, wide = 0.03, ANGLE / 3**0.5
    for x in (batch["rows"][:, 0, 3:5], batch["proprio"][:, 3:5]):
        angle = torch.atan2(x[:, 1], x[:, 0])
        assert angle.std() == pytest.approx(0 if recorded else wide, abs=noise)
    torch.testing.assert_close(  # the gripper is where the points are, but for the noise
        batch["points"].mean(1), batch["proprio"][:, :3], atol=0.02, rtol=0
    )
    spread = batches.relative_rows()[..., 4].std()
    assert spread < noise if recorded else spread > noise
