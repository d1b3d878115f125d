from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from gwm_core.address import address
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, fk
from gwm_core.geometry.limits import DESK, FR3, LAB, PANDA, PROFILES
from gwm_core.site import Camera, load_site, motion_site, simulation_site, site_of, xacro_mounts
from gwm_core.task_spec import parse_tasks
from gwm_core.types import ArmState


def site_dict():
    cameras = {n: c.to_dict() for n, c in simulation_site().cameras.items()}
    return {"cameras": cameras, "workspace": {"low": [0.3, -0.3, 0.01], "high": [0.7, 0.3, 0.5]}}


def write(tmp_path, values):
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_site_file_loads(tmp_path):
    site = load_site(write(tmp_path, site_dict()))
    assert set(site.cameras) == {"front", "side"} and site.workspace.low == (0.3, -0.3, 0.01)


def test_a_panda_has_its_own_limits_and_is_no_fr3(tmp_path):
    path = write(tmp_path, site_dict() | {"robot": {"type": "panda"}})
    for read in (site_of, motion_site):
        site = read("panda", path)
        assert site.robot == "panda" and site.limits is not FR3
        np.testing.assert_array_equal(site.limits.dq_max, PANDA.dq_max)
        with pytest.raises(InputError, match="is of a panda, but robot:=fr3 needs one of a fr3"):
            read("fr3", path)
        with pytest.raises(InputError, match="is of a panda, but robot:=sim needs one of a fr3"):
            read("sim", path)
    assert " panda_link0 " in xacro_mounts(site_of("panda", path))
    narrowed = site_dict() | {"robot": {"type": "panda"}, "limits": {"ddq_max": [15.0] * 7}}
    with pytest.raises(InputError, match=r"wider than the panda's 7\.5"):
        load_site(write(tmp_path, narrowed))


def wider(v):
    v["workspace"]["high"] = [2.0, 0.3, 0.5]


def bent(v):
    v["cameras"]["front"]["T_base_camera"][0][0] = 2.0


def nan(v):
    v["cameras"]["front"]["T_base_camera"][0][3] = float("nan")
    v["cameras"]["front"]["T_base_camera"][0][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (wider, "may only narrow"),
        (bent, "not a rigid"),
        (nan, "not a rigid"),
        (lambda v: v.pop("cameras"), "cameras: at least one"),
        (lambda v: v.update(colour="red"), "unknown key 'colour': valid keys are cameras"),
        (lambda v: v["cameras"]["side"].pop("prefix"), "cameras.side"),
        (lambda v: v["workspace"].pop("low"), "workspace needs"),
        (lambda v: v.update(cameras=[]), "at least one"),
        (lambda v: v.update(cameras={}), "at least one"),
        (lambda v: v["cameras"].update({"a b": v["cameras"]["side"]}), "letters, digits"),
        (lambda v: v.update(robot={"type": "ur5"}), r"robot\.type.*fr3"),
        (lambda v: v.update(robot={"ip": "172.16.0.2; reboot"}), r"robot\.ip"),
        (lambda v: v.update(robot="fr3"), "valid keys are type, ip; got 'fr3'"),
        (lambda v: v.update(home=[0, -17, 0, -132, 0, 115, 45]), "degrees"),
        (lambda v: v.update(home=[0.0] * 6), "seven joint angles"),
        (lambda v: v.update(home=[0.0, float("nan"), 0, -2, 0, 2, 0]), "seven joint angles"),
        (lambda v: v.update(home=[1.5, -0.3, 0.0, -2.3, 0.0, 2.0, 0.8]), "outside the workspace"),
        (
            lambda v: v.update(profile={"tcp_speed": 0.5}),
            r"profile\.tcp_speed: may only narrow desk's 0\.25",
        ),
        (
            lambda v: v.update(profile={"name": "lab", "tcp_speed": 0.6}),
            r"profile\.tcp_speed: may only narrow lab's 0\.5",
        ),
        (
            lambda v: v.update(profile={"name": "fast"}),
            r"profile\.name: 'fast' is none of desk, lab, full",
        ),
        (lambda v: v.update(profile={"name": ["desk"]}), r"profile\.name"),
        (
            lambda v: v.update(limits={"dq_max": [2.7] + [1.0] * 6}),
            r"limits: dq_max 2\.7 of joint 1 is wider",
        ),
        (
            lambda v: v.update(limits={"q_min": [-3.0] + [-1.0] * 6}),
            r"limits: q_min -3 of joint 1 is wider",
        ),
        (
            lambda v: v.update(limits={"dddq_max": [float("nan")] * 7}),
            "limits: dddq_max needs seven finite",
        ),
        (
            lambda v: v.update(limits={"speed": [1.0] * 7}),
            "limits: unknown key 'speed': valid keys are q_min",
        ),
        (lambda v: v.update(limits={3: [1.0] * 7}), "the key '3' is not text"),
        (lambda v: v.update(limits=[1.0] * 7), "limits: valid keys are q_min"),
        (lambda v: v.update(tasks=["sort"]), "tasks: got .*: names are wanted, and under each"),
        (lambda v: v.update(tasks={"Sort it": {}}), r"tasks\.Sort it: a name is small letters"),
        (
            lambda v: v.update(tasks={"sort": {"seconds": 3}}),
            r"tasks\.sort: valid keys are instruction",
        ),
        (
            lambda v: v.update(tasks={"sort": {"instruction": "x", "seconds": 1e9}}),
            r"tasks\.sort: seconds: up to 300",
        ),
        (
            lambda v: v.update(tasks={"sort": {"instruction": "x", "rubric": {"a": 0.5}}}),
            "add up to 1, not to 0.5",
        ),
        (
            lambda v: v.update(tasks={"sort": {"instruction": "x", "rubric": {"a": -1}}}),
            "criteria with a weight each",
        ),
        (
            lambda v: v.update(tasks={"sort": {"instruction": "x", "fields": ["box"]}}),
            r"tasks\.sort: fields: up to 6 names",
        ),
        (
            lambda v: v.update(tasks={"sort": {"instruction": "x", "fields": {"box": "number"}}}),
            r"tasks\.sort: fields\.box: .* text or 2 to 8 choices",
        ),
        (
            lambda v: v.update(tasks={"sort": {"instruction": "x", "fields": {"box": ["left"]}}}),
            r"fields\.box: .* 2 to 8 choices",
        ),
        (
            lambda v: v.update(tasks={"sort": {"instruction": "x", "fields": {"box": ["a", "a"]}}}),
            r"a choice stands there twice",
        ),
        (
            lambda v: v.update(tasks={"sort": {"instruction": "x", "fields": {"box": ["a", 3]}}}),
            r"fields\.box",
        ),
        (
            lambda v: v.update(
                tasks={"sort": {"instruction": "x", "fields": {"box" * 30: "text"}}}
            ),
            r"of up to 60 characters",
        ),
        (lambda v: v.update(profile={"jerk": float("nan")}), r"profile\.jerk"),
        (lambda v: v.update(profile={"velocity": True}), r"profile\.velocity"),
        (
            lambda v: v.update(profile={"speed": 0.1}),
            "unknown key 'speed': valid keys are name, tcp_speed",
        ),
        (
            lambda v: v.update(worksapce=v.pop("workspace")),
            "unknown key 'worksapce': valid keys are cameras, work",
        ),
        (
            lambda v: v["workspace"].update(heigh=[1, 1, 1]),
            "workspace: unknown key 'heigh': valid keys are low, high",
        ),
        (
            lambda v: v["cameras"]["side"].update(serial_no="1"),
            r"cameras\.side: unknown key 'serial_no': valid keys",
        ),
        (
            lambda v: v.update(workspace=None),
            "workspace: nothing stands there: leave it out, or give some of",
        ),
        (lambda v: v.update(profile=None), "profile: nothing stands there"),
        (
            lambda v: v.update(home=None),
            "home: seven joint angles in radians are wanted: None is no number",
        ),
        (
            lambda v: v.update(home=["0.0"] * 7),
            "home: seven joint angles in radians are wanted: '0.0' is no number",
        ),
        (
            lambda v: v["workspace"].update(low=["0.3", -0.3, 0.01]),
            r"workspace\.low: three metres are wanted: '0.3'",
        ),
        (
            lambda v: v["cameras"]["side"]["T_base_camera"][0].__setitem__(0, "1"),
            "rigid 4x4 transform: '1' is no",
        ),
        (
            lambda v: v["cameras"]["side"]["T_base_camera"][3].__setitem__(3, True),
            "rigid 4x4 transform: True is no",
        ),
        (
            lambda v: v.update(profile={"tcp_speed": "5 cm/s"}),
            r"profile\.tcp_speed: a number is wanted, got '5 cm/s'",
        ),
        (
            lambda v: v["cameras"]["side"].update(prefix=7),
            "prefix: text is wanted, and YAML takes 7 for a number",
        ),
        (
            lambda v: v["cameras"]["side"].update(prefix="camera side"),
            "'camera side' is not NAMESPACE/NAME",
        ),
        (
            lambda v: v["cameras"]["side"].update(prefix="camera/side/"),
            "'camera/side/' is not NAMESPACE/NAME",
        ),
        (
            lambda v: v["cameras"]["side"].update(prefix="camera/front"),
            "side: prefix camera/front is that of front",
        ),
        (
            lambda v: v["cameras"]["side"].update(prefix="/camera/front"),
            "side: prefix camera/front is that of front",
        ),
        (
            lambda v: [c.update(serial="8196") for c in v["cameras"].values()],
            "serial 8196 is that of front",
        ),
        (
            lambda v: v["cameras"]["side"].update(serial="_8196"),
            "side: serial is '_8196': the digits that are printed",
        ),
        (
            lambda v: v["cameras"]["side"].update(serial="8196 12"),
            "side: serial is '8196 12': the digits",
        ),
        (lambda v: v["cameras"]["side"].update(serial=""), "side: serial is '': the digits"),
        (lambda v: v["cameras"]["side"].update(serial=None), "side: serial is nothing: the digits"),
        (lambda v: v.update(tasks=None), "tasks: nothing stands there"),
        (
            lambda v: v.update(tasks={"sort": {"instructions": "x"}}),
            r"tasks\.sort: unknown key 'instructions': val",
        ),
        (
            lambda v: v.update(tasks={"sort": {"instruction": 3}}),
            r"tasks\.sort\.instruction: text is wanted",
        ),
        (lambda v: v.update(tasks={"sort": None}), r"tasks\.sort: nothing stands there"),
    ],
)
def test_a_wrong_site_file_is_refused_with_the_key(tmp_path, change, named):
    values = site_dict()
    change(values)
    with pytest.raises(InputError, match=named):
        load_site(write(tmp_path, values))


def test_a_sites_numbers_are_never_exceeded_whatever_profile_is_asked_for(tmp_path):
    values = site_dict() | {
        "profile": {"name": "lab", "jerk": 0.1},
        "limits": {"dq_max": [0.5] * 7},
    }
    site = load_site(write(tmp_path, values))
    for name in ("", *PROFILES):
        found = site.named_profile(name)
        assert found.jerk == 0.1 and found.tcp_speed == min(0.5, PROFILES[name or "lab"].tcp_speed)
    assert site.limits.dq_max.tolist() == [0.5] * 7 and site.limits.ddq_max is FR3.ddq_max
    free = load_site(write(tmp_path, site_dict()))
    assert free.named_profile("") == DESK and free.named_profile("lab") == LAB
    with pytest.raises(InputError, match="valid are desk, full, lab"):
        site.named_profile("fast")


def test_a_camera_on_the_hand_moves_with_it(tmp_path):
    values = site_dict()
    T = np.eye(4)
    T[:3, 3] = [0.05, 0.0, -0.06]
    values["cameras"]["wrist"] = {"prefix": "camera/wrist", "T_tcp_camera": T.tolist()}
    wrist = load_site(write(tmp_path, values)).cameras["wrist"]
    for q in (HOME_Q, HOME_Q + 0.1):
        np.testing.assert_allclose(wrist.pose_at(ArmState(1, q, np.zeros(7), 0.08)), fk(q) @ T)
    with pytest.raises(ValueError, match="no joint states"):
        wrist.pose_at(None)
    values["cameras"]["wrist"]["T_base_camera"] = T.tolist()
    with pytest.raises(InputError, match=r"cameras\.wrist: prefix and one of"):
        load_site(write(tmp_path, values))


def test_a_cameras_serial_number_is_kept_with_its_zeros(tmp_path):
    values = site_dict()
    values["cameras"]["front"]["serial"] = "048322070450"
    front = load_site(write(tmp_path, values)).cameras["front"]
    assert front.serial == "048322070450" == Camera.from_dict(front.to_dict()).serial
    assert load_site(write(tmp_path, values)).cameras["side"].serial == ""
    values["cameras"]["front"]["serial"] = 48322070450
    with pytest.raises(InputError, match=r"cameras\.front: serial must stand in quotes"):
        load_site(write(tmp_path, values))


@pytest.mark.parametrize(
    "text", ["172.16.0.2 use:=1", "${open('/etc/passwd').read()}", "a;reboot", "$(eval 1)", None]
)
def test_an_address_is_nothing_that_a_shell_or_xacro_would_expand(text):
    with pytest.raises(InputError, match="robot_ip: an address or a host name is wanted"):
        address("robot_ip", text)
    assert address("robot_ip", "fr3-lab.local") == "fr3-lab.local"


def test_python_objects_in_yaml_are_not_made(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("cameras: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match="cannot read"):
        load_site(path)


def test_the_example_loads_and_says_what_it_says():
    site = load_site(Path(__file__).parents[1] / "launch/site.example.yaml")
    assert set(site.cameras) == {"front", "wrist"} and site.cameras["wrist"].moving
    assert (
        site.robot_ip == "172.16.0.2"
        and site.profile.tcp_speed == 0.10
        and site.profile.jerk == DESK.jerk
    )
    sort = site.tasks["sort_screws"]
    assert sort.fields == {"box": ("left", "right"), "batch": ()}
    assert parse_tasks("tasks", {"sort_screws": sort.to_dict()}) == {"sort_screws": sort}
    assert set(sort.to_episode()) == {"instruction", "seconds", "rubric"}
    for camera in (site.cameras["front"], site.cameras["wrist"]):
        T = camera.pose_at(ArmState(1, np.array(site.home), np.zeros(7), 0.08))
        aim = T[:3, 3] - T[:3, 2] * T[2, 3] / T[2, 2]  # where its axis meets the table
        assert np.all(aim[:2] > [0.2, -0.3]) and np.all(aim[:2] < [0.8, 0.3]), aim


def test_a_process_without_cameras_gets_the_rest(tmp_path):
    assert motion_site("sim", "").cameras == {} and motion_site("sim", "").named_profile("") == DESK
    assert motion_site("fr3", str(write(tmp_path, site_dict()))).workspace.low == (0.3, -0.3, 0.01)


def test_mounts_are_the_cameras_places_in_words_a_shell_leaves_alone(tmp_path):
    values = site_dict()
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", [0.4, -0.9, 2.5]).as_matrix()
    values["cameras"]["wrist"] = {"prefix": "camera/on_hand", "T_tcp_camera": T.tolist()}
    site = load_site(write(tmp_path, values))
    for mount, camera in zip(xacro_mounts(site).split("; "), site.cameras.values(), strict=True):
        frame, parent, x, y, z, *angles = mount.split()
        assert parent == (
            "fr3_hand_tcp" if camera.moving else "fr3_link0"
        ) and camera.prefix.endswith(frame)
        np.testing.assert_allclose([float(x), float(y), float(z)], camera.T[:3, 3], atol=1e-8)
        back = Rotation.from_euler("xyz", [float(a) for a in angles]).as_matrix()
        np.testing.assert_allclose(back, camera.T[:3, :3], atol=1e-7)
    for prefix in ("other/front", 'camera/x"; reboot; "', "camera/${exit()}"):
        values["cameras"]["wrist"]["prefix"] = prefix
        with pytest.raises(InputError, match=r"cameras\.wrist.*names its frames"):
            xacro_mounts(load_site(write(tmp_path, values)))


def test_site_check_says_which_camera_misses_the_workspace(tmp_path, monkeypatch, capsys):
    from gwm.cli.main import main

    values = site_dict()
    file = write(tmp_path, values)
    monkeypatch.setattr("sys.argv", ["gwm", "site", "check", str(file)])
    assert main() == 0 and "misses the workspace" not in capsys.readouterr().out
    T = np.array(values["cameras"]["side"]["T_base_camera"])
    values["cameras"]["side"]["T_base_camera"] = np.linalg.inv(T).tolist()
    write(tmp_path, values)
    assert main() == 0
    assert (
        "cameras.side misses the workspace: 0% of" in (said := capsys.readouterr().out)
        and "inverted?" in said
    )


def test_what_a_site_file_says_twice_is_refused_not_the_wider_one_taken(tmp_path):
    path = write(tmp_path, site_dict() | {"profile": {"name": "desk", "tcp_speed": 0.05}})
    path.write_text(path.read_text() + "profile: {name: lab}\n")
    with pytest.raises(
        InputError, match=r"site file .*line \d+: 'profile' is there already, in line \d+"
    ):
        load_site(path)


def test_a_number_is_what_it_looks_like_and_a_camera_may_have_any_name(tmp_path):
    values = site_dict()
    path = write(tmp_path, values)
    path.write_text(
        path.read_text().replace("  front:", "  on:", 1) + "profile: {tcp_speed: 5e-2}\n"
    )
    site = load_site(path)
    assert site.profile.tcp_speed == 0.05 and set(site.cameras) == {"on", "side"}


def test_a_prefix_means_the_same_with_a_leading_slash(tmp_path):
    values = site_dict()
    values["cameras"]["front"]["prefix"] = "/camera/front"
    front = load_site(write(tmp_path, values)).cameras["front"]
    assert (
        front.prefix
        == "camera/front"
        == Camera.from_dict({**front.to_dict(), "prefix": "/camera/front"}).prefix
    )
