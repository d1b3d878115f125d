"""``gwm setup``: a site file from answers, by script and by page."""

import threading

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from gwm.tools.setup import setup as verb
from gwm.tools.setup.found_cameras import FoundCamera
from gwm.tools.setup.questions import Questions, ask_all
from gwm.tools.setup.setup_page import ask_on_page

from gwm_core.errors import InputError
from gwm_core.geometry.camera import intrinsics, look_at
from gwm_core.geometry.limits import Workspace
from gwm_core.geometry.plan_lines import project
from gwm_core.site import load_site
from gwm_core.site.site_draft import DEFAULTS, write_site
from gwm_core.site.workspace_view import draw_workspace

K = intrinsics(424, 240, 58.0)
GREY = np.full((240, 424, 3), 90, np.uint8)
FOUND = [
    FoundCamera("camera/front", "", GREY, K),
    FoundCamera("camera/camera2", "048322070450", GREY, K),
]
ANSWERS = [
    "panda",
    "172.16.0.2",
    "0.3 -0.3 0.02",
    "0.7, 0.3, 0.5",
    "",  # the first camera's name
    "base",
    "1.2 0.1 0.6",
    "0.5 0 0",
    "yes",
    "wrist",
    "hand",
    "default",
    "desk",
    "0.05",
]


def reader(answers):
    left = iter(answers)

    def read(prompt):
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return read


def test_a_site_file_from_answers_has_what_was_said_and_nothing_else(tmp_path):
    answers = ask_all(Questions(reader(ANSWERS)), FOUND, tmp_path / "pictures")
    file = tmp_path / "new/site.yaml"
    assert write_site(file, answers) is None
    site = load_site(file)
    assert (site.robot, site.robot_ip) == ("panda", "172.16.0.2")
    assert site.workspace == Workspace((0.3, -0.3, 0.02), (0.7, 0.3, 0.5))
    assert site.profile.tcp_speed == 0.05 and list(site.home) == DEFAULTS["home"]
    front, wrist = site.cameras["front"], site.cameras["wrist"]
    np.testing.assert_allclose(front.T, look_at((1.2, 0.1, 0.6), (0.5, 0, 0)), atol=1e-5)
    assert not front.moving and front.prefix == "camera/front" and front.serial == ""
    assert wrist.moving and wrist.serial == "048322070450"
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["camera_1.jpg", "camera_2.jpg", "front_workspace.jpg"]
    assert not list(file.parent.glob("*.partial"))


def test_a_wrong_answer_is_asked_again_and_a_missing_one_is_named(tmp_path, capsys):
    wrong = ["fr4", "fr3", "my robot", "-", "0.3 0.3", "0.3 -0.3 nan", "0.3 -0.3 0.02"]
    wrong += ["2 2 2", "0.7 0.3 0.5", "a/b/../../x", "front", "base", "1 0 1", "1 0 1", "0 0 0"]
    wrong += ["yes", "front"]
    with pytest.raises(InputError, match=r"no answer to 'its name.*--yes"):
        ask_all(Questions(reader(wrong)), FOUND, tmp_path)
    said = capsys.readouterr().out
    for words in (
        "unknown robot 'fr4': is fr3 meant?",
        "robot.ip",
        "three numbers are wanted, got '0.3 0.3'",
        "three numbers are wanted, got '0.3 -0.3 nan'",
        "workspace may only narrow",
        "a/b/../../x",
        "cannot look at",
        "another camera is called front",
    ):
        assert words in said, (words, said)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["camera_1.jpg", "camera_2.jpg", "front_workspace.jpg"]


def test_every_default_makes_a_valid_site(tmp_path):
    answers = ask_all(Questions(reader([]), defaults=True), FOUND, tmp_path)
    write_site(tmp_path / "site.yaml", answers)
    site = load_site(tmp_path / "site.yaml")
    assert set(site.cameras) == {"front", "side"} and site.robot_ip == ""
    three = [FoundCamera("x", str(number), GREY, K) for number in range(4)]
    answers = ask_all(Questions(reader([]), defaults=True), three, tmp_path)
    assert list(answers["cameras"]) == ["front", "side", "camera3", "camera4"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"robot": {"type": "fr3", "ip": "my robot"}}, "robot"),
        ({"robot": {"kind": "fr3"}}, "robot: unknown key 'kind'"),
        ({"cameras": {}}, "cameras: at least one"),
        ({"cameras": {"a b": {"prefix": "x", "eye": [1, 0, 1], "target": [0, 0, 0]}}}, "cameras"),
        ({"cameras": {"a": {"prefix": "x", "eye": [1, 0], "target": [0, 0, 0]}}}, "cameras.a.eye"),
        ({"cameras": {"a": {"prefix": "x", "eye": [1, 0, None], "target": [0, 0, 0]}}}, "None is"),
        ({"cameras": {"a": {"prefix": "x", "mount": "wall"}}}, "cameras.a.mount 'wall'"),
        ({"workspace": {"low": [0, 0, 0], "high": [2, 2, 2]}}, "workspace may only narrow"),
        ({"home": [0, 0, 0]}, "home: seven joint angles"),
        ({"home": "up"}, "home: 'up' is no number"),
        ({"profile": {"name": "desk", "tcp_speed": 9}}, "profile.tcp_speed"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"robot": {"type": "fr3", "ip": "1.2.3.4\nlimits: {}"}}, "robot.ip"),
    ],
)
def test_an_answer_that_has_no_place_in_a_site_is_named_and_nothing_is_written(
    tmp_path, change, named
):
    answers = DEFAULTS | {
        "cameras": {"front": {"prefix": "camera/front", "eye": [1, 0, 1], "target": [0.5, 0, 0]}}
    }
    write_site(tmp_path / "fine.yaml", answers)
    with pytest.raises(InputError) as error:
        write_site(tmp_path / "site.yaml", answers | change)
    assert named in str(error.value) and ".partial" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["fine.yaml"]


def test_an_existing_file_is_kept_unless_one_says_otherwise(tmp_path):
    answers = ask_all(Questions(reader([]), defaults=True), FOUND, tmp_path / "pictures")
    file = tmp_path / "site.yaml"
    file.write_text("mine")
    with pytest.raises(InputError, match="exists: --replace"):
        write_site(file, answers)
    assert file.read_text() == "mine"
    backup = write_site(file, answers, replace=True)
    assert backup.read_text() == "mine" and load_site(file)


def test_the_workspace_is_drawn_where_it_is():
    T = look_at((1.15, 0.0, 0.62), (0.5, 0.0, 0.05))
    box = Workspace((0.4, -0.1, 0.02), (0.6, 0.1, 0.2))
    drawn = draw_workspace(GREY, K, T, box)
    middle = np.array([[0.5, -0.1, 0.02], [0.6, 0.0, 0.2], [0.4, 0.1, 0.11]])  # of three edges
    for u, v in (project(middle, K, T, (424, 240)) * [424, 240]).astype(int):
        assert np.abs(drawn[v - 1 : v + 2, u - 1 : u + 2].astype(int) - 90).max() > 60
    assert (GREY == 90).all() and (drawn[:20] == 90).all()
    behind = look_at((0.5, 0.0, 0.1), (1.5, 0.0, 0.1))  # inside the box
    assert draw_workspace(GREY, K, behind, box).shape == GREY.shape


def test_the_verb_says_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verb, "find_cameras", lambda note: FOUND)
    file = tmp_path / "site.yaml"
    assert verb.run_setup(file, tmp_path / "pictures", page=False, yes=True, replace=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"next: gwm up robot:=fr3 site:={file} supervision:=shadow"
    assert f"next: gwm calibrate --camera front --mount base --site {file}" in lines
    monkeypatch.setattr(verb, "find_cameras", lambda note: [])
    with pytest.raises(InputError, match="no camera found"):
        verb.run_setup(tmp_path / "other.yaml", tmp_path, page=False, yes=True, replace=False)


def test_by_page(tmp_path, capfd):
    """In a real browser: the workspace follows the numbers, a mistake is named, a file is made."""
    pytest.importorskip("playwright.sync_api")
    from playwright.sync_api import sync_playwright
    from test_console_page import CHROMIUM

    if CHROMIUM is None:
        pytest.skip("no Chromium on the path")
    file = tmp_path / "site.yaml"
    thread = threading.Thread(target=ask_on_page, args=(file, FOUND, False), daemon=True)
    thread.start()
    url = ""
    for _ in range(100):
        url += capfd.readouterr().out
        if "\n" in url:
            break
        thread.join(0.1)
    url = url.removeprefix("open ").strip()
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        wrong = []
        page.on("pageerror", lambda e: wrong.append(str(e)))
        assert page.goto(url.partition("?")[0]).status == 401
        page.goto(url)
        assert "token" not in page.url
        page.wait_for_function("() => document.querySelector('.camera img').naturalWidth === 424")
        first = page.get_attribute(".camera img >> nth=0", "src")
        page.fill(".camera >> nth=0 >> input >> nth=2", "1.0 0.2 0.5")
        page.wait_for_function(
            "(src) => document.querySelector('.camera img').src !== src", arg=first
        )
        page.select_option(".camera >> nth=1 >> select", "hand")
        page.fill("#low", "0.3 -0.3")
        page.click("#write")
        page.wait_for_function("() => document.getElementById('said').className === 'bad'")
        assert "three metres" in page.inner_text("#said") and not file.exists()
        page.fill("#low", "0.3 -0.3 0.02")
        page.fill("#ip", "172.16.0.2")
        page.wait_for_timeout(500)
        page.click("#write")
        page.wait_for_function(
            "() => document.getElementById('said').textContent.includes('written')"
        )
        assert wrong == []
        browser.close()
    thread.join(10)
    assert not thread.is_alive()
    site = load_site(file)
    assert site.robot_ip == "172.16.0.2" and site.cameras["side"].moving
    np.testing.assert_allclose(site.cameras["front"].T[:3, 3], [1.0, 0.2, 0.5])
