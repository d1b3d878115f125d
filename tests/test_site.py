import numpy as np
import pytest
import yaml

from gwm_core.control.kinematics import HOME_Q, fk
from gwm_core.errors import InputError
from gwm_core.site import Camera, load_site, simulation_site
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
        (lambda v: v.pop("cameras"), "valid keys are cameras"),
        (lambda v: v.update(colour="red"), "valid keys are cameras"),
        (lambda v: v["cameras"]["side"].pop("prefix"), "cameras.side"),
        (lambda v: v["workspace"].pop("low"), "workspace needs"),
    ],
)
def test_a_wrong_site_file_is_refused_with_the_key(tmp_path, change, named):
    values = site_dict()
    change(values)
    with pytest.raises(InputError, match=named):
        load_site(write(tmp_path, values))


def test_a_camera_on_the_hand_moves_with_it(tmp_path):
    values = site_dict()
    T = np.eye(4)
    T[:3, 3] = [0.05, 0.0, -0.06]
    values["cameras"]["wrist"] = {"prefix": "camera/wrist", "T_tcp_camera": T.tolist()}
    wrist = load_site(write(tmp_path, values)).cameras["wrist"]
    for q in (HOME_Q, HOME_Q + 0.1):
        np.testing.assert_allclose(wrist.place(ArmState(1, q, np.zeros(7), 0.08)), fk(q) @ T)
    with pytest.raises(ValueError, match="no joint states"):
        wrist.place(None)
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


def test_python_objects_in_yaml_are_not_made(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("cameras: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match="cannot read"):
        load_site(path)
