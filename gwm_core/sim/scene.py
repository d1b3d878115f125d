"""The MuJoCo scene: table, Panda arm and hand with FR3 limits, cubes, plate, two cameras.

The meshes are those of the Panda (dm-robotics-panda wheel, Apache-2.0, after franka_ros): no wheel
holds FR3 meshes, and both arms share their kinematics. A process compiles one model, and applies a
``Layout`` to it for each episode.
"""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

import fast_simplification
import mujoco
import numpy as np

from gwm_core.errors import InputError
from gwm_core.geometry.camera import look_at
from gwm_core.geometry.limits import FR3
from gwm_core.geometry.simulated_cameras import CAMERAS

CUBE_COLORS = {
    "red": (0.85, 0.10, 0.10),
    "blue": (0.10, 0.25, 0.85),
    "green": (0.10, 0.65, 0.20),
    "yellow": (0.90, 0.80, 0.10),
    "purple": (0.50, 0.15, 0.60),
    "orange": (0.95, 0.45, 0.05),
}
PLATE_RADIUS, PLATE_HEIGHT = 0.075, 0.02  # [m]
CUBE_SIZE = 0.04  # [m]
TIMESTEP = 0.002  # [s]
FOVY = 42.5  # [degrees] vertical field of view of the D435 colour camera
# [N m/rad] of the wrist: a higher gain oscillates at its 12 N m
ARM_KP = (4500.0, 4500.0, 3500.0, 3500.0, 600.0, 600.0, 600.0)
KV_OVER_KP = 0.1  # [s] so that ctrl = q + 0.1 * dq tracks a moving target
PARKED = (3.0, 0.0, -0.7)  # [m] of cubes outside the layout


@dataclass(frozen=True)
class Layout:
    """The randomised parameters of an episode, in metres and radians in the base frame."""

    task: str
    seed: int
    difficulty: str
    cubes: dict[str, np.ndarray]  # name -> (x, y, yaw, size)
    plate: np.ndarray  # (x, y)
    colors: dict[str, np.ndarray]  # name -> rgb
    light: np.ndarray  # direction 3, diffuse, ambient
    camera_error: dict[str, np.ndarray]  # name -> rotation vector 3 [rad], translation 3 [m]
    noise: float  # multiple of the nominal depth noise

    def size(self, name: str) -> float:
        """Edge length of a cube [m]."""
        return float(self.cubes[name][3]) if name in self.cubes else CUBE_SIZE


def _panda_file(name: str) -> str:
    try:
        files = importlib.metadata.files("dm-robotics-panda") or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            "the simulation needs the Panda meshes: pip install --no-deps dm-robotics-panda==0.4.8"
            " (./gwm does it)"
        ) from None
    return str(next(f for f in files if f.name == name).locate())


def _simplify(spec: mujoco.MjSpec, folder: Path) -> None:
    """Reduce each mesh to a tenth of its faces: 134,000 ones, twice, take 60 ms on a CPU."""
    for mesh in spec.meshes:
        text = (folder / mesh.file).read_text()  # Wavefront OBJ, of triangles alone
        points = np.array(re.findall(r"^v (\S+) (\S+) (\S+)", text, re.M), np.float32)
        triangles = np.array(re.findall(r"^f (\d+)\S* (\d+)\S* (\d+)", text, re.M), np.int32) - 1
        points, triangles = fast_simplification.simplify(points, triangles, target_reduction=0.9)
        mesh.file = ""
        mesh.uservert, mesh.userface = points.flatten().tolist(), triangles.flatten().tolist()
    for material in spec.materials:
        material.textures = [""] * len(material.textures)
        material.rgba = [0.92, 0.92, 0.93, 1.0]


def _arm_spec() -> mujoco.MjSpec:
    arm = mujoco.MjSpec.from_file(_panda_file("panda.xml"))
    hand = mujoco.MjSpec.from_file(_panda_file("panda_hand.xml"))
    for part in (arm, hand):
        _simplify(part, Path(_panda_file("panda.xml")).parent)
    for actuator in list(hand.actuators):
        hand.delete(actuator)  # its tendon drive holds a cube with about 1 N
    mount = arm.body("panda_link8").add_frame(quat=[0.9238795, 0, 0, -0.3826834])
    mount.attach_body(hand.body("panda_hand"), "hand_", "")
    for i in range(7):
        joint = arm.joint(f"panda_joint{i + 1}")
        joint.range, joint.armature, joint.frictionloss = [FR3.q_min[i], FR3.q_max[i]], 0.1, 0.0
        joint.damping = [1.0, 0, 0]  # the file's joint 6 has a negative one
        force = 87.0 if i < 4 else 12.0
        arm.add_actuator(
            name=f"arm{i + 1}",
            target=joint.name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            gainprm=[ARM_KP[i]] + [0] * 9,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            biasprm=[0, -ARM_KP[i], -KV_OVER_KP * ARM_KP[i]] + [0] * 7,
            forcerange=[-force, force],
            forcelimited=True,
        )
    for i in (1, 2):
        arm.add_actuator(
            name=f"finger{i}",
            target=f"hand_panda_finger_joint{i}",
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            gainprm=[2500.0] + [0] * 9,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            biasprm=[0, -2500.0, -60.0] + [0] * 7,
            forcerange=[-30, 30],  # [N] half of the hand's continuous 70 N, per finger
            forcelimited=True,
        )
    for name in ("hand_panda_leftfinger_collision", "hand_panda_rightfinger_collision"):
        arm.geom(name).friction, arm.geom(name).condim = [1.2, 0.005, 0.0001], 4
    return arm


def _surroundings() -> str:
    # compiled at the largest size of a layout: the collision tree keeps the compiled bounds
    cubes = "".join(
        f'<body name="{name}" pos="3 0 -0.7"><freejoint name="{name}"/>'
        f'<geom name="{name}" type="box" size=".025 .025 .025" rgba="{r} {g} {b} 1" mass=".05" '
        'friction="1 .005 .0001" condim="4"/></body>'
        for name, (r, g, b) in CUBE_COLORS.items()
    )
    return f"""<mujoco model="gwm">
      <option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="10"/>
      <visual><global offwidth="1280" offheight="720"/><map znear=".005" zfar="20"/>
        <quality shadowsize="0" offsamples="0"/>
        <headlight ambient=".3 .3 .3" diffuse=".3 .3 .3" specular="0 0 0"/></visual>
      <statistic extent="1"/>
      <worldbody>
        <light name="lamp" type="directional" pos="0 0 2" dir="-.3 .4 -1" diffuse=".6 .6 .6"
          castshadow="false"/>
        <geom name="floor" type="plane" size="4 4 .1" pos="0 0 -.75" rgba=".35 .37 .40 1"/>
        <geom name="table" type="box" size=".65 .7 .02" pos=".35 0 -.02" rgba=".62 .56 .48 1"
          friction="1 .005 .0001"/>
        <body name="plate" mocap="true" pos=".5 .2 .01">
          <geom name="plate" type="cylinder" size="{PLATE_RADIUS} {PLATE_HEIGHT / 2}"
            rgba=".93 .93 .95 1"/></body>
        {cubes}
        <camera name="front" fovy="{FOVY}"/><camera name="side" fovy="{FOVY}"/>
        <camera name="free" fovy="{FOVY}"/>
      </worldbody></mujoco>"""


def build_arm() -> mujoco.MjModel:
    """Compile arm and hand alone: seven joints, then two fingers; the base link at the origin."""
    return _arm_spec().compile()


def build_model() -> mujoco.MjModel:
    """Return a model of the scene; the first call in a process compiles it (half a second)."""
    return copy.copy(_compiled())


@functools.cache
def _compiled() -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_string(_surroundings())
    arm = _arm_spec()
    spec.worldbody.add_frame().attach_body(arm.body("panda_link0"), "arm_", "")
    model = spec.compile()
    for name, (eye, target) in CAMERAS.items():
        place_camera(model, name, look_at(eye, target))
    return model


def place_camera(model: mujoco.MjModel, name: str, T_base_camera: np.ndarray) -> None:
    """Move a camera (MuJoCo looks along -z with y up, an optical frame along +z with y down)."""
    rotation = T_base_camera[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    mujoco.mju_mat2Quat(model.camera(name).quat, rotation.flatten())
    model.camera(name).pos = T_base_camera[:3, 3]


def apply_layout(model: mujoco.MjModel, data: mujoco.MjData, layout: Layout) -> None:
    """Apply cubes, plate, colours, lamp and cameras with their errors to the model and its data."""
    for i, name in enumerate(CUBE_COLORS):
        size = layout.size(name)
        geom, body, joint = model.geom(name), model.body(name), data.joint(name)
        geom.size, geom.rbound = [size / 2] * 3, size / 2 * np.sqrt(3)
        model.geom_aabb[geom.id] = [0, 0, 0, size / 2, size / 2, size / 2]
        body.inertia = body.mass * size**2 / 6
        if name in layout.cubes:
            x, y, yaw, _ = layout.cubes[name]
            joint.qpos = [x, y, size / 2 + 1e-4, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        else:
            joint.qpos = [PARKED[0], 0.2 * i, PARKED[2], 1, 0, 0, 0]
        joint.qvel = 0
        geom.rgba = [*layout.colors[name], 1]
    model.geom("plate").rgba = [*layout.colors["plate"], 1]
    model.geom("table").rgba = [*layout.colors["table"], 1]
    data.mocap_pos[0] = [*layout.plate, PLATE_HEIGHT / 2]
    lamp = model.light("lamp")
    lamp.dir, lamp.diffuse = layout.light[:3], [layout.light[3]] * 3
    model.vis.headlight.ambient[:] = layout.light[4]
    for name, (eye, target) in CAMERAS.items():
        place_camera(
            model, name, look_at(eye, target) @ _small_transform(layout.camera_error[name])
        )


def _small_transform(twist: np.ndarray) -> np.ndarray:
    T, angle = np.eye(4), np.linalg.norm(twist[:3])
    if angle > 0:
        quat = np.empty(4)
        mujoco.mju_axisAngle2Quat(quat, twist[:3] / angle, angle)
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, quat)
        T[:3, :3] = rotation.reshape(3, 3)
    T[:3, 3] = twist[3:]
    return T
