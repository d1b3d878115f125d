import numpy as np

from gwm_core.control.targets import BlendTarget, ChunkTarget, MoveTarget, PostureTarget
from gwm_core.geometry.kinematics import HOME_Q, fk, tcp_speed, to_rows
from gwm_core.geometry.limits import DESK, FR3
from gwm_core.runtime.planner import Planner
from gwm_core.types import OPEN_WIDTH, ActionChunk, ArmState, Observation


def chunk(offset):
    rows = HOME_Q + np.linspace(0.01, 0.16, 16)[:, None] * np.ones(7) + offset
    return ActionChunk(1, rows, np.full(16, 0.08))


def numeric(target, t, h=1e-5):
    return (target.at(t + h).q - target.at(t - h).q) / (2 * h)


def test_a_chunk_passes_through_its_rows_when_they_are_due():
    target = ChunkTarget(chunk(0.0), start=5.0)
    for k in range(1, 16):
        np.testing.assert_allclose(target.at(5.0 + 0.1 * k).q, chunk(0.0).q[k - 1], atol=1e-9)
    assert target.end == 6.6


def test_velocities_are_the_derivatives_of_positions():
    old, new = ChunkTarget(chunk(0.0), 5.0), ChunkTarget(chunk(0.05), 5.0)
    for target in (
        old,
        BlendTarget(old, new, 5.4, 0.25),
        MoveTarget(HOME_Q, HOME_Q + 0.2, 5.0, 0.08, DESK),
    ):
        for t in (5.3, 5.45, 5.5, 5.6, 5.8):
            np.testing.assert_allclose(target.at(t).dq, numeric(target, t), atol=1e-4)


def test_a_blend_begins_as_the_old_and_ends_as_the_new():
    old, new = PostureTarget(HOME_Q, 0.08), ChunkTarget(chunk(0.05), 5.0)
    blend = BlendTarget(old, new, 5.2, 0.25)
    np.testing.assert_allclose(blend.at(5.2).q, HOME_Q)
    np.testing.assert_allclose(blend.at(5.2).dq, 0, atol=1e-12)
    np.testing.assert_allclose(blend.at(5.5).q, new.at(5.5).q)


def test_a_move_is_slow_enough_for_the_profile():
    move = MoveTarget(
        HOME_Q, HOME_Q + np.array([1.0, 0.4, -0.5, 0.3, 0.2, -0.3, 0.5]), 0.0, 0.08, DESK
    )
    goals = [move.at(t) for t in np.linspace(0, move.end, 300)]
    speed = tcp_speed(np.array([g.q for g in goals]), np.array([g.dq for g in goals]))
    assert speed.max() <= DESK.tcp_speed
    np.testing.assert_allclose(goals[-1].dq, 0, atol=1e-6)


def test_a_plan_stays_within_the_sites_own_limits():
    """The gate refuses what lies beyond them, so the policy must not send it there."""
    limits = FR3.narrowed("site", q_max=[0.2, *FR3.q_max[1:]])
    swung = HOME_Q.copy()
    swung[0] = 0.4
    rows = np.repeat(to_rows(fk(swung), OPEN_WIDTH)[None], 16, axis=0)

    class Fixed:
        sees = "objects"

        def act(self, scene, observation):
            return rows

    planner = Planner(Fixed())
    observation = Observation(1, (), ArmState(1, HOME_Q, np.zeros(7), OPEN_WIDTH, OPEN_WIDTH), "t")
    assert planner.decide(observation).chunk.q[:, 0].max() > limits.q_high[0]
    planner.limits = limits
    decision = planner.decide(observation)
    assert decision.chunk.q[:, 0].max() <= limits.q_high[0]  # the elbow makes up for it
