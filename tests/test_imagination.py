import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from gwm_core import topics
from gwm_core.errors import InputError
from gwm_core.geometry.camera import intrinsics, look_at
from gwm_core.geometry.kinematics import HOME_Q, fk, to_rows
from gwm_core.model.checkpoint import save_policy
from gwm_core.model.config import named_config
from gwm_core.model.inputs import proprioception
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.divergence import (
    LEAST_EFFECTOR,
    LEAST_MM,
    LIMITS,
    MARGIN,
    MARGIN_GONE,
    ExpectedScene,
    ObservedScene,
    compare,
    fit_limits,
    load_limits,
    worst_block,
)
from gwm_core.runtime.expected_scenes import HORIZONS
from gwm_core.runtime.imagination import Imagination, PredictionRequest, open_imagination
from gwm_core.runtime.imagined_world import compiled_world, load_imagined_world
from gwm_core.runtime.views import RenderedCamera
from gwm_core.site import simulation_site
from gwm_core.types import ActionChunk, ArmState

DT = 100_000_000  # [ns]
VIEWS = [
    RenderedCamera(
        "front", intrinsics(64, 48, 42.5), look_at((1.1, 0.0, 0.6), (0.5, 0.0, 0.1)), 64, 48
    )
]
ROW = to_rows(fk(HOME_Q), 0.08)
PROPRIO = proprioception(ArmState(0, HOME_Q, np.zeros(7), 0.08))


@pytest.fixture(scope="module")
def world(tiny_policy):
    return load_imagined_world(tiny_policy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a policy, to write limits into."""
    folder = tmp_path_factory.mktemp("limits")
    save_policy(folder, WorldActionModel(named_config("tiny")[0]), {})
    return folder


def scene(seed=0):
    rng = np.random.default_rng(seed)
    low = [0.3, -0.3, 0.0, *[0.01] * 3, 1, 0, 0, 0, 0, 0, 0, 0.9]
    high = [0.7, 0.3, 0.2, *[0.02] * 3, 1, 0, 0, 0, 1, 1, 1, 1]
    return rng.uniform(low, high, (128, 14)).astype(np.float32)


def observed_at(world, stamp, known=None):
    state = world.observe(scene() if known is None else known, PROPRIO)
    return ObservedScene(stamp, state.scene, world.gripper_tokens(state), 0.0), state


def compared(world, expected, stamp, known=None, command_at=lambda at: ROW):
    return expected.observe(*observed_at(world, stamp, known), command_at, VIEWS)


@pytest.fixture
def expected(world):
    return Imagination(world, simulation_site(), lambda: None, {}).expected


def test_nothing_diverges_when_the_expected_scene_comes_and_something_does_otherwise(world):
    h = HORIZONS[0]
    for other in (None, scene(1)):
        expected = Imagination(world, simulation_site(), lambda: None, {}).expected
        start, state = observed_at(world, 0)
        assert expected.observe(start, state, lambda at: ROW, VIEWS) == {}
        foreseen = expected._expect(state, np.stack([ROW] * (h + 1)))
        came = foreseen.scene if other is None else other
        now = ObservedScene(h * DT, came, foreseen.gripper_tokens, foreseen.held)
        gaps = expected.observe(now, state, lambda at: ROW, VIEWS)
        assert list(gaps) == [h]
        for term in gaps[h] if other is None else ("image", "unseen_mm", "gone_mm"):
            assert gaps[h][term] <= 1e-6 if other is None else gaps[h][term] > 1e-3


def test_without_commands_or_an_observation_long_enough_ago_nothing_is_said(world, expected):
    assert compared(world, expected, 0) == {}
    assert compared(world, expected, 2 * DT) == {}  # not as long ago as any horizon
    assert compared(world, expected, 4 * DT, command_at=lambda at: ROW if at > DT else None) == {}
    assert list(compared(world, expected, 8 * DT)) == list(HORIZONS)
    expected.forget()
    assert compared(world, expected, 12 * DT) == {}


def test_a_scene_without_objects_moves_with_the_gripper(world):
    state = world.observe(scene(), PROPRIO)
    empty = replace(
        state,
        objects=state.objects[:0],
        owners=state.owners[:0],
        parts=state.parts[:0],
        gripper=state.scene,
    )
    later = world.after(empty, np.stack([ROW] * 8))
    assert later.objects.shape == (0, 14) and np.isfinite(later.scene).all()


def test_the_worst_block_is_the_one_a_search_finds():
    error = np.random.default_rng(0).random((40, 40))
    known = max(error[i : i + 12, j : j + 12].mean() for i in range(29) for j in range(29))
    assert worst_block(error) == pytest.approx(known)


def cube(at, count=96):
    low = [-0.02, -0.02, 0.0, *[0.01] * 3, 1, 0, 0, 0, 0, 0, 0, 0.9]
    made = np.random.default_rng(1).uniform(
        low, [0.02, 0.02, 0.04, *[0.01] * 3, 1, 0, 0, 0, 1, 0, 0, 1], (count, 14)
    )
    made[:, :3] += at
    return made.astype(np.float32)


@pytest.mark.parametrize("moved, gone, new", [(0.0, 1e-6, 1e-6), (0.06, 20.0, 20.0)])
def test_a_cube_that_moved_is_missed_where_it_was_and_new_where_it_is(moved, gone, new):
    gripper, none = np.array([[0.5, 0.3, 0.2]]), np.zeros(96, bool)
    begun = ObservedScene(0, cube((0.5, -0.1, 0.0)), gripper, 0.0)
    now = ObservedScene(4 * DT, cube((0.5 + moved, -0.1, 0.0)), gripper, 0.0)
    expected = ExpectedScene(begun.scene, none, gripper, 0.0)
    gaps = compare(begun, expected, now, [begun], VIEWS)
    assert gaps["gone_mm"] >= gone if moved else gaps["gone_mm"] <= gone
    assert gaps["unseen_mm"] >= new if moved else gaps["unseen_mm"] <= new
    # it was there once: the arm hid it in between
    before = ObservedScene(-4 * DT, now.scene, gripper, 0.0)
    assert compare(begun, expected, now, [before, begun], VIEWS)["unseen_mm"] <= 1e-6
    # the gripper is there: what it does to the cube is its own
    near = np.array([[0.5, -0.1, 0.05]])
    held = compare(
        ObservedScene(0, begun.scene, near, 0.0),
        ExpectedScene(begun.scene, none, near, 0.0),
        ObservedScene(1, now.scene, near, 0.0),
        [],
        VIEWS,
    )
    assert held["gone_mm"] <= 1e-6 and held["unseen_mm"] <= 1e-6
    # what the gripper's Gaussians miss does not count
    own = compare(begun, ExpectedScene(begun.scene, ~none, gripper, 0.0), now, [begun], VIEWS)
    assert own["gone_mm"] <= 1e-6


def test_remains_of_the_arm_over_the_gripper_are_not_missed():
    gripper, none = np.array([[0.5, 0.3, 0.12]]), np.zeros(96, bool)
    now = ObservedScene(4 * DT, cube((0.5, -0.1, 0.0)), gripper + np.array([0, 0, 0.1]), 0.0)
    for height, gone in ((0.18, 0.0), (0.10, 50.0)):
        start = ObservedScene(
            0, np.concatenate([now.scene, cube((0.5, 0.1, height))]), gripper, 0.0
        )
        expected = ExpectedScene(start.scene, np.tile(none, 2), now.gripper_tokens, 0.0)
        found = compare(start, expected, now, [start], VIEWS)["gone_mm"]
        assert found > gone if gone else found <= 1e-6


@pytest.mark.parametrize("width, missing", [(0.036, 4.0), (0.05, 0.0), (0.0, 40.0)])
def test_what_slips_out_of_the_gripper_lets_it_close(width, missing):
    gripper = np.array([[0.5, 0.3, 0.2]])
    begun = ObservedScene(0, cube((0.5, -0.1, 0.0)), gripper, 0.04)
    expected = ExpectedScene(begun.scene, np.zeros(96, bool), gripper, 0.04)
    now = ObservedScene(4 * DT, begun.scene, gripper, width)
    found = compare(begun, expected, now, [begun], VIEWS)["held_mm"]
    assert found == pytest.approx(missing)


def test_what_was_nothing_as_long_as_all_was_normal_is_no_divergence_as_soon_as_it_is_more(folder):
    """Sparse scenes: too few Gaussians for a term, which is 0 then."""
    quiet = {"shifted_mm": 0.0, "image": 0.0, "gone_mm": 6.0, "effector_mm": 1.0}
    limits = fit_limits(folder, [{4: quiet}], "test")
    assert limits.score({4: {"shifted_mm": 0.0, "image": 0.0, "gone_mm": 0.0}}) == 0.0
    assert limits.score({4: {"shifted_mm": 1.2, "image": 0.01}}) == pytest.approx(1.2 / LEAST_MM)
    assert limits.score({4: {"shifted_mm": 30.0}}) == pytest.approx(30.0 / LEAST_MM)
    assert limits.score({4: {"gone_mm": 9.0 * MARGIN_GONE}}) == pytest.approx(1.5)
    assert limits.score({4: {"effector_mm": 4.0}}) == pytest.approx(4.0 / LEAST_EFFECTOR)
    assert np.isnan(limits.score({8: {"shifted_mm": 3.0}})) and np.isnan(
        limits.score({4: {"unseen_mm": 3.0}})
    )
    shipped = load_limits(Path(__file__).parents[1] / "models/demo")
    assert (
        min(v for terms in shipped.terms.values() for n, v in terms.items() if n.endswith("_mm"))
        > LEAST_MM
    )


def test_limits_lie_above_all_that_was_normal_and_belong_to_one_policy(folder, tmp_path):
    normal = [
        {4: {"image": 0.1, "gone_mm": 3.0}},
        {4: {"image": 0.2, "gone_mm": 1.0}, 8: {"image": 0.4, "gone_mm": 5.0}},
    ]
    limits = fit_limits(folder, normal, "test")
    assert all(limits.score(gaps) < 1 for gaps in normal)
    assert limits.score({8: {"image": 0.8, "gone_mm": 0.0}}) == pytest.approx(0.8 / 0.4 / MARGIN)
    assert np.isnan(limits.score({}))
    with pytest.raises(InputError, match="nothing was compared"):
        fit_limits(folder, [{}], "test")
    assert load_limits(folder) is None
    limits.save(folder)
    assert load_limits(folder) == limits
    for text in (
        "{",
        "[]",
        '{"world_sha256": "x", "terms": {}, "provenance": ""}',
        '{"world_sha256": "x", "terms": {"4": {"image": NaN}}, "provenance": ""}',
        '{"world_sha256": "x", "terms": {"4": {"image": -1}}, "provenance": ""}',
        '{"world_sha256": 1}',
        (folder / LIMITS).read_text().replace(limits.world_sha256, "0" * 64),
    ):
        (folder / LIMITS).write_text(text)
        with pytest.raises(InputError, match=r"cannot be read|another policy|terms is not"):
            load_limits(folder)
    (folder / LIMITS).unlink()


def request(site, stamp, known, away=0.0):
    """A chunk that keeps the arm at home, and what the cameras and the arm showed until then."""
    q = HOME_Q + np.array([away, 0, 0, 0, 0, 0, 0])
    states = tuple(ArmState(t, HOME_Q, np.zeros(7), 0.08) for t in range(0, stamp + 1, DT))
    commands = tuple(replace(state, q=q) for state in states)
    chunk = ActionChunk(stamp, np.repeat(q[None], 16, axis=0), np.full(16, 0.08))
    Ks = {name: (intrinsics(64, 48, 42.5), 64, 48) for name in site.cameras}
    return PredictionRequest("lift", chunk, known, states, commands, Ks)


def seen(imagination, request):
    return imagination.compare(request, imagination.observe(request))


@pytest.mark.parametrize("away", [0.0, 0.05])
def test_the_gripper_is_expected_where_it_was_commanded(tiny_policy, away):
    site = simulation_site()
    imagination = open_imagination(tiny_policy, site, backend="torch")
    assert seen(imagination, request(site, 0, scene(), away)) == {}
    gaps = seen(imagination, request(site, 4 * DT, scene(), away))
    commanded, measured = fk(HOME_Q + np.array([away, 0, 0, 0, 0, 0, 0])), fk(HOME_Q)
    moved = 1e3 * np.linalg.norm((commanded - measured)[:3, 3])
    assert list(gaps) == [4]
    assert gaps[4]["effector_mm"] == pytest.approx(moved, abs=8.0 if away else 0.05)
    # far from the gripper a scene that is another one is new
    other = seen(imagination, request(site, 8 * DT, scene(1), away))
    assert sorted(other) == [4, 8]
    assert other[4]["unseen_mm"] > 5 > gaps[4]["unseen_mm"]


def test_a_chunks_future_is_shown_by_every_camera_and_from_afar(tiny_policy):
    site = simulation_site()
    imagination = open_imagination(tiny_policy, site, backend="torch")
    asked = request(site, 0, scene())
    state = imagination.observe(asked)
    future = imagination.predict(asked, state)
    assert set(future.images) == {*site.cameras, topics.AFAR}
    for images in future.images.values():
        assert [image.shape for image in images] == [(128, 128, 3)] * len(topics.LOOKAHEADS)
        assert len({image.tobytes() for image in images}) == len(topics.LOOKAHEADS)
    world = load_imagined_world(tiny_policy)
    rows = to_rows(fk(asked.chunk.q), asked.chunk.width)
    known = world.after(world.observe(asked.scene, proprioception(asked.state)), rows)
    np.testing.assert_allclose(future.scene, known.scene, atol=1e-5)
    assert future.success is None  # not calibrated, so nothing is said


def test_a_calibrated_policy_says_how_likely_success_is(tiny_policy, tmp_path):
    folder = shutil.copytree(tiny_policy, tmp_path / "policy")
    found = {"slope": 0.5, "offset": 0.3, "covariance": [[0.04, 0.0], [0.0, 0.09]]}
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["provenance"]["calibration"] = {"lift": {"predicted": found}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    imagination = open_imagination(folder, simulation_site(), backend="torch")
    asked = request(simulation_site(), 0, scene())
    future = imagination.predict(asked, imagination.observe(asked))
    world = load_imagined_world(folder)
    rows = to_rows(fk(asked.chunk.q), asked.chunk.width)
    known = world.after(world.observe(asked.scene, proprioception(asked.state)), rows)
    wanted = expit(0.5 * logit(world.success(known, "lift")) + 0.3)
    assert future.success.value == pytest.approx(wanted, abs=1e-5)
    assert future.success.low < wanted < future.success.high


def test_a_compiled_world_imagines_what_the_network_does(tiny_policy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known, compiled = (
        load_imagined_world(tiny_policy),
        compiled_world(tiny_policy, 1, "onnxruntime"),
    )
    proprio = proprioception(ArmState(0, HOME_Q, np.zeros(7), 0.08))
    rows = np.repeat(ROW[None], 8, axis=0)
    made, wanted = (
        world.after(world.observe(scene(), proprio), rows) for world in (compiled, known)
    )
    np.testing.assert_allclose(made.anchors, wanted.anchors, atol=1e-3)
    np.testing.assert_allclose(made.objects, wanted.objects, atol=1e-3)


def test_a_policy_that_predicts_nothing_has_no_imagination(plain_policy):
    with pytest.raises(InputError, match="predicts nothing"):
        open_imagination(plain_policy, simulation_site())
