"""ROS messages <-> core records. Readers need any object with the message's attributes."""

from __future__ import annotations

import hashlib
import json
import struct

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import serialize_message
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from gwm_core import topics
from gwm_core.control.gate.chunk_checks import MAX_WAYPOINTS
from gwm_core.control.gate.supervision import Approval
from gwm_core.joint_states import by_name
from gwm_core.recording import marks
from gwm_core.types import ActionChunk

MAX_ID_DIGITS = 19  # of 2^63 - 1
MAX_NUMBERS = 1000  # names in a message of named numbers; ours have up to a hundred


def stamp_ns(stamp) -> int:
    """builtin_interfaces/Time -> [ns]."""
    return stamp.sec * 10**9 + stamp.nanosec


def has_header(kind) -> bool:
    """Return whether messages of a type begin with a std_msgs/Header."""
    return next(iter(kind.get_fields_and_field_types().items()), None) == (
        "header",
        "std_msgs/Header",
    )


def stamp_of(content: bytes) -> int:
    """Return the stamp [ns] of a serialised message that begins with a header.

    Byte 1 of CDR tells the byte order.
    """
    seconds, nanoseconds = struct.unpack_from("<iI" if content[1] & 1 else ">iI", content, 4)
    return seconds * 10**9 + nanoseconds


def frame_of(content: bytes) -> str:
    """Return the frame_id of a serialised message that begins with a header."""
    (length,) = struct.unpack_from("<I" if content[1] & 1 else ">I", content, 12)
    return content[16 : 16 + length].rstrip(b"\0").decode(errors="replace")


def set_stamp(header, stamp: int, frame: str = "") -> None:
    """Fill a header. The stamp is in ns."""
    _set_time(header.stamp, stamp)
    header.frame_id = frame


def _set_time(time, nanoseconds: int) -> None:
    """Fill a builtin_interfaces Time or Duration."""
    time.sec = nanoseconds // 10**9
    time.nanosec = nanoseconds % 10**9


def joint_state(stamp: int, names, position, velocity=(), effort=(), frame: str = "") -> JointState:
    """Return a JointState of sequences."""
    message = JointState(name=list(names))
    set_stamp(message.header, stamp, frame)
    message.position = [float(x) for x in position]
    message.velocity = [float(x) for x in velocity]
    message.effort = [float(x) for x in effort]
    return message


def pose(stamp: int, T: np.ndarray, frame: str) -> PoseStamped:
    """Return a PoseStamped of a (4, 4) transform."""
    message = PoseStamped()
    set_stamp(message.header, stamp, frame)
    position, rotation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = T[:3, 3].tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = (
        Rotation.from_matrix(T[:3, :3]).as_quat().tolist()
    )
    return message


def transform(pose) -> np.ndarray:
    """geometry_msgs/Pose -> (4, 4)."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([getattr(pose.orientation, axis) for axis in "xyzw"]).as_matrix()
    T[:3, 3] = pose.position.x, pose.position.y, pose.position.z
    return T


def joint_trajectory(states, dt: float, stamp: int = 0, names=topics.ARM_JOINTS) -> JointTrajectory:
    """Return a trajectory of states (position, velocity, acceleration).

    State k = 1, 2, ... is due k * ``dt`` [s] after ``stamp`` [ns]; stamp 0 means on receipt.
    """
    message = JointTrajectory(joint_names=list(names))
    set_stamp(message.header, stamp)
    for k, (q, dq, ddq) in enumerate(states, start=1):
        point = JointTrajectoryPoint(
            positions=q.tolist(), velocities=dq.tolist(), accelerations=ddq.tolist()
        )
        _set_time(point.time_from_start, round(k * dt * 1e9))
        message.points.append(point)
    return message


def _seconds(duration) -> float:
    return duration.sec + duration.nanosec * 1e-9


def joint_states_of(message) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read a ``joint_trajectory``: times (P,) [s] and three arrays of states (P, 7).

    Raises:
        ValueError: it has no points, or a joint is missing at one.
    """
    if not message.points:
        raise ValueError("a trajectory without points")
    times = np.array([_seconds(p.time_from_start) for p in message.points])
    columns = []
    for field in ("positions", "velocities", "accelerations"):
        rows = [
            by_name(message.joint_names, getattr(p, field), topics.ARM_JOINTS)
            for p in message.points
        ]
        if any(row is None for row in rows):
            raise ValueError(f"{field} of the seven joints are wanted at every point")
        columns.append(np.array(rows))
    return times, *columns


def trajectory(chunk: ActionChunk, made_by: str = topics.BY_POLICY) -> JointTrajectory:
    """Return a chunk as policy/chunk: joints and finger width, waypoint k due after k * dt."""
    message = JointTrajectory(joint_names=[*topics.ARM_JOINTS, topics.WIDTH])
    set_stamp(message.header, chunk.stamp, made_by)
    for k, (q, width) in enumerate(zip(chunk.q, chunk.width), start=1):
        point = JointTrajectoryPoint(positions=[*(float(x) for x in q), float(width)])
        _set_time(point.time_from_start, round(k * chunk.dt * 1e9))
        message.points.append(point)
    return message


def chunk_of(message) -> ActionChunk | None:
    """Read policy/chunk; None for a malformed one.

    Its names must be exactly ours, in any order, with 2 to ``MAX_WAYPOINTS`` evenly spaced
    waypoints. Sizes are checked first: the gate has no time to build 20 000 waypoints.
    """
    names, points, ours = message.joint_names, message.points, (*topics.ARM_JOINTS, topics.WIDTH)
    if len(names) != len(ours) or set(names) != set(ours) or not 2 <= len(points) <= MAX_WAYPOINTS:
        return None
    if any(len(p.positions) < len(ours) for p in points):
        return None
    order = [names.index(name) for name in ours]
    rows = np.array([[p.positions[i] for i in order] for p in points], float)
    times = np.array([_seconds(p.time_from_start) for p in points])
    if not np.allclose(np.diff(times), times[0], atol=1e-6):
        return None
    return ActionChunk(stamp_ns(message.header.stamp), rows[:, :7], rows[:, 7], float(times[0]))


def sha256(message) -> str:
    """Return the hash of a serialised message."""
    return hashlib.sha256(serialize_message(message)).hexdigest()


def approval_of(message) -> Approval:
    """Read the approval in a String with JSON. Raises ValueError for anything else."""
    request = _request(message, {"plan": str, "sha256": str, "expires": int})
    if not is_plan(request["plan"]):
        raise ValueError(
            f"plan {request['plan'][:40]!r}: the decimal digits of an id are wanted, as text"
        )
    return Approval(int(request["plan"]), request["sha256"], request["expires"])


def declined_of(message) -> int | None:
    """Read the id [ns] of the chunk that an operator declines; None for any other message."""
    if "decline" not in message.data:
        return None
    request = _request(message, {"plan": str, "decline": bool})
    if not (request["decline"] and is_plan(request["plan"])):
        raise ValueError('"decline": true and "plan", an id of decimal digits, are wanted')
    return int(request["plan"])


def is_plan(text: str) -> bool:
    """Return whether a text is the id of a chunk."""
    return text.isascii() and text.isdecimal() and len(text) <= MAX_ID_DIGITS


def mark_of(message) -> dict:
    """Read an operator's mark of an episode in a String with JSON.

    Raises:
        ValueError: it is something else.
    """
    return marks.checked(_parsed(message.data, marks.LONGEST))


def mode_of(message) -> str:
    """Read the mode in a String with JSON. Raises ValueError for anything else."""
    return _request(message, {"mode": str})["mode"]


def _request(message, kinds: dict[str, type]) -> dict:
    """Read a JSON object of exactly these keys and types. Raises ValueError for another one."""
    request = _parsed(message.data, 1000)
    if (
        not isinstance(request, dict)
        or {key: type(value) for key, value in request.items()} != kinds
    ):
        raise ValueError(
            "no JSON object of"
            f" {', '.join(f'{key} ({kind.__name__})' for key, kind in kinds.items())}"
        )
    for key, value in request.items():
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{key}: a number of 64 bits is wanted")
    return request


def _parsed(text: str, longest: int):
    """Read a JSON text; None where it has more than ``longest`` characters.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text) if len(text) <= longest else None
    except RecursionError:
        raise ValueError("no JSON that is nested so deeply is wanted") from None


def diagnostics(stamp: int, name: str, text: str, values: dict, ok: bool = True) -> DiagnosticArray:
    """Return diagnostics of one status with named values."""
    status = DiagnosticStatus(
        name=name, message=text, level=DiagnosticStatus.OK if ok else DiagnosticStatus.WARN
    )
    status.values = [KeyValue(key=str(k), value=str(v)) for k, v in values.items()]
    message = DiagnosticArray(status=[status])
    set_stamp(message.header, stamp)
    return message


def read_diagnostics(message) -> dict[str, dict[str, str]]:
    """Read diagnostics as {status name: {"message": ..., key: value, ...}}."""
    return {
        s.name: {"message": s.message, **{v.key: v.value for v in s.values}} for s in message.status
    }


def numbers(names, values) -> Float64MultiArray:
    """Return named numbers, which plot tools can show: names are the labels of the layout.

    "plan" is the id of a chunk [ns] and is sent as two numbers.
    """
    named = dict(zip(names, values))
    if "plan" in named:
        named = topics.plan_parts(named.pop("plan")) | named
    layout = MultiArrayLayout(
        dim=[MultiArrayDimension(label=name, size=1, stride=1) for name in named]
    )
    return Float64MultiArray(layout=layout, data=[float(value) for value in named.values()])


def read_numbers(message) -> dict[str, float]:
    """Read {name: number}; "plan" is an int. Empty for more than ``MAX_NUMBERS`` names."""
    if len(message.layout.dim) > MAX_NUMBERS:
        return {}
    return topics.named_numbers((dim.label for dim in message.layout.dim), message.data)
