"""What a plan may not be, on real plans spoilt one way each."""

import numpy as np
import pytest

from gwm_core.control.gate.chunk_checks import check_format, check_path, check_plausibility
from gwm_core.control.targets import ChunkTarget
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import DESK, FR3, Workspace
from gwm_core.types import ActionChunk

WIDTH = np.full(16, 0.08)
GOOD = HOME_Q + np.linspace(0.01, 0.15, 16)[:, None] * np.array(
    [1.0, 0.5, 0.2, -0.5, 0.2, 0.4, 1.0]
)


def said(q, width=WIDTH, dt=0.1):
    chunk = ActionChunk(1, q, width, dt)
    return check_format(chunk) or check_plausibility(chunk, 0, HOME_Q, FR3, DESK.tcp_speed)


def test_a_plan_like_those_of_the_expert_is_taken():
    assert said(GOOD) == ""
    assert check_path(ChunkTarget(ActionChunk(1, GOOD, WIDTH), 0.0).path(64), Workspace()) == ""


@pytest.mark.parametrize(
    ("spoil", "kind", "hint"),
    [
        (np.degrees, "joint limit", "degrees for radians?"),
        (np.negative, "joint limit", "signs flipped?"),
        (lambda q: q[:, [0, 1, 4, 3, 2, 6, 5]], "jump", "joints in another order?"),
        (lambda q: 100 * q, "joint limit", ""),
        (lambda q: q + 0.5 * np.eye(7)[6], "jump", ""),
        (lambda q: q + 0.4 * (np.arange(16) >= 8)[:, None] * np.eye(7)[0], "jump", ""),
        # little at the base, far at the tool
        (lambda q: q + 0.3 * np.eye(7)[0], "jump", "m from the reference"),
        (lambda q: q[:, :6], "shape", ""),
        (lambda q: q[:1], "shape", ""),
        (lambda q: q[0], "shape", ""),
        (lambda q: np.repeat(q, 17, axis=0), "shape", ""),
        (lambda q: q.astype(int), "shape", ""),
        (lambda q: q.astype(object), "shape", ""),
        (lambda q: np.where(q == q[3, 3], np.nan, q), "not finite", ""),
        (lambda q: np.where(q == q[3, 3], -np.inf, q), "not finite", ""),
    ],
)
def test_each_way_of_spoiling_it_is_named(spoil, kind, hint):
    q = spoil(GOOD.copy())
    reason = said(q, np.full(q.shape[:1], 0.08))
    assert reason.startswith(kind + ":") and hint in reason


def test_widths_and_spacing_count_too():
    assert said(GOOD, np.full(16, np.inf)).startswith("not finite")
    assert said(GOOD, np.full(15, 0.08)).startswith("shape")
    for dt in (0.0, -0.1, 1e-3, 5.0):
        assert said(GOOD, dt=dt).startswith("row spacing")
    assert said(GOOD, dt=np.nan).startswith("not finite")


def test_rows_so_close_in_time_that_no_arm_can_follow_are_a_jump():
    assert said(HOME_Q + np.arange(16)[:, None] * 0.08 * np.eye(7)[6], dt=0.02) == ""
    assert said(HOME_Q + np.arange(16)[:, None] * 0.12 * np.eye(7)[6], dt=0.02).startswith(
        "jump: 0.12 rad"
    )


@pytest.mark.parametrize(
    ("q", "kind"),
    [
        (HOME_Q + 0.9 * np.eye(7)[1], "workspace"),
        ([-1.03, -1.29, 2.12, -2.89, -1.17, 1.56, 2.54], "self-collision"),
        ([1.29, -1.01, -2.33, -2.48, -0.03, 1.99, 1.94], "table"),
        ([1.53, 0.19, -1.55, -1.44, -2.64, 3.33, 1.26], "singularity"),
    ],
)
def test_where_it_may_not_go_is_named(q, kind):
    reason = check_path(np.array([HOME_Q, q]), Workspace())
    assert reason.startswith(kind), reason
    assert check_path(HOME_Q[None], Workspace()) == ""
