"""Re-check the commands that were sent, independently of the gate.

The checker shares only the table of limits with the gate. It looks at the same stream in two ways,
always both:

- the 100 Hz positions by central differences, which is what a CRISP controller is given;
- the quintic through the sent positions, velocities and accelerations at 1 kHz, which is what a
  trajectory controller makes of them. Between two steps of the gate it is the gate's own
  constant-jerk reference.

A stream that was resampled linearly keeps the positions and fails the check. ``check_states`` does
the same for measured joint states.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gwm_core.geometry.limits import FR3, ArmLimits, Workspace

_FINE = 10  # points per period: 1 kHz at 100 Hz
_SLACK = 1e-3  # relative tolerance for floating point and central differences
_MAX_PAUSE = 0.15  # [s] between two commands: an arm that holds its last target has stopped by then
# a reset of the reference must be ...
LEASH = 0.15  # [rad] ... this near to what was sent before, wherever the arm is
AT_ARM = 0.05  # [rad] ... or this near to the arm, whatever was sent before


@dataclass
class CheckResult:
    """How often each limit was broken, and the largest use of each (1 = at the limit)."""

    samples: int = 0
    resets: int = 0
    violations: dict[str, int] = field(default_factory=dict)
    use: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Violations of all limits together."""
        return sum(self.violations.values())

    def check(self, name: str, use: np.ndarray) -> None:
        """Record the use of a limit. Above 1 (plus rounding), or not a number, is a violation."""
        if use.size == 0:
            return
        bad = int(np.sum(~(use <= 1.0 + _SLACK)))
        self.violations[name] = self.violations.get(name, 0) + bad
        self.use[name] = (
            float(max(self.use.get(name, 0.0), np.nanmax(use)))
            if np.isfinite(use).any()
            else np.inf
        )


def columns(commands: list) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The first arguments of ``check_commands``: positions, velocities, accelerations, resets."""
    states = np.array([command.reference for command in commands], float).reshape(-1, 3, 7)
    return (
        states[:, 0],
        states[:, 1],
        states[:, 2],
        np.array([command.reference_reset for command in commands], bool),
    )


def check_commands(
    q: np.ndarray,
    dq: np.ndarray,
    ddq: np.ndarray,
    resets: np.ndarray,
    *,
    stamps: np.ndarray | None = None,
    measured: np.ndarray | None = None,
    dt: float = 0.01,
    tcp_speed: float = 0.25,
    workspace: Workspace = Workspace(),
    arm: ArmLimits = FR3,
) -> CheckResult:
    """Check a log of commands sent every ``dt`` seconds.

    Args:
        q, dq, ddq: (S, 7) [rad], [rad/s], [rad/s2] as sent.
        resets: (S,) bool, True where the reference was reset, at rest. Differences do not cross it.
        stamps: (S,) [s] when each was sent. Where given, motion that goes on after a pause without
            a reset is a violation. Uneven periods are none.
        measured: (S, 7) [rad] where the arm was when each was sent, NaN = unknown. A reset of the
            reference must be near what was sent before, or near the arm; the first one near the
            arm.
        tcp_speed: limit of the profile in force [m/s].
        workspace: the TCP may not leave it. A segment that starts outside is not checked, because
            a person has moved the arm there.
        arm: the arm whose limits count.
    """
    if len(q) == 0:
        return CheckResult()
    result = CheckResult(samples=len(q), resets=int(np.sum(resets)))
    result.check(
        "reset at rest",
        np.where(np.abs(dq[resets]).max(1) + np.abs(ddq[resets]).max(1) > 0, 2.0, 0.0),
    )
    _check_resets(result, q, resets, stamps, measured)
    if stamps is not None:
        moving = (np.abs(dq[1:]).max(1) > 1e-6) & ~resets[1:]
        result.check("pause", np.where(moving, np.diff(stamps) / _MAX_PAUSE, 0.0))
    starts = np.flatnonzero(np.r_[True, resets[1:]])
    for start, end in zip(starts, [*starts[1:], len(q)]):
        _check_segment(result, q[start:end], dq[start:end], ddq[start:end], dt, tcp_speed, arm)
        tcp = _tcp(q[start:end])
        if workspace.contains(tcp[0]):
            outside = np.maximum(np.array(workspace.low) - tcp, tcp - np.array(workspace.high)).max(
                1
            )
            result.check("workspace", np.where(outside > 1e-6, 2.0, 0.0))
    return result


def check_states(
    stamps: np.ndarray,
    q: np.ndarray,
    dq: np.ndarray,
    *,
    tcp_speed: float = 0.25,
    arm: ArmLimits = FR3,
    window: float = 0.02,
) -> CheckResult:
    """Check recorded joint states of an arm, as a broadcaster publishes them, at any rate.

    Measured velocities are noisy. So accelerations are their differences over ``window``, and jerks
    are not checked.

    Args:
        stamps: (S,) [s].
        q, dq: (S, 7) [rad], [rad/s].
        tcp_speed: limit of the profile in force [m/s].
        arm: the arm whose limits count.
        window: [s] over which an acceleration is computed.
    """
    result = CheckResult(samples=len(q))
    if len(q) == 0:
        return result
    finite = np.isfinite(stamps) & np.isfinite(q).all(axis=1) & np.isfinite(dq).all(axis=1)
    result.check("finite", np.where(finite, 0.0, 2.0))
    stamps, q, dq = stamps[finite], q[finite], dq[finite]
    result.check("order", np.where(np.diff(stamps) > 0, 0.0, 2.0))
    result.check("position", _position_use(q, arm))
    result.check("velocity", _velocity_use(q, dq, arm))
    later = np.searchsorted(stamps, stamps + window)  # the first state that much later
    begin = np.flatnonzero(later < len(stamps))
    end = later[begin]
    gap = stamps[end] - stamps[begin]
    # not over a hole
    near, begin, end = gap < 2 * window, begin[gap < 2 * window], end[gap < 2 * window]
    gap = gap[near][:, None]
    result.check("acceleration", np.abs(dq[end] - dq[begin]) / gap / arm.ddq_max)
    result.check(
        "tcp speed", np.linalg.norm(_tcp(q[end]) - _tcp(q[begin]), axis=1) / gap[:, 0] / tcp_speed
    )
    return result


def _check_resets(result: CheckResult, q, resets, stamps, measured) -> None:
    """A reset must be near what was sent before, or near the arm: it may not carry the arm away."""
    at = np.flatnonzero(resets)
    before = np.maximum(at - 1, 0)
    jump = np.abs(q[at] - q[before]).max(1) / LEASH
    paused = at == 0
    if stamps is not None:
        # during a pause a person may have led the arm elsewhere
        paused |= stamps[at] - stamps[before] > _MAX_PAUSE
    off = (
        np.full(len(at), np.nan)
        if measured is None
        else np.abs(q[at] - measured[at]).max(1) / AT_ARM
    )
    use = np.where(at == 0, off, np.fmin(jump, off))
    use = np.where(paused & np.isnan(off), 0.0, use)
    result.check("reset", use)


def _check_segment(
    result: CheckResult, q, dq, ddq, dt: float, tcp_limit: float, arm: ArmLimits
) -> None:
    result.check("finite", np.where(np.isfinite(np.concatenate([q, dq, ddq], axis=1)), 0.0, 2.0))
    if not (np.isfinite(q).all() and np.isfinite(dq).all() and np.isfinite(ddq).all()):
        return
    # the stream of positions alone
    velocity, acceleration = np.diff(q, axis=0) / dt, np.diff(q, 2, axis=0) / dt**2
    _check_motion(
        result, "stream", q, None, acceleration, np.diff(q, 3, axis=0) / dt**3, tcp_limit, arm
    )
    middle = 0.5 * (q[1:] + q[:-1])
    result.check("stream velocity", _velocity_use(middle, velocity, arm))
    result.check(
        "stream tcp speed", np.linalg.norm(np.diff(_tcp(q), axis=0), axis=1) / dt / tcp_limit
    )
    if len(q) > 1:
        _check_motion(result, "quintic", *_quintic(q, dq, ddq, dt), tcp_limit, arm)


def _check_motion(
    result: CheckResult, view: str, q, dq, ddq, dddq, tcp_limit: float, arm: ArmLimits
) -> None:
    result.check(f"{view} position", _position_use(q, arm))
    result.check(f"{view} acceleration", np.abs(ddq) / arm.ddq_max)
    result.check(f"{view} jerk", np.abs(dddq) / arm.dddq_max)
    if dq is not None:
        result.check(f"{view} velocity", _velocity_use(q, dq, arm))
        tcp = _tcp(q)
        result.check(
            f"{view} tcp speed", np.linalg.norm(np.gradient(tcp, 1e-3, axis=0), axis=1) / tcp_limit
        )


def _position_use(q: np.ndarray, arm: ArmLimits) -> np.ndarray:
    """Use of the position limits: 0 in the middle of the range, 1 at an end."""
    middle, half = (arm.q_max + arm.q_min) / 2, (arm.q_max - arm.q_min) / 2
    return np.abs(q - middle) / half


def _velocity_use(q: np.ndarray, dq: np.ndarray, arm: ArmLimits) -> np.ndarray:
    low, high = arm.velocity_bounds(q)
    bound = np.where(dq >= 0, high, -low)
    return np.where(np.abs(dq) < 1e-9, 0.0, np.abs(dq) / np.maximum(bound, 1e-9))


def _quintic(q, dq, ddq, dt: float):
    """Positions to jerks (S', 7) at 1 kHz of the quintic segments through the sent states."""
    c0, c1, c2 = q[:-1], dq[:-1] * dt, ddq[:-1] * dt**2 / 2
    gap = q[1:] - c0 - c1 - c2
    dgap = dq[1:] * dt - c1 - 2 * c2
    ddgap = ddq[1:] * dt**2 - 2 * c2
    c3, c4, c5 = (
        10 * gap - 4 * dgap + ddgap / 2,
        -15 * gap + 7 * dgap - ddgap,
        6 * gap - 3 * dgap + ddgap / 2,
    )
    s = (np.arange(_FINE) / _FINE)[:, None, None]
    position = c0 + s * (c1 + s * (c2 + s * (c3 + s * (c4 + s * c5))))
    velocity = (c1 + s * (2 * c2 + s * (3 * c3 + s * (4 * c4 + s * 5 * c5)))) / dt
    acceleration = (2 * c2 + s * (6 * c3 + s * (12 * c4 + s * 20 * c5))) / dt**2
    jerk = (6 * c3 + s * (24 * c4 + s * 60 * c5)) / dt**3
    return tuple(
        part.swapaxes(0, 1).reshape(-1, 7) for part in (position, velocity, acceleration, jerk)
    )


def _tcp(q: np.ndarray) -> np.ndarray:
    """TCP positions (S, 3) [m] by plain rotations, independent of ``geometry.kinematics``."""

    def rotation(axis: str, angle: np.ndarray) -> np.ndarray:
        c, s, o, i = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
        rows = {"z": [[c, -s, o], [s, c, o], [o, o, i]], "y": [[c, o, s], [o, i, o], [-s, o, c]]}[
            axis
        ]
        return np.stack([np.stack(row, -1) for row in rows], -2)

    # with the arm stretched upwards the joints rotate about z, y, z, -y, z, -y, -z
    R = rotation("z", q[:, 0])
    p = np.tile([0.0, 0.0, 0.333], (len(q), 1))
    links = [
        ("y", 1, (0, 0, 0.316)),
        ("z", 1, (0.0825, 0, 0)),
        ("y", -1, (-0.0825, 0, 0.384)),
        ("z", 1, (0, 0, 0)),
        ("y", -1, (0.088, 0, 0)),
        ("z", -1, (0, 0, -0.107 - 0.1034)),
    ]
    for j, (axis, sign, offset) in enumerate(links, start=1):
        R = R @ rotation(axis, sign * q[:, j])
        p = p + (R @ np.array(offset, float)[:, None])[..., 0]
    return p
