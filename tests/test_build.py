"""Scenes from recordings: sources, the point baseline, refinement, and the commands."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from gwm.cli.main import main
from scipy.spatial.transform import Rotation

from benchmarks.data.hostile_data import samples
from gwm_core.data.bag import ImageStream
from gwm_core.data.contact_sheet import sample_images
from gwm_core.data.episode import read_episode
from gwm_core.data.resampled_episode import write_resampled
from gwm_core.errors import InputError
from gwm_core.geometry.camera import look_at, pose_matrix
from gwm_core.scene.build import EVERYWHERE, compare, project_points, render_scene
from gwm_core.scene.frame_source import episode_frames, read_source
from gwm_core.scene.lift import lift
from gwm_core.scene.ply_io import load_scene
from gwm_core.scene.refine import refine
from gwm_core.sim.rollout import SimEnvironment
from gwm_core.sim.tasks import sample_layout
from gwm_core.types import Frame

# the last one is close
EYES = ((1.2, 0.0, 0.7), (0.5, -0.8, 0.6), (1.0, 0.5, 0.7), (0.75, -0.2, 0.35))


@pytest.fixture(scope="module")
def world(renderer):
    return SimEnvironment(renderer=renderer)


def frames_of(world, seed):
    world.sim.reset(sample_layout("pick_place", seed))
    frames = []
    for k, eye in enumerate(EYES):
        T = look_at(eye, (0.5, 0.0, 0.03))
        image = world.cameras.view(world.sim.snapshot(), T)
        frames.append(
            Frame(f"{k}", k + 1, image.color, image.depth_mm * np.float32(1e-3), world.cameras.K, T)
        )
    return tuple(frames)


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """The four views as a TUM RGB-D folder."""
    path = tmp_path_factory.mktemp("tum")
    (path / "rgb").mkdir(), (path / "depth").mkdir()
    associations, poses = ["# color depth"], ["# stamp tx ty tz qx qy qz qw"]
    for k, frame in enumerate(frames_of(world, 4001)):
        cv2.imwrite(str(path / f"rgb/{k}.png"), frame.color[..., ::-1])
        cv2.imwrite(str(path / f"depth/{k}.png"), np.rint(frame.depth * 1000).astype(np.uint16))
        associations.append(f"{k}.0 rgb/{k}.png {k}.01 depth/{k}.png")
        numbers = [
            *frame.T_base_camera[:3, 3],
            *Rotation.from_matrix(frame.T_base_camera[:3, :3]).as_quat(),
        ]
        poses.append(f"{k}.0 " + " ".join(f"{x:.9f}" for x in numbers))
    (path / "associations.txt").write_text("\n".join(associations) + "\n")
    (path / "groundtruth.txt").write_text("\n".join(poses) + "\n")
    K = world.cameras.K  # OpenCV puts pixel centres at whole numbers
    numbers = {
        "fx": K[0, 0],
        "fy": K[1, 1],
        "cx": K[0, 2] - 0.5,
        "cy": K[1, 2] - 0.5,
        "depth_scale": 1000,
    }
    (path / "intrinsics.json").write_text(json.dumps(numbers))
    return path


def test_a_tum_folder_holds_the_frames_that_were_written(world, folder):
    wanted, frames = frames_of(world, 4001), read_source(folder).frames
    assert len(frames) == 4
    for a, b in zip(wanted, frames):
        assert np.array_equal(a.color, b.color) and np.abs(a.depth - b.depth).max() < 1e-6
        np.testing.assert_allclose(a.T_base_camera, b.T_base_camera, atol=1e-7)
        np.testing.assert_allclose(a.K, b.K)


def test_a_scene_shows_an_unseen_camera_more_than_its_points_do(world):
    gains = []
    for seed in (4000, 4001, 4002):
        *used, held = frames_of(world, seed)
        report = compare(lift(tuple(used[:2]), EVERYWHERE), used[:2], held)
        gains.append(report.psnr_baseline_mask - report.baseline_psnr)
        assert report.coverage > 1.5 * report.baseline_coverage
    assert np.mean(gains) > 2.0  # docs/benchmarks.md has the measured figure


def test_the_baseline_is_the_nearest_point_of_each_pixel(world):
    frame = frames_of(world, 4000)[0]
    # onto itself: the image, wherever there is depth
    image, covered = project_points([frame], frame)
    assert np.array_equal(covered, frame.depth > 0)
    np.testing.assert_allclose(image[covered], frame.color[covered] / 255, atol=1e-6)


def halved(f):
    """Every other pixel in both directions."""
    K = np.diag([0.5, 0.5, 1]) @ f.K
    return Frame(
        f.camera, f.stamp, f.color[::2, ::2].copy(), f.depth[::2, ::2].copy(), K, f.T_base_camera
    )


def test_refinement_brings_the_scene_nearer_to_its_frames(world):
    frames = tuple(halved(frame) for frame in frames_of(world, 4002)[:3])
    scene = lift(frames, replace(EVERYWHERE, voxel=0.01))
    losses = []
    better = refine(scene, frames, 30, lambda _, loss: losses.append(loss))
    assert better.shape == scene.shape and np.isfinite(better).all()
    assert np.mean(losses[-3:]) < 0.95 * np.mean(losses[:3])
    before, after = (np.mean([compare(s, frames, f).psnr for f in frames]) for s in (scene, better))
    assert after > before + 0.2
    assert np.abs(better[:, :3] - scene[:, :3]).max() < 0.002  # depth measured the places


def test_build_and_render_from_the_command_line(folder, tmp_path, monkeypatch, capsys):
    out, figures, picture = tmp_path / "s.ply", tmp_path / "s.json", tmp_path / "s.png"
    words = [
        "scene",
        "build",
        str(folder),
        "--holdout",
        "3",
        "--refine",
        "2",
        "--out",
        str(out),
        "--json",
        str(figures),
    ]
    monkeypatch.setattr("sys.argv", ["gwm", *words, "--picture", str(picture)])
    assert main() == 0
    wanted = {
        "gaussians",
        "ms",
        "coverage",
        "psnr",
        "ssim",
        "psnr_baseline_mask",
        "before_refinement",
    }
    assert wanted <= set(values := json.loads(figures.read_text()))
    assert 0 < values["before_refinement"]["psnr"] != values["psnr"]
    scene = load_scene(out)
    assert len(scene) == values["gaussians"] and cv2.imread(str(picture)).shape == (240, 848, 3)
    view = tmp_path / "view.png"
    words = [
        "scene",
        "render",
        str(out),
        "--look",
        *["1.2", "0", "0.7", "0.5", "0", "0.03"],
        "--size",
        "424x240",
    ]
    monkeypatch.setattr("sys.argv", ["gwm", *words, "--fov", "42.5", "--out", str(view)])
    assert main() == 0
    seen = cv2.imread(str(view))[..., ::-1] / 255
    frame = read_source(folder).frames[0]
    image, alpha = render_scene(scene, frame.K, look_at((1.2, 0, 0.7), (0.5, 0, 0.03)), 424, 240)
    assert np.abs(seen - np.clip(image, 0, 1)).max() < 0.01 and alpha.mean() > 0.5


def spoil(folder, tmp_path, change):
    copy = tmp_path / "spoilt"
    shutil.copytree(folder, copy)
    change(copy)
    return copy


def intrinsics_with(**values):
    def change(path):
        known = json.loads((path / "intrinsics.json").read_text())
        (path / "intrinsics.json").write_text(json.dumps(known | values))

    return change


def depth_image(image):
    return lambda path: cv2.imwrite(str(path / "depth/1.png"), image)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (intrinsics_with(depth_scale=0.2), "its unit must be wrong"),
        (intrinsics_with(fx=0.0), "no focal length"),
        (intrinsics_with(fx=float("nan")), "no focal length"),
        (intrinsics_with(depth_scale="many"), "depth_scale is many"),
        (intrinsics_with(depth_scale=0), "depth_scale is 0"),
        (intrinsics_with(cx=None), "cx is None"),
        (lambda p: (p / "intrinsics.json").unlink(), "intrinsics.json: No such file"),
        (
            lambda p: (p / "associations.txt").write_text("0.0 rgb/0.png\n"),
            "stamp, colour, stamp and depth",
        ),
        (lambda p: (p / "rgb/2.png").write_bytes(b"nothing"), "rgb/2.png is no image"),
        (depth_image(np.zeros((240, 424), np.uint16)), "no usable depth"),
        (depth_image(np.ones((120, 212), np.uint16)), "differ"),
        (depth_image(np.ones((240, 424), np.uint8)), "not a uint16 image"),
        (lambda p: (p / "depth/1.png").write_bytes(b"nothing"), "not a uint16 image"),
        (lambda p: (p / "rgb/2.png").unlink(), "rgb/2.png is missing"),
        (lambda p: (p / "groundtruth.txt").write_text("0.0 1 2\n"), "eight numbers a line"),
        (lambda p: (p / "groundtruth.txt").write_text("9.0 0 0 0 0 0 0 1\n"), "within 20 ms"),
        (lambda p: pose_is("0 0 0 0 0 0 0")(p), "not a pose"),
        (
            lambda p: (p / "associations.txt").write_text("0.0 ../x.png 0.0 depth/0.png\n"),
            "outside the folder",
        ),
        (lambda p: (p / "associations.txt").write_text("# nothing\n"), "no frames"),
        (lambda p: (p / "groundtruth.txt").unlink(), "neither an episode"),
    ],
)
def test_a_damaged_source_is_one_line_that_names_the_damage(
    folder, tmp_path, monkeypatch, capsys, change, named
):
    path, out = spoil(folder, tmp_path, change), tmp_path / "out.ply"
    monkeypatch.setattr("sys.argv", ["gwm", "scene", "build", str(path), "--out", str(out)])
    assert main() == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1 and not out.exists()


def with_images(change):
    """Change every colour image, read as BGR."""

    def changed(path):
        for file in (path / "rgb").iterdir():
            cv2.imwrite(str(file), change(cv2.imread(str(file))))

    return changed


@pytest.mark.parametrize(
    "change, seen",
    [
        (lambda bgr: np.dstack([bgr, np.full(bgr.shape[:2], 255, np.uint8)]), lambda rgb: rgb),
        (lambda bgr: np.dstack([bgr, np.zeros(bgr.shape[:2], np.uint8)]), lambda rgb: rgb),
        (lambda bgr: bgr[..., 1], lambda rgb: np.repeat(rgb[..., 1:2], 3, -1)),
        (lambda bgr: bgr.astype(np.uint16) * 257, lambda rgb: rgb),
    ],
)
def test_colour_with_alpha_or_16_bit_and_grey_is_read(folder, tmp_path, change, seen):
    frames = read_source(spoil(folder, tmp_path, with_images(change))).frames
    for frame, plain in zip(frames, read_source(folder).frames, strict=True):
        np.testing.assert_array_equal(frame.color, seen(plain.color))


def without_a_line(name, number):
    def change(path):
        lines = (path / name).read_text().splitlines()
        del lines[number]
        (path / name).write_text("\n".join(lines) + "\n")

    return change


def pose_is(words):
    def change(path):
        lines = (path / "groundtruth.txt").read_text().splitlines()
        lines[2] = f"{lines[2].split()[0]} {words}"
        (path / "groundtruth.txt").write_text("\n".join(lines) + "\n")

    return change


@pytest.mark.parametrize(
    "change",
    [
        without_a_line("groundtruth.txt", 2),
        pose_is("nan nan nan nan nan nan nan"),
        pose_is("-inf" + " -inf" * 6),
    ],
)
def test_images_without_a_pose_are_left_out_and_counted(
    folder, tmp_path, monkeypatch, capsys, change
):
    """The standard sequences fr1_xyz and fr2_desk have some."""
    path = spoil(folder, tmp_path, change)
    source = read_source(path)
    assert source.skipped == 1 and [frame.stamp for frame in source.frames] == [
        0,
        2_000_000_000,
        3_000_000_000,
    ]
    monkeypatch.setattr(
        "sys.argv", ["gwm", "scene", "build", str(path), "--out", str(tmp_path / "s.ply")]
    )
    assert main() == 0 and "1 images have no depth or pose" in capsys.readouterr().out
    (path / "groundtruth.txt").write_text((path / "groundtruth.txt").read_text().splitlines()[-1])
    with pytest.raises(InputError, match="3 of 4 images have no depth or pose"):
        read_source(path)


def test_without_associations_the_lists_of_a_sequence_are_paired_by_stamp(folder, tmp_path):
    def apart(path):
        rows = [line.split() for line in (path / "associations.txt").read_text().splitlines()[1:]]
        (path / "associations.txt").unlink()
        (path / "rgb.txt").write_text(
            "\ufeff# color images\n" + "".join(f"{a} {c}\n" for a, c, _, _ in rows), "utf-8"
        )
        (path / "depth.txt").write_text("".join(f"{b} {d}\n" for _, _, b, d in reversed(rows)))

    def turned(path):  # as associate.py depth.txt rgb.txt writes it
        rows = [line.split() for line in (path / "associations.txt").read_text().splitlines()[1:]]
        (path / "associations.txt").write_text("".join(f"{b} {d} {a} {c}\n" for a, c, b, d in rows))

    for change in (apart, turned):
        frames = read_source(spoil(folder, tmp_path / change.__name__, change)).frames
        for frame, plain in zip(frames, read_source(folder).frames, strict=True):
            np.testing.assert_array_equal(frame.color, plain.color)
            np.testing.assert_array_equal(frame.depth, plain.depth)


def test_saturated_depth_is_no_reading(folder, tmp_path):
    def saturate(path):
        depth = cv2.imread(str(path / "depth/1.png"), cv2.IMREAD_UNCHANGED)
        depth[:20] = 65535
        cv2.imwrite(str(path / "depth/1.png"), depth)

    assert (read_source(spoil(folder, tmp_path, saturate)).frames[1].depth[:20] == 0).all()


def test_a_whole_sequence_that_does_not_fit_into_memory_is_refused_with_the_stride_that_does(
    folder, monkeypatch
):
    each = 240 * 424 * 63
    monkeypatch.setattr("gwm_core.scene.frame_source.LARGEST", 2 * each)
    with pytest.raises(InputError, match=r"4 frames of 424x240 .* --stride 2 "):
        read_source(folder)
    assert [frame.camera for frame in read_source(folder, 2).frames] == ["rgb/0.png", "rgb/2.png"]


def keep(episode, camera, kind, rows, later=0):
    """Only these images of a stream, as if the others were lost, with stamps ``later`` [ns]."""
    own = episode.images[camera, kind]
    places = [own._positions[k] for k in rows]
    episode.images[camera, kind] = ImageStream(
        own._bag, own._name, own._kind, own.stamps[rows] + later, places
    )


def test_an_episodes_colour_and_depth_are_of_one_moment(tmp_path):
    """The first colour image was lost: by position, the colour of one moment would be seen at the
    depth of another.
    """
    (table,) = samples(1, 6)
    episode = read_episode(write_resampled(table, tmp_path / "episode"))
    whole = dict(episode.images)
    for camera in episode.cameras:
        keep(episode, camera, "color", list(range(1, 6)))
    for frame in episode_frames(episode):
        (stamp, color), (_, depth) = (whole[frame.camera, kind][1] for kind in ("color", "depth"))
        assert frame.stamp == stamp
        np.testing.assert_array_equal(
            frame.depth, episode.frame(frame.camera, stamp, color, depth).depth
        )
    for camera in episode.cameras:
        keep(episode, camera, "depth", list(range(6)), 50_000_000)
    with pytest.raises(ValueError, match="same stamp"):
        episode_frames(episode)


def test_pictures_of_an_episode_are_even_in_time_whatever_became_of_its_depth(tmp_path):
    (table,) = samples(1, 8)
    episode = read_episode(write_resampled(table, tmp_path / "episode"))
    shown = [color for _, color in episode.images["front", "color"]]
    keep(episode, "front", "color", [0, 4, 5, 6, 7])
    keep(episode, "front", "depth", [0, 1])
    # 4 is nearest to the middle
    for picture, k in zip(sample_images(episode, "front", 3), (0, 4, 7), strict=True):
        rgb = cv2.imdecode(shown[k], cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(
            picture, cv2.resize(rgb, picture.shape[1::-1], interpolation=cv2.INTER_AREA)
        )
    keep(episode, "front", "color", [])
    with pytest.raises(InputError, match="no pictures of camera front"):
        sample_images(episode, "front", 3)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["build", "SOURCE", "--out", "s.obj"], ".ply or .safetensors"),
        (["build", "SOURCE", "--out", "s.ply", "--holdout", "4"], "frames 0 to 3"),
        (["build", "SOURCE", "--out", "s.ply", "--picture", "p.png"], "give both"),
        (["build", "SOURCE", "--out", "s.ply", "--refine", "-1"], "--refine"),
        (
            ["render", "none.ply", "--out", "v.png", "--look", "0", "0", "0", "1", "0", "0"],
            "cannot read",
        ),
        (
            ["render", "none.ply", "--out", "v.png", "--look", "0", "0", "0", "0", "0", "0"],
            "two different points",
        ),
        (["render", "none.ply", "--out", "v.png", "--pose", *"0000000"], "not a pose"),
        (
            ["render", "none.ply", "--out", "v.png", "--size", "big", "--pose", *"0001000"],
            "WIDTHxHEIGHT",
        ),
    ],
)
def test_wrong_arguments_are_one_line(folder, tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["gwm", "scene", *(str(folder) if w == "SOURCE" else w for w in words)]
    )
    assert main() == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_camera_can_look_straight_down():
    T = look_at((0.5, 0.0, 1.0), (0.5, 0.0, 0.0))
    np.testing.assert_allclose(T[:3, :3].T @ T[:3, :3], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(T[:3, 2], [0, 0, -1])
    np.testing.assert_allclose(
        pose_matrix([*T[:3, 3], *Rotation.from_matrix(T[:3, :3]).as_quat(scalar_first=True)]), T
    )
    with pytest.raises(InputError):
        look_at((0, 0, np.nan), (0, 0, 0))
