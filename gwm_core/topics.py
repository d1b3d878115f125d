"""Names of topics and joints, shared by nodes, recorder and dataset reader.

Topics are relative, so a namespace can be put before them.
"""

import math
from collections.abc import Iterable

ARM_JOINTS = tuple(f"fr3_joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("fr3_finger_joint1", "fr3_finger_joint2")
WIDTH = "fr3_finger_width"  # [m] pseudo joint: opening between the fingers
# Robots, as their drivers name them before joints and links; the names here are those of the first.
ROBOTS = ("fr3", "panda")


def name_of(robot: str, name: str) -> str:
    """A joint, link or controller as this robot's drivers call it; other names as they are."""
    first, underscore, rest = name.partition("_")
    return f"{robot}_{rest}" if underscore and first in ROBOTS else name


def canonical(name: str) -> str:
    """A joint as the FR3's drivers call it."""
    return name_of(ROBOTS[0], name)


JOINT_STATES = "franka/joint_states"
GRIPPER_STATES = "franka_gripper/joint_states"
CHUNK = "policy/chunk"
BY_POLICY, BY_OPERATOR = "policy", "operator"  # frame_id of a chunk: who made it
ALIVE = "policy/alive"
SCENE = "policy/scene"  # the scene of a chunk, stamped with its id
AFAR = "afar"  # the view that no camera has
LOOKAHEADS = (4, 8, 16)  # steps of 0.1 s after which the outcome of a chunk is imagined
# named numbers: id PLAN of the chunk, horizon, [ms] duration, [ms] age; and from a policy that is
# calibrated, success with its 95 % interval: success_low, success_high
IMAGINED = "imagination/plan"
IMAGINED_SCENE = (
    "imagination/scene"  # of the last lookahead, stamped with the time that it predicts
)
DIVERGENCE = (
    "imagination/divergence"  # named numbers: id PLAN of the chunk, then the terms by horizon
)
STAGES = "policy/stages"  # named numbers: id PLAN of the chunk, then the duration of stages [ms]
# the id of a chunk in named numbers: one float64 would round it to 256 ns
PLAN = ("plan_sec", "plan_nanosec")
# chunks of a policy where an operator may take over; teleop passes them on
PROPOSAL = "policy/proposal"
PROPOSAL_ALIVE = "policy/proposal_alive"
JOY = "joy"
LEADER = "leader/joint_states"
COMMAND = "gate/command"
RESET_FRAME = "latched"  # frame_id of a gate/command whose reference was reset
STATUS = "gate/status"
# JSON to the gate: {"plan": "id", "sha256": of the chunk's message, "expires": host time [ns]}
APPROVE = "gate/approve"
MODE = "gate/mode"  # JSON to the gate: {"mode": one of gwm_core.control.gate.supervision.MODES}
SHADOW = "gate/shadow"  # the command that the gate would send, in shadow mode
DECISION = "operator/decision"  # JSON of the operator's decisions at the console
# JSON to the recorder, kept with the episode: "success", "note", "score", "cause", "fields"; and
# "save" it now; or "correct" with the name of the last saved episode, and the right "success"
MARK = "recorder/mark"
ABORTS = ("policy", "hardware")  # the causes of an abort in it
# JSON of a running protocol: the trial, and how well the table matches its first layout
TRIAL = "protocol/trial"
HEARTBEAT = "operator/heartbeat"  # every 50 ms while the operator holds the button (hold_to_run)
TARGET_JOINT = "target_joint"  # CRISP controllers' input
TARGET_POSE = "target_pose"  # the same, for the TCP
# joint_trajectory_controller, named as in franka_ros2
TRAJECTORY = "fr3_arm_controller/joint_trajectory"
FCI_REFERENCE = "fci/reference"  # positions, velocities, and accelerations as efforts
FCI_STATE = "fci/state"  # diagnostics: mode, trouble, success rate of the commands
FCI_RECOVER = "fci/recover"  # service
FCI_HOME_HAND = "fci/home_hand"  # service
FORWARD = "forward_position_controller/commands"  # forward_command_controller
GRIPPER_COMMAND = "gripper_position_controller/commands"  # forward-command gripper, [m]
DIAGNOSTICS = "diagnostics"

# JSON to the simulation: {"task", "seed", "difficulty"} or {"cameras": bool}
SIM_EPISODE = "sim/episode"
SIM_SNAPSHOT = "sim/snapshot"  # JSON from it, of what its cameras see
SIM_RESULT = "sim/result"  # JSON from it: {"seed", "success", "seconds", ...}
SIM_OBJECTS = "sim/objects"  # JSON ground truth, for the scripted expert alone


def color(prefix: str) -> str:
    """Colour image topic of a camera, as realsense2_camera names it."""
    return f"{prefix}/color/image_raw"


def depth(prefix: str) -> str:
    """Depth image topic aligned to colour, 16UC1 in millimetres."""
    return f"{prefix}/aligned_depth_to_color/image_raw"


def info(prefix: str) -> str:
    """Camera info topic of the colour camera."""
    return f"{prefix}/color/camera_info"


def depth_info(prefix: str) -> str:
    """Camera info topic of the aligned depth, which is the colour camera's."""
    return f"{prefix}/aligned_depth_to_color/camera_info"


def prefix_of(camera: str) -> str:
    """Default topic prefix of a camera."""
    return f"camera/{camera}"


def overlay(camera: str) -> str:
    """Outlines of the table's layout for the first policy, over the current image of a camera."""
    return f"protocol/{camera}/overlay"


def imagined(camera: str, step: int) -> str:
    """The imagined image of a camera, ``step`` * 0.1 s after the observation of a chunk."""
    return f"imagination/{camera}/h{step}/image"


def plan_parts(plan: int) -> dict[str, int]:
    """The id of a chunk [ns] as two numbers that a float64 represents."""
    return dict(zip(PLAN, divmod(plan, 10**9)))


def named_numbers(names: Iterable[str], values: Iterable[float]) -> dict[str, float]:
    """Named numbers of a message, with the id of the chunk [ns], if any, as one int under "plan".

    Older recordings have the id as one float64, rounded to 256 ns.
    """
    numbers = dict(zip(names, map(float, values)))
    parts = [numbers.pop(part, math.nan) for part in PLAN]
    plan = numbers.pop("plan", math.nan)
    if all(map(math.isfinite, parts)):
        numbers["plan"] = int(parts[0]) * 10**9 + int(parts[1])
    elif math.isfinite(plan):
        numbers["plan"] = int(plan)
    return numbers
