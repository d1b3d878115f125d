"""Checks of a chunk's content: its format, its plausibility, and the path it describes.

Each check returns "" or the reason why the chunk is refused. A reason starts with its kind and a
colon; refusals are counted by kind.
"""

from __future__ import annotations

import numpy as np

from gwm_core.control.reference_follower import SINGULAR_STOP
from gwm_core.geometry.capsules import MINIMUM_CLEARANCE, clearance
from gwm_core.geometry.kinematics import condition, fk, fk_jacobian
from gwm_core.geometry.limits import ArmLimits, Workspace
from gwm_core.types import ActionChunk

MAX_WAYPOINTS = 256
# twice what trained policies and the expert do (0.19 rad, 0.05 m)
MAX_JUMP = 0.35  # [rad]
MAX_TCP_JUMP = 0.12  # [m]
MAX_TCP_SPEED = 1.0  # [m/s] between waypoints, whatever the profile; the largest seen is 0.55
_HINT_TOLERANCE = 0.2  # [rad] between a waypoint with its mistake undone and the reference


def check_format(chunk: ActionChunk) -> str:
    """Check shapes, types and spacing, and that all numbers are finite."""
    q, width = chunk.q, chunk.width
    if (
        q.ndim != 2
        or q.shape[1] != 7
        or not 2 <= len(q) <= MAX_WAYPOINTS
        or width.shape != q.shape[:1]
    ):
        return (
            f"shape: {q.shape} and {width.shape},"
            f" (H, 7) and (H,) with 2 <= H <= {MAX_WAYPOINTS} wanted"
        )
    if q.dtype.kind != "f" or width.dtype.kind != "f":
        return f"shape: {q.dtype} and {width.dtype}, floating point wanted"
    if not (np.all(np.isfinite(q)) and np.all(np.isfinite(width)) and np.isfinite(chunk.dt)):
        return "not finite: a row, a width or the spacing"
    if not 0.02 <= chunk.dt <= 0.5:
        return f"row spacing: {chunk.dt:.3f} s, 0.02 to 0.5 wanted"
    return ""


def check_plausibility(
    chunk: ActionChunk, due: int, q_now: np.ndarray, arm: ArmLimits, tcp_speed: float
) -> str:
    """Check for joint limits and jumps that no policy trained on this arm would produce.

    Args:
        chunk: passes ``check_format``.
        due: index of the waypoint that is due now.
        q_now: the reference (7,) [rad].
        arm: the arm whose position and velocity limits count.
        tcp_speed: of the profile [m/s].
    """
    outside = (chunk.q < arm.q_low) | (chunk.q > arm.q_high)
    if outside.any():
        row, joint = np.argwhere(outside)[0]
        return f"joint limit: {chunk.q[row, joint]:.2f} rad for joint {joint + 1}" + _hint(
            chunk.q[due], q_now
        )
    step = np.abs(np.diff(chunk.q, axis=0)).max(axis=0)
    if np.any(step > np.minimum(MAX_JUMP, arm.dq_max * chunk.dt)):
        return f"jump: {step.max():.2f} rad between rows"
    jump = float(np.abs(chunk.q[due] - q_now).max())
    if jump > MAX_JUMP:
        return f"jump: {jump:.2f} rad from the reference" + _hint(chunk.q[due], q_now)
    tcp = fk(np.concatenate([chunk.q, q_now[None]]))[:, :3, 3]
    speed = float(np.linalg.norm(np.diff(tcp[:-1], axis=0), axis=1).max()) / chunk.dt
    if speed > max(MAX_TCP_SPEED, 1.5 * tcp_speed):
        return f"jump: {speed:.1f} m/s between rows"
    jump = float(np.linalg.norm(tcp[due] - tcp[-1]))
    if jump > MAX_TCP_JUMP:
        return f"jump: {jump:.2f} m from the reference" + _hint(chunk.q[due], q_now)
    return ""


def check_posture(q: np.ndarray, arm: ArmLimits, workspace: Workspace) -> str:
    """Why the arm at joints ``q`` (7,) [rad] may not be moved by commands, or ""."""
    if np.any(q < arm.q_low) or np.any(q > arm.q_high):
        return "a joint is within the margin of its limit"
    if not workspace.contains(fk(q)[:3, 3]):
        return "the tool is outside the workspace"
    if clearance(q).min() < MINIMUM_CLEARANCE:
        return "the arm is too near to the table or to itself"
    return ""


def _hint(q: np.ndarray, q_now: np.ndarray) -> str:
    """The mistake in the conversion of joints that would explain waypoint ``q``, or ""."""
    near = _HINT_TOLERANCE
    if np.abs(np.radians(q) - q_now).max() < near:
        return "; degrees for radians?"
    if np.abs(-q - q_now).max() < near:
        return "; signs flipped?"
    if np.abs(np.sort(q) - np.sort(q_now)).max() < near:
        return "; joints in another order?"
    return ""


def check_path(path: np.ndarray, workspace: Workspace) -> str:
    """Check postures (S, 7) [rad] for the workspace, clearance and singularities."""
    T, jacobian = fk_jacobian(path)
    if not workspace.contains(T[:, :3, 3]):
        return "workspace: the tool would leave its box"
    gaps = clearance(path)
    if gaps[..., -1].min() < MINIMUM_CLEARANCE:
        return (
            f"table: {1e3 * gaps[..., -1].min():.1f} mm between arm and table,"
            f" {1e3 * MINIMUM_CLEARANCE:.1f} wanted"
        )
    if gaps.min() < MINIMUM_CLEARANCE:
        return (
            f"self-collision: {1e3 * gaps.min():.1f} mm between two links,"
            f" {1e3 * MINIMUM_CLEARANCE:.1f} wanted"
        )
    worst = float(condition(jacobian).max())
    if worst > SINGULAR_STOP:
        return f"singularity: condition number {worst:.0f}, at most {SINGULAR_STOP:.0f} wanted"
    return ""
