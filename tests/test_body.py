"""The capsules against the meshes they stand for, and the bound that saves most of the
measuring.
"""

import mujoco
import numpy as np
import pytest

from gwm_core.geometry.capsules import (
    _RATE_BOUNDS,
    CAPSULES,
    MINIMUM_CLEARANCE,
    Clearance,
    clearance,
    distance_to_arm,
)
from gwm_core.geometry.kinematics import HOME_Q, link_frames
from gwm_core.geometry.limits import FR3, PANDA
from gwm_core.sim.scene import _panda_file

STICKS_OUT = 0.00125  # [m] at most, of a vertex


@pytest.fixture(scope="module")
def meshes():
    """Vertices of the full meshes by link, in the link's frame; the hand belongs to link 7."""
    arm, hand = (mujoco.MjSpec.from_file(_panda_file(f"panda{part}.xml")) for part in ("", "_hand"))
    mount = arm.body("panda_link8").add_frame(quat=[0.9238795, 0, 0, -0.3826834])
    mount.attach_body(hand.body("panda_hand"), "hand_", "")
    model = arm.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    frames, found = link_frames(np.zeros(7)), {}
    for geom in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_MESH):
        name = model.body(model.geom_bodyid[geom]).name
        if "finger" in name:
            continue
        link = 7 if "hand" in name or name.endswith("8") else int(name[-1])
        start, count = (
            int(a[model.geom_dataid[geom]]) for a in (model.mesh_vertadr, model.mesh_vertnum)
        )
        base = (
            model.mesh_vert[start : start + count] @ data.geom_xmat[geom].reshape(3, 3).T
            + data.geom_xpos[geom]
        )
        found.setdefault(link, []).append((base - frames[link, :3, 3]) @ frames[link, :3, :3])
    return {link: np.concatenate(parts) for link, parts in found.items()}


def test_every_link_lies_within_its_own_capsules(meshes):
    assert MINIMUM_CLEARANCE - 2 * STICKS_OUT >= 0.010  # which is what is promised
    assert sorted(meshes) == list(range(8)) and sum(map(len, meshes.values())) > 50_000
    for link, vertices in meshes.items():
        nearest = np.full(len(vertices), np.inf)
        for capsule in (c for c in CAPSULES if c.link == link):
            start, along = np.array(capsule.start), np.subtract(capsule.end, capsule.start)
            share = np.clip((vertices - start) @ along / (along @ along), 0, 1)
            gap = vertices - start - share[:, None] * along
            nearest = np.minimum(nearest, np.linalg.norm(gap, axis=1) - capsule.radius)
        assert nearest.max() < STICKS_OUT, (link, nearest.max())


@pytest.mark.parametrize("arm", [FR3, PANDA], ids=lambda arm: arm.name)
def test_pairs_that_are_left_out_never_come_near_inside_the_limits(arm):
    """Middle links against everything two or more joints away; link 5 against 7, whose capsules
    overlap link 6.
    """
    rng = np.random.default_rng(0)
    pairs = [
        (a, b)
        for a in range(8)
        for b in range(a + 2, 8)
        if not (a <= 2 and b >= 5) and (a, b) != (5, 7)
    ]
    assert len(pairs) == 11
    for q in rng.uniform(arm.q_low, arm.q_high, (300, 7)):
        frames = link_frames(q)
        points = {}
        for capsule in CAPSULES:
            along = np.linspace(capsule.start, capsule.end, 5) @ frames[capsule.link, :3, :3].T
            points.setdefault(capsule.link, []).append(
                (along + frames[capsule.link, :3, 3], capsule.radius)
            )
        for a, b in pairs:
            for first, r in points[a]:
                for second, s in points[b]:
                    gap = np.linalg.norm(first[:, None] - second[None], axis=-1).min() - r - s
                    assert gap > MINIMUM_CLEARANCE, (a, b, gap)


def test_clearance_is_what_the_capsules_surfaces_say():
    """Points on the hand's and forearm's surfaces are nowhere nearer to base, shoulder and upper
    arm.
    """
    rng = np.random.default_rng(1)
    still = [c for c in CAPSULES if c.link <= 2]
    for q in rng.uniform(FR3.q_low, FR3.q_high, (40, 7)):
        frames, measured = link_frames(q), clearance(q)
        for i, capsule in enumerate(c for c in CAPSULES if c.link >= 5):
            T = frames[capsule.link]
            line = np.linspace(capsule.start, capsule.end, 60) @ T[:3, :3].T + T[:3, 3]
            assert measured[i, -1] == pytest.approx(line[:, 2].min() - capsule.radius, abs=1e-9)
            for k, other in enumerate(still):
                T = frames[other.link]
                start, along = (
                    T[:3, :3] @ other.start + T[:3, 3],
                    T[:3, :3] @ np.subtract(other.end, other.start),
                )
                share = np.clip((line - start) @ along / (along @ along), 0, 1)
                gap = np.linalg.norm(line - start - share[:, None] * along, axis=1).min()
                assert measured[i, k] == pytest.approx(
                    gap - capsule.radius - other.radius, abs=2e-4
                )


def test_no_distance_changes_faster_than_the_reach_says():
    rng = np.random.default_rng(2)
    q = rng.uniform(FR3.q_min, FR3.q_max, (4000, 7))
    step = rng.normal(size=q.shape) * 0.02 * (rng.random(q.shape) < 0.4)
    change = np.abs(clearance(q + step) - clearance(q))
    assert np.all(change <= np.einsum("ikj,sj->sik", _RATE_BOUNDS, np.abs(step)) + 1e-12)
    # and is no fantasy
    assert (
        change / np.maximum(np.einsum("ikj,sj->sik", _RATE_BOUNDS, np.abs(step)), 1e-9)
    ).max() > 0.5


def test_what_the_watch_lets_through_is_clear_and_most_is_not_measured():
    rng, watch, measured = np.random.default_rng(3), Clearance(), 0
    for _ in range(60):
        begin, end = rng.uniform(FR3.q_low, FR3.q_high, (2, 7))
        path = begin + np.linspace(0, 1, 200)[:, None] * (end - begin)
        for piece in np.array_split(path, 40):
            before = watch._q
            assert watch.holds(piece) == bool(clearance(piece).min() >= MINIMUM_CLEARANCE)
            measured += watch._q is not before
    assert measured < 60 * 40
    at_home = HOME_Q + 0.01 * rng.normal(size=(50, 7))
    watch.holds(at_home)
    before = watch._q
    assert all(watch.holds(at_home[i : i + 5]) for i in range(45)) and watch._q is before
    assert not watch.holds(np.full((2, 7), np.nan))


def test_a_point_on_the_forearm_is_on_the_arm_and_one_above_the_table_is_not():
    elbow = link_frames(HOME_Q)[4, :3, 3]
    assert (
        distance_to_arm(np.array([elbow, [0.6, 0.3, 0.05]]), HOME_Q)[0]
        < 0
        < 0.1
        < distance_to_arm(np.array([[0.6, 0.3, 0.05]]), HOME_Q)[0]
    )
