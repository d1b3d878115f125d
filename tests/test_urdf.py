"""The robot description says the same as the core, in every library that reads it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from gwm_core.geometry.capsules import CAPSULES
from gwm_core.geometry.kinematics import fk, link_frames
from gwm_core.geometry.limits import FR3
from gwm_core.topics import ARM_JOINTS, FINGER_JOINTS

xacro = pytest.importorskip("xacro")
FILE = Path(__file__).parents[1] / "urdf/fr3.urdf.xacro"
T_TCP_WRIST = np.array([[0, -1, 0, 0.05], [1, 0, 0, 0.01], [0, 0, 1, -0.06], [0, 0, 0, 1.0]])
CAMERAS = (
    f"wrist fr3_hand_tcp 0.05 0.01 -0.06 0 0 {np.pi / 2}; front fr3_link0 1.1 0.0 0.6 -2.2 0.0 1.5"
)
JOINTS = np.random.default_rng(0).uniform(FR3.q_low, FR3.q_high, (20, 7))


@pytest.fixture(scope="module")
def text():
    return xacro.process_file(str(FILE), mappings={"cameras": CAMERAS}).toxml()


def test_the_expanded_file_is_what_xacro_makes_of_the_other():
    """`xacro urdf/fr3.urdf.xacro > urdf/fr3.urdf`: nothing of ours expands it at run time."""
    made, kept = (
        ElementTree.canonicalize(x, strip_text=True)
        for x in (xacro.process_file(str(FILE)).toxml(), FILE.with_suffix("").read_text())
    )
    assert made == kept


@pytest.fixture(scope="module")
def robot(text):
    return ElementTree.fromstring(text)


def numbers(element, name, default="0 0 0"):
    return np.array([float(x) for x in element.get(name, default).split()])


def test_limits_are_the_cores(robot):
    limits = [robot.find(f"joint[@name='{name}']/limit") for name in ARM_JOINTS]
    tables = {
        "lower": FR3.q_min,
        "upper": FR3.q_max,
        "velocity": FR3.dq_max,
        "effort": [87] * 4 + [12] * 3,
    }
    for key, table in tables.items():
        np.testing.assert_allclose([float(limit.get(key)) for limit in limits], table, err_msg=key)
    assert all(robot.find(f"joint[@name='{name}']") is not None for name in FINGER_JOINTS)


@pytest.mark.parametrize("kind", ["visual", "collision"])
def test_capsules_are_the_cores(robot, kind):
    """Each capsule of the core is there as a cylinder with a sphere at either end, and no other
    is.
    """
    found = []
    for link in [f"fr3_link{i}" for i in range(8)] + ["fr3_hand"]:
        spheres = [
            s
            for s in robot.findall(f"link[@name='{link}']/{kind}")
            if s.find("geometry/sphere") is not None
        ]
        rods = [
            s
            for s in robot.findall(f"link[@name='{link}']/{kind}")
            if s.find("geometry/cylinder") is not None
        ]
        for rod, first, second in zip(rods, spheres[::2], spheres[1::2], strict=True):
            ends = np.array([numbers(s.find("origin"), "xyz") for s in (first, second)])
            radii = {float(s.find("geometry/*").get("radius")) for s in (rod, first, second)}
            assert len(radii) == 1
            _, pitch, yaw = numbers(rod.find("origin"), "rpy")
            axis = np.array(
                [np.cos(yaw) * np.sin(pitch), np.sin(yaw) * np.sin(pitch), np.cos(pitch)]
            )
            half = axis * float(rod.find("geometry/cylinder").get("length")) / 2
            middle = numbers(rod.find("origin"), "xyz")
            np.testing.assert_allclose([middle - half, middle + half], ends, atol=1e-9)
            if link == "fr3_hand":  # 45 degrees about z from link 7, in whose frame the core has it
                turn = np.array([[1, 1, 0], [-1, 1, 0], [0, 0, np.sqrt(2)]]) * np.sqrt(0.5)
                ends = ends @ turn.T + [0, 0, 0.107]
            found.append((7 if link == "fr3_hand" else int(link[-1]), *ends, radii.pop()))
    assert len(found) == len(CAPSULES)
    for (link, start, end, radius), capsule in zip(found, CAPSULES):
        assert (link, radius) == (capsule.link, capsule.radius)
        np.testing.assert_allclose([start, end], [capsule.start, capsule.end], atol=1e-6)


def test_inertias_are_those_of_bodies(robot):
    """Positive, and no principal moment above the sum of the other two."""
    inertials = robot.findall("link/inertial")
    assert len(inertials) == 8 + 3 + 2
    for inertial in inertials:
        xx, xy, xz, yy, yz, zz = (
            float(inertial.find("inertia").get(f"i{k}"))
            for k in ("xx", "xy", "xz", "yy", "yz", "zz")
        )
        moments = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        assert moments[0] > 0 and moments[0] + moments[1] >= 0.99 * moments[2], (
            ElementTree.tostring(inertial)
        )


def poses_by_pinocchio(text, links):
    pinocchio = pytest.importorskip("pinocchio")
    model = pinocchio.buildModelFromXML(text)
    data, frames = model.createData(), [model.getFrameId(link) for link in links]
    for q in JOINTS:
        pinocchio.framesForwardKinematics(model, data, np.array([*q, 0.02, 0.02][: model.nq]))
        yield [data.oMf[frame].homogeneous for frame in frames]


def poses_by_mujoco(text, links):
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    for q in JOINTS:
        data.qpos[:7] = q
        mujoco.mj_kinematics(model, data)
        poses = np.tile(np.eye(4), (len(links), 1, 1))
        for T, link in zip(poses, links):
            T[:3, :3], T[:3, 3] = data.body(link).xmat.reshape(3, 3), data.body(link).xpos
        yield poses


def poses_by_yourdfpy(text, links):
    yourdfpy = pytest.importorskip("yourdfpy")
    import io

    robot = yourdfpy.URDF.load(io.StringIO(text))
    for q in JOINTS:
        robot.update_cfg(dict(zip(ARM_JOINTS, q)))
        yield [robot.get_transform(link, "fr3_link0") for link in links]


@pytest.mark.parametrize("poses", [poses_by_pinocchio, poses_by_mujoco, poses_by_yourdfpy])
def test_forward_kinematics_is_the_cores(text, poses):
    links = [*(f"fr3_link{i}" for i in range(1, 8)), "fr3_hand_tcp", "wrist_color_optical_frame"]
    count = 0
    for q, found in zip(JOINTS, poses(text, links), strict=True):
        np.testing.assert_allclose(found[:7], link_frames(q)[1:], atol=1e-6)
        np.testing.assert_allclose(found[7], fk(q), atol=1e-6)
        np.testing.assert_allclose(found[8], fk(q) @ T_TCP_WRIST, atol=1e-6)
        count += 1
    assert count == len(JOINTS)


def test_forward_kinematics_is_the_simulations(text, simulator):
    mujoco = pytest.importorskip("mujoco")
    data = mujoco.MjData(simulator.model)
    address = [simulator.model.joint(f"arm_panda_joint{i + 1}").qposadr[0] for i in range(7)]
    for q, (tcp,) in zip(JOINTS, poses_by_mujoco(text, ["fr3_hand_tcp"]), strict=True):
        data.qpos[address] = q
        mujoco.mj_kinematics(simulator.model, data)
        np.testing.assert_allclose(tcp[:3, 3], data.site("arm_hand_TCP").xpos, atol=1e-6)


@pytest.mark.parametrize(
    "cameras",
    [
        "x fr3_link0 ${open('/etc/passwd').read()} 0 0 0 0 0",
        "x fr3_link0 0 0 0 0 0 $(eval 3 * 3)",
        "x fr3_link0 0 0 0 0 0 __import__('os').getcwd()",
        "x fr3_link0 0 0 0 0 0 nan",
        "x fr3_link0 0 0 0 0 0",
        'x"/><limit fr3_link0 0 0 0 0 0 0',
        "x world 0 0 0 0 0 0",
    ],
)
def test_a_hostile_argument_is_refused(cameras):
    with pytest.raises(
        xacro.XacroException,
        match=r"a camera is: name fr3_LINK|could not convert|Unknown substitution",
    ):
        xacro.process_file(str(FILE), mappings={"cameras": cameras})


def test_it_needs_no_other_file(text):
    assert "<mesh" not in text and "package://" not in text
