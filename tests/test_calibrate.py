"""Calibration on rendered boards (blur, noise) and the checks of a camera's place against known
errors.
"""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from boards import BOARD, HEIGHT, WIDTH, K, views, where
from gwm.cli.main import _parser
from gwm.tools.calibrate import run_calibrate
from PIL import Image

from gwm_core.calibration.board_views import find_board
from gwm_core.calibration.charuco import Board, board_pose, print_board, project
from gwm_core.calibration.hand_eye import calibrate
from gwm_core.calibration.intrinsics import check_intrinsics
from gwm_core.calibration.pose_check import check_board
from gwm_core.calibration.site_writer import write_camera
from gwm_core.calibration.views import INDEX, CalibrationView, add_view, at_rest, read_views
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, fk, solve, to_rows
from gwm_core.geometry.transforms import pose_difference, small_transform
from gwm_core.site import Camera, load_site, simulation_site
from gwm_core.sync import MS, Sync
from gwm_core.types import ArmState

GOOD, TURNED, SHIFTED = (0.3, 3.0), (2.0, 0.0), (0.0, 15.0)  # [degrees], [mm]


def unit(rng):
    v = rng.normal(size=3)
    return v / np.linalg.norm(v)


def off(T, size, rng):
    """``T`` turned and shifted by so much, in random directions."""
    return T @ small_transform(np.r_[np.deg2rad(size[0]) * unit(rng), size[1] / 1000 * unit(rng)])


@pytest.fixture(scope="module", params=[False, True], ids=["base", "hand"])
def case(request):
    moving = request.param
    X, Z, taken = views(moving, 3)
    seen = find_board(taken, K, BOARD)
    return SimpleNamespace(
        moving=moving, X=X, Z=Z, views=taken, seen=seen, found=calibrate(seen, K, moving)
    )


def test_corners_and_pose_of_one_view_are_unbiased():
    """Half a pixel of wrong convention would be 0.5 px here."""
    X, Z, taken = views(True, 0, count=6)
    errors = []
    for view in taken:
        T, corners = where(X, Z, view.q, True), BOARD.detect(view.color)
        assert len(corners.points) == 24
        errors.append(corners.pixels - project(corners.points, T, K))
        mm, deg = pose_difference(board_pose(corners, K), T)
        assert mm < 1.5 and deg < 0.3
    assert np.abs(np.mean(np.concatenate(errors), axis=0)).max() < 0.05


@pytest.mark.parametrize("moving", [False, True], ids=["base", "hand"])
@pytest.mark.parametrize("seed", range(3))
def test_calibration_reaches_a_millimetre_and_a_tenth_of_a_degree(moving, seed):
    X, Z, taken = views(moving, seed)
    seen = find_board(taken, K, BOARD)
    found = calibrate(seen, K, moving)
    for truth, T in ((X, found.T), (Z, found.T_board)):
        mm, deg = pose_difference(truth, T)
        assert mm <= 1.0 and deg <= 0.1
    assert found.residuals[0] < 0.5 and found.spread[0] < 1.0 and abs(found.scale - 1) < 2e-3
    assert not check_intrinsics(seen, K).warning


@pytest.mark.parametrize("moved", [0.001, 0.004])
def test_a_view_in_which_the_arm_was_elsewhere_is_named_and_a_little_is_borne(case, moved):
    wrong = list(case.seen)
    wrong[4] = wrong[4]._replace(
        view=CalibrationView("moved.png", wrong[4].view.color, wrong[4].view.q + moved)
    )
    if moved == 0.004:
        with pytest.raises(InputError, match=r"disagree by .* most in moved.png"):
            calibrate(wrong, K, case.moving)
        return
    found = calibrate(wrong, K, case.moving)
    mm, deg = pose_difference(case.X, found.T)
    assert mm < 1.0 and deg < 0.1 and np.argmax(found.per_view[:, 0]) == 4


def test_degenerate_motion_is_refused():
    """Turning about the flange alone leaves the mount undetermined."""
    around = views(True, 0, count=1)[2][0].q
    _, _, taken = views(True, 0, count=10, around=around, turn=np.array([0, 0, 0, 0, 0, 0, 0.4]))
    with pytest.raises(InputError, match=r"second axis.*roll, pitch and yaw"):
        calibrate(find_board(taken, K, BOARD), K, True)


def test_too_few_views_are_refused(case):
    with pytest.raises(InputError, match="seen in 7 of 7 views, 8 are wanted"):
        find_board(case.views[:7], K, BOARD)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("5x7:0.04:0.03:DICT_4X4_50", "as on a board of 7x5: --board 7x5:0.04:0.03:DICT_4X4_50"),
        ("8x6:0.04:0.03:DICT_4X4_50", "17 markers are found, as on a board of 7x5"),
        ("7x5:0.04:0.03:DICT_5X5_50", "no marker of DICT_5X5_50 is found: another dictionary"),
    ],
)
def test_another_board_is_not_seen_and_the_one_that_is_there_is_named(case, spec, said):
    with pytest.raises(InputError, match=rf"seen in 0 of 18 views.*{said}"):
        find_board(case.views, K, Board.parse(spec))


@pytest.mark.parametrize("spec", ["8x6:0.035:0.024:DICT_4X4_50", "5x4:0.04:0.03:DICT_5X5_1000"])
def test_a_board_of_the_older_pattern_is_found_and_calibrates(spec):
    """OpenCV before 4.6 and calib.io begin with a marker where later versions begin with a black
    square.
    """
    printed = Board.parse(spec)
    printed._opencv.setLegacyPattern(True)
    X, _, taken = views(True, 3, count=10, board=printed)
    seen = find_board(taken, K, Board.parse(spec))
    mm, deg = pose_difference(X, calibrate(seen, K, True).T)
    assert len(seen) == 10 and mm < 1.0 and deg < 0.1


def test_views_of_few_postures_are_not_many(case):
    """Their errors are shared: 12 views of 3 postures were called certain to 0.08 mm and 1 mm
    off.
    """
    rng = np.random.default_rng(0)
    again = [case.seen[k % 3] for k in range(12)]
    again = [
        s._replace(
            view=CalibrationView(s.view.name, s.view.color, s.view.q + rng.uniform(-1e-3, 1e-3, 7))
        )
        for s in again
    ]
    with pytest.raises(InputError, match="12 views of 3 postures: 8 different ones"):
        calibrate(again, K, case.moving)


def test_a_view_taken_again_and_again_makes_nothing_more_certain(case):
    alone = case.found.spread[0]
    often = calibrate([*case.seen, *case.seen, *case.seen], K, case.moving).spread[0]
    assert often == pytest.approx(alone, rel=0.15)


def test_joints_in_a_wrong_order_are_not_blamed_on_the_board(case):
    order = [0, 2, 1, 3, 4, 5, 6]
    wrong = [
        s._replace(view=CalibrationView(s.view.name, s.view.color, s.view.q[order]))
        for s in case.seen
    ]
    with pytest.raises(
        InputError, match=r"no pose of camera and board explains the views.*joints.*order"
    ):
        calibrate(wrong, K, case.moving)


def test_a_matrix_of_another_resolution_is_named(case):
    with pytest.raises(InputError, match="centre at 480, 360, the images have 640x480 pixels"):
        find_board(case.views, K * np.array([[1.5], [1.5], [1]]), BOARD)


def test_images_that_are_too_small_are_named(case):
    small = [
        CalibrationView(v.name, cv2.resize(v.color, (212, 159), interpolation=cv2.INTER_AREA), v.q)
        for v in case.views
    ]
    with pytest.raises(InputError, match=r"markers are . pixels wide"):
        find_board(small, np.diag([212 / 640, 159 / 480, 1]) @ K, BOARD)


def bent(image, lens):
    """The image (HEIGHT, WIDTH, 3) as a distorting lens would show it."""
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    whole = K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    at = cv2.undistortPoints(
        np.stack([u.ravel(), v.ravel()], -1)[:, None], whole, np.array(lens), P=whole
    )[:, 0]
    at = at.reshape(HEIGHT, WIDTH, 2)
    return cv2.remap(
        image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


@pytest.mark.parametrize(
    "lens", [[-0.0565, 0.0682, 0.0004, 0.0007, -0.0218], [0.08, -0.18, 0.0, 0.0, 0.0]]
)
def test_a_distorted_image_is_called_distorted(case, lens):
    """A RealSense D455's colour camera, and a web camera's."""
    seen = find_board(
        [CalibrationView(v.name, bent(v.color, lens), v.q) for v in case.views], K, BOARD
    )
    assert "images are distorted" in check_intrinsics(seen, K).warning


@pytest.mark.parametrize(
    ("spec", "said"),
    [("7x5:0.03:0.0225:DICT_4X4_50", r"\+33"), ("7x5:0.0404:0.0303:DICT_4X4_50", r"-(0\.9|1\.0)")],
)
def test_a_board_printed_in_another_size_is_refused_with_its_size(case, spec, said):
    with pytest.raises(InputError, match=rf"seem to be {said}.* % off"):
        calibrate(find_board(case.views, K, Board.parse(spec)), K, case.moving)


def test_the_wrong_mount_is_refused(case):
    with pytest.raises(
        InputError, match=r"no pose of camera and board explains.*--mount|disagree.*--mount"
    ):
        calibrate(case.seen, K, not case.moving)


def test_intrinsics_of_another_resolution_are_warned_of(case):
    wrong = K * np.array([[1.06], [1.06], [1]])
    assert "differ" in check_intrinsics(find_board(case.views, wrong, BOARD), wrong).warning


@pytest.mark.parametrize(
    "text",
    [
        "7x5",
        "7x5:0.04:0.03:DICT_9X9",
        "7x5:0.03:0.04:DICT_4X4_50",
        "2x5:0.04:0.03:DICT_4X4_50",
        "20x20:0.01:0.006:DICT_4X4_50",
        "7x5:nan:0.03:DICT_4X4_50",
        "7x5:0.04:0.03:CORNER_REFINE_NONE",
    ],
)
def test_boards_that_cannot_be_are_refused(text):
    with pytest.raises(InputError, match="board"):
        Board.parse(text)


def test_the_printed_board_has_true_scale_and_can_be_found(tmp_path):
    print_board(BOARD, tmp_path / "board.png")
    page = Image.open(tmp_path / "board.png")
    assert np.allclose(page.info["dpi"], 300, atol=0.1)
    corners = BOARD.detect(np.repeat(np.array(page)[..., None], 3, axis=2))
    span = np.ptp(corners.pixels, axis=0) / np.array(page.info["dpi"]) * 25.4  # [mm]
    np.testing.assert_allclose(span, [5 * 40, 3 * 40], atol=0.2)
    with pytest.raises(InputError, match="larger than A4"):
        print_board(Board(9, 6), tmp_path / "large.png")


# the checks


def board_verdicts(case, size, count, seed=0):
    """True or False for each view that can judge; None for one that cannot."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        view = case.views[k % len(case.views)]
        place = case.Z if case.moving else fk(view.q) @ case.Z
        truth = fk(view.q) @ case.X if case.moving else case.X
        try:
            yield check_board(view, K, BOARD, place, off(truth, size, rng)).accepted
        except InputError:
            yield None


@pytest.mark.parametrize(
    ("size", "accepted"), [(GOOD, True), (TURNED, False), (SHIFTED, False), ((5.0, 30.0), False)]
)
def test_the_check_by_a_board(case, size, accepted):
    verdicts = list(board_verdicts(case, size, 72))
    assert (not accepted) not in verdicts and verdicts.count(accepted) >= 50


def body_views(simulator, rig, seed, count):
    """What each fixed camera sees of arms over the table; (view, T_base_camera)."""
    from gwm_core.sim.tasks import sample_layout

    rng = np.random.default_rng(seed)
    for k in range(count):
        simulator.reset(sample_layout("pick_place", k))
        T = fk(HOME_Q)
        T[:3, 3] = rng.uniform([0.40, -0.20, 0.15], [0.60, 0.20, 0.35])
        T[:3, :3] = T[:3, :3] @ small_transform(np.r_[rng.uniform(-0.3, 0.3, 3), 0, 0, 0])[:3, :3]
        simulator.teleport(solve(to_rows(T[None], 0.08), HOME_Q)[0])
        for image in rig(simulator.snapshot()):
            depth = image.depth_mm * np.float32(1e-3)
            yield (
                CalibrationView("v", image.color, simulator.q, depth, simulator.width),
                rig.T_base_camera[image.camera],
            )


@pytest.fixture(scope="module")
def rig(renderer):
    from gwm_core.sim.cameras import SimCameras

    rig = SimCameras(renderer=renderer)
    yield rig
    rig.close()


@pytest.fixture(scope="module")
def over_the_table(simulator, rig):
    return list(body_views(simulator, rig, 11, 32))


def body_verdicts(views, rig, size, seed):
    """As ``board_verdicts``, of pairs from ``body_views``; ``size`` makes an error from a
    generator.
    """
    from gwm_core.calibration.check_by_arm import check_body

    rng = np.random.default_rng(seed)
    for view, truth in views:
        try:
            yield check_body(view, rig.K, off(truth, size(rng), rng)).accepted
        except InputError:
            yield None


@pytest.mark.parametrize(("size", "accepted"), [(GOOD, True), (TURNED, False), (SHIFTED, False)])
def test_the_check_by_the_arms_body(simulator, rig, size, accepted):
    verdicts = list(body_verdicts(body_views(simulator, rig, 10, 2), rig, lambda _: size, 10))
    assert (not accepted) not in verdicts and verdicts.count(accepted) >= 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "accepted"),
    [
        (lambda rng: (GOOD, rng.uniform(0, GOOD))[rng.integers(2)], True),
        (lambda rng: (TURNED, SHIFTED, rng.uniform((2, 0), (6, 40)))[rng.integers(3)], False),
    ],
)
def test_fifty_good_places_are_accepted_and_fifty_bad_ones_refused_by_the_body(
    over_the_table, rig, size, accepted
):
    verdicts = list(body_verdicts(over_the_table, rig, size, 11))
    assert (not accepted) not in verdicts and verdicts.count(accepted) >= (50 if accepted else 40)


@pytest.mark.long
@pytest.mark.slow
def test_no_place_that_is_far_off_is_ever_accepted_by_the_body(over_the_table, rig):
    far = lambda rng: (rng.uniform(2, 40), rng.uniform(15, 500))  # noqa: E731
    assert True not in list(body_verdicts(over_the_table, rig, far, 12))


def test_a_view_that_shows_too_little_of_the_arm_is_not_judged(simulator, rig):
    from gwm_core.calibration.check_by_arm import check_body
    from gwm_core.sim.tasks import sample_layout

    simulator.reset(sample_layout("pick_place", 0))
    simulator.teleport(HOME_Q)
    front = rig(simulator.snapshot())[0]  # sees the foot of the arm alone
    view = CalibrationView("v", front.color, simulator.q, front.depth_mm * np.float32(1e-3))
    with pytest.raises(InputError, match=r"cannot judge.*bring the hand"):
        check_body(view, rig.K, rig.T_base_camera["front"])
    with pytest.raises(InputError, match="no depth"):
        check_body(
            CalibrationView("v", front.color, simulator.q), rig.K, rig.T_base_camera["front"]
        )


def test_an_arm_that_moved_just_before_the_image_is_not_at_rest():
    for moves, rest in ((0.0, True), (0.002, False)):
        sync = Sync(("a",))
        for t in range(0, 1000, 10):
            sync.joints(ArmState(t * MS, HOME_Q + (moves if t > 700 else 0.0), np.zeros(7), 0.08))
        assert at_rest(sync, 900 * MS) is rest
    assert at_rest(sync, 100 * MS) is None


# files


def run(*words):
    return run_calibrate(_parser().parse_args(["calibrate", *words]))


@pytest.fixture
def folder(tmp_path, case):
    fit = [s for s in case.seen if len(s.corners.points) == 24]
    # the most slanted, which can judge, first
    for s in sorted(fit, key=lambda s: s.T_camera_board[2, 2])[:10]:
        add_view(tmp_path / "views", K, s.view)
    return tmp_path / "views"


SITE = """# our lab
cameras:
  front:  # the good one
    prefix: camera/front
    serial: '0123'
    T_base_camera: [[1, 0, 0, 0.1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
workspace: {low: [0.3, -0.3, 0.01], high: [0.7, 0.3, 0.5]}
"""


def test_the_verb_writes_place_and_residuals_into_the_site_file_and_the_check_accepts_it(
    folder, case, tmp_path, capsys
):
    site, words = (
        tmp_path / "site.yaml",
        ("--camera", "front", "--site", str(tmp_path / "site.yaml"), "--views", str(folder)),
    )
    site.write_text(SITE)
    assert (
        run(
            *words,
            "--mount",
            "hand" if case.moving else "base",
            "--json",
            str(tmp_path / "out.json"),
        )
        == 0
    )
    text = site.read_text()
    assert "# our lab" in text and "# the good one" in text and "serial: '0123'" in text
    camera = load_site(site).cameras["front"]
    mm, deg = pose_difference(case.X, camera.T)
    assert (
        mm < 1.0
        and deg < 0.1
        and camera.moving == case.moving
        and load_site(site).workspace.low == (0.3, -0.3, 0.01)
    )
    figures = json.loads((tmp_path / "out.json").read_text())
    assert camera.calibrated.items() <= figures.items() and camera.calibrated["views"] == 10
    assert (
        Camera.from_dict(json.loads(json.dumps(camera.to_dict()))).calibrated == camera.calibrated
    )
    (backup,) = tmp_path.glob("site.yaml.bak-*")
    assert backup.read_text() == SITE and (folder / "calibration.png").stat().st_size > 10_000
    assert run(*words, "--check", "--board-pose", "stored") == 0
    write_camera(
        site,
        "front",
        Camera(
            "camera/front",
            off(camera.T, TURNED, np.random.default_rng(0)),
            case.moving,
            calibrated=camera.calibrated,
        ),
        "later",
    )
    assert run(*words, "--check", "--board-pose", "stored") == 1
    assert "REFUSED" in capsys.readouterr().out


def test_a_site_file_is_made_where_there_is_none_and_never_in_an_installed_package(
    folder, case, tmp_path, monkeypatch
):
    words = "--camera", "new", "--mount", "hand" if case.moving else "base", "--views", str(folder)
    assert run(*words, "--site", str(tmp_path / "lab" / "site.yaml"), "--prefix", "cam/x") == 0
    assert load_site(tmp_path / "lab" / "site.yaml").cameras["new"].prefix == "cam/x"
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "install"))
    for place in (
        tmp_path / "install/share/gwm/site.yaml",
        tmp_path / "lib/site-packages/gwm/site.yaml",
    ):
        with pytest.raises(InputError, match="installed package"):
            run(*words, "--site", str(place))
        assert not place.exists()


def test_a_site_file_that_would_not_load_is_left_as_it_was(tmp_path):
    path = tmp_path / "site.yaml"
    for text in (
        "cameras: [1, 2]\n",
        "cameras: {a: 3}\n",
        "a: {b\n",
        "cameras: {front: {prefix: x}}\nextra: 1\n",
        "cameras: {}\ncameras: {}\n",
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=r"^[^\n]*$"):
            write_camera(path, "a", simulation_site().cameras["front"], "now")
        assert path.read_text() == text and [p.name for p in tmp_path.iterdir()] == ["site.yaml"]


def change(folder, edit):
    index = json.loads((folder / INDEX).read_text())
    edit(index)
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda i: i["views"][1].update(q=[0.0] * 6), "view 1.*seven finite joints"),
        (lambda i: i["views"][1].update(q=[float("nan")] * 7), "view 1.*seven finite joints"),
        (lambda i: i["views"][1].update(q="x"), "view 1"),
        (lambda i: i["views"][1].update(color="../out.png"), "outside the folder"),
        (lambda i: i["views"][1].update(color="none.png"), "none.png is missing"),
        (lambda i: i["views"][1].update(depth="00.png"), "00.png is not a uint16 image"),
        (lambda i: i["views"][1].update(width=3.0), "width of 0-0.08"),
        (lambda i: i["views"][1].pop("color"), "view 1 has no 'color'"),
        (lambda i: i["views"].__setitem__(1, 5), "view 1"),
        (lambda i: i["views"].clear(), "lists no views"),
        (lambda i: i.pop("K"), "views.json has no 'K'"),
        (lambda i: i.update(K=[1, 2, 3]), "views.json"),
        (lambda i: i.update(K=[[0, 0, 0]] * 3), "no focal length"),
        (lambda i: i.update(K=[[float("nan")] * 3] * 3), "no focal length"),
    ],
)
def test_damaged_views_are_one_clear_line(tmp_path, edit, named):
    for k in range(2):
        add_view(
            tmp_path / "v",
            K,
            CalibrationView(f"{k:02d}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8), HOME_Q),
        )
    change(tmp_path / "v", edit)
    with pytest.raises(InputError, match=named) as error:
        read_views(tmp_path / "v")
    assert "\n" not in str(error.value)


def test_views_come_back_as_they_were_saved(tmp_path):
    rng = np.random.default_rng(0)
    color, depth = (
        rng.integers(0, 255, (48, 64, 3), np.uint8),
        rng.integers(0, 3000, (48, 64)) * np.float32(1e-3),
    )
    add_view(tmp_path, K, CalibrationView("00.png", color, HOME_Q, depth, 0.04))
    matrix, (view,) = read_views(tmp_path)
    np.testing.assert_array_equal(view.color, color)
    np.testing.assert_allclose(view.depth, depth, atol=1e-6)
    assert view.width == 0.04 and np.array_equal(view.q, HOME_Q) and np.array_equal(matrix, K)
    add_view(tmp_path, K, CalibrationView("01.png", color[:40], HOME_Q))
    with pytest.raises(InputError, match="another size"):
        read_views(tmp_path)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--camera NAME is wanted"),
        (["--camera", "a"], "valid are base, hand"),
        (["--camera", "a", "--mount", "roof"], "valid are base, hand"),
        (["--camera", "a", "--mount", "base", "--views", "/nowhere"], "cannot read"),
        (["--camera", "a", "--mount", "base", "--board-pose", "stored"], "--check"),
        (["--camera", "a", "--check", "--site", "/nowhere"], "cannot read site file"),
        (
            ["--camera", "a", "--board", "7x5:40:30:DICT_4X4_50"],
            "in metres: 7x5:0.04:0.03:DICT_4X4_50",
        ),
        (["--camera", "a", "--board", "7x5:0.04:0.03:4X4_50"], "valid are .*DICT_4X4_50"),
        (["--print-board", "/nowhere/b.png"], "cannot write"),
        (["--print-board", "b.pdf"], ".png"),
    ],
)
def test_bad_words_are_refused(words, named, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=named):
        run(*words)


def test_board_poses(folder, case, tmp_path):
    site = tmp_path / "s.yaml"
    truth = case.X if not case.moving else simulation_site().cameras["front"].T
    site.write_text(
        yaml.safe_dump({"cameras": {"front": Camera("x", truth, case.moving).to_dict()}})
    )
    words = "--check", "--camera", "front", "--site", str(site), "--views", str(folder)
    for pose, named in (
        ("stored", "no calibration with a board"),
        ("1,2,3", "neither"),
        ("a,b,c,d,e,f", "neither"),
        ("nan,0,0,0,0,0", "neither"),
    ):
        with pytest.raises(InputError, match=named):
            run(*words, "--board-pose", pose)
    if case.moving:
        with pytest.raises(InputError, match="does not see the arm"):
            run(*words)
    else:
        from scipy.spatial.transform import Rotation

        q = read_views(folder)[1][0].q
        T = fk(q) @ case.Z
        angles = Rotation.from_matrix(T[:3, :3]).as_euler("xyz", degrees=True)
        assert (
            run(*words, "--board-pose=" + ",".join(f"{x:.6f}" for x in (*T[:3, 3], *angles))) == 0
        )
