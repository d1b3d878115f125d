"""The conditions of an FR3, as the simulated robot checks them, and the settings of a site."""

import numpy as np
import pytest

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import FR3
from gwm_core.sim.fci.command_rules import ERRORS, PERIOD, ArmRules, MotionRules, TorqueRules
from gwm_core.site.fci_settings import FciSettings, parse_fci

UP = np.eye(7)[3]  # joint 4 alone


def test_an_acceleration_at_the_limit_passes_and_one_beyond_it_is_named():
    rules = MotionRules(HOME_Q)
    dq = 0.0
    for _ in range(2):  # 5000 rad/s3 up to 10 rad/s2
        dq += 5.0 * PERIOD
        assert rules.velocity(dq * UP) == ""
        dq += 5.0 * PERIOD
    error = rules.velocity((dq + 11.0 * PERIOD) * UP)
    assert error == "joint_motion_generator_velocity_discontinuity" and error in ERRORS


def test_a_step_of_the_acceleration_is_named():
    rules = MotionRules(HOME_Q)
    assert rules.velocity(6.0 * PERIOD * UP) == "joint_motion_generator_acceleration_discontinuity"


def test_positions_and_velocities_of_one_motion_are_judged_alike():
    by_position, by_velocity = MotionRules(HOME_Q), MotionRules(HOME_Q)
    q = HOME_Q.copy()
    for k in range(200):
        dq = 0.05 * (1 - np.cos(2 * np.pi * k / 200)) * UP
        q = q + dq * PERIOD
        assert by_position.position(q) == by_velocity.velocity(dq) == ""
    for name, use in by_velocity.use.items():
        assert use == pytest.approx(by_position.use[name], abs=1e-6)


def test_lost_commands_go_on_with_constant_acceleration():
    rules = MotionRules(HOME_Q)
    for k in range(1, 4):
        rules.velocity(3.0 * k * PERIOD * UP)
    speed = rules.dq[3]
    for k in range(1, 6):
        assert rules.lost() == ""
        assert rules.dq[3] == pytest.approx(speed + 3.0 * k * PERIOD)


def test_a_position_beyond_the_range_is_named():
    q = HOME_Q.copy()
    q[3] = FR3.q_max[3] - 1e-4
    rules = MotionRules(q)
    errors = [rules.velocity(0.001 * k * UP) for k in range(1, 200)]
    assert next(filter(None, errors)) in (
        "joint_motion_generator_position_limits_violation",
        "joint_motion_generator_velocity_limits_violation",
    )


def test_a_torque_may_change_by_one_newton_metre():
    rules = TorqueRules()
    assert rules.take(UP) == "" and rules.take(2 * UP) == ""
    assert rules.take(3.1 * UP) == "controller_torque_discontinuity"
    assert rules.take(np.full(7, np.nan)) == "controller_torque_discontinuity"


def test_a_contact_beyond_its_threshold_is_a_reflex():
    rules = ArmRules()
    rules.thresholds = np.full(7, 20.0)
    assert rules.check(HOME_Q, np.zeros(7), 19.0 * UP) == ""
    assert rules.check(HOME_Q, np.zeros(7), -21.0 * UP) == "joint_reflex"


def test_settings_are_read_and_the_rest_stays():
    settings = parse_fci("site: fci", {"load_mass": 0.3, "stiffness": [100] * 7})
    assert settings == FciSettings(stiffness=(100.0,) * 7, load_mass=0.3)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"stifness": [1] * 7}, "stiffness"),
        ({"stiffness": [1] * 6}, "7 finite numbers"),
        ({"stiffness": [5000] * 7}, "at most"),
        ({"damping": [-1] * 7}, "0 or more"),
        ({"collision_torque": [0] * 7}, "above 0"),
        ({"load_mass": [1]}, "a finite number"),
        ({"load_mass": float("nan")}, "finite"),
        ({"real_time": "yes"}, "true or false"),
    ],
)
def test_a_wrong_setting_is_named(entry, said):
    with pytest.raises(InputError, match=said):
        parse_fci("site: fci", entry)
