"""The RealSense source against pyrealsense2's own software device. No camera was ever attached
here.
"""

import sys
import time

import numpy as np
import pytest
from gwm.doctor.machine import check_cameras
from gwm.hardware.realsense import DeviceGone, RealSense, connected, recording, sdk
from software_camera import CENTRE, FOCAL, HEIGHT, HZ, WIDTH, Bus, Film, SoftwareCamera, picture

from gwm_core.errors import InputError
from gwm_core.scene.stream_monitor import StreamConfig, StreamMonitor
from gwm_core.site import Camera, Site

rs = sdk()
CONFIG = StreamConfig(WIDTH, HEIGHT, HZ)


class Running:
    """A source that is open on a software camera fed by hand."""

    def __init__(self, camera, config=CONFIG, **options):
        self.camera, self.number = camera, 100
        self.source = RealSense(lambda: camera.device, config, **options)
        film = Film(camera)  # open() waits for a first pair
        self.source.open()
        film.stop()
        while self.source.wait() is not None:
            pass

    def shoot(self, depth=None, **how):
        color, noise = picture(np.random.default_rng(self.number))
        self.number += 1
        stamp = how.pop("stamp_ms", time.time() * 1e3)
        self.camera.push(self.number, color, noise if depth is None else depth, stamp, **how)
        return color, noise, stamp, self.source.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.source.close()


def test_a_pair_comes_through_bit_for_bit_with_its_number_stamp_and_camera():
    with Running(SoftwareCamera("1")) as running:
        color, depth, stamp, shot = running.shoot()
    np.testing.assert_array_equal(shot.color.content, color)
    np.testing.assert_array_equal(shot.depth.content, depth)
    assert (shot.color.encoding, shot.depth.encoding) == ("rgb8", "16UC1")
    assert shot.color.number == shot.depth.number == 101
    assert abs(shot.color.stamp - stamp * 1e6) < 1000
    np.testing.assert_array_equal(
        shot.K, [[FOCAL, 0, CENTRE[0] + 0.5], [0, FOCAL, CENTRE[1] + 0.5], [0, 0, 1]]
    )  # ours: pixel centres at + 0.5


def test_the_distortion_of_the_colour_camera_is_told():
    coeffs = (0.1, -0.2, 0.001, 0.002, 0.05)
    with Running(SoftwareCamera("1", coeffs=coeffs)) as running:
        *_, shot = running.shoot()
    np.testing.assert_allclose(shot.distortion, coeffs, rtol=1e-6)


def test_alignment_moves_pixels_by_focal_length_times_baseline_over_depth():
    """Depth from 50 mm right of the colour camera: 60 px * 0.05 m / 0.5 m = 6 px to the right in
    the colour image.
    """
    depth = np.zeros((HEIGHT, WIDTH), np.uint16)
    depth[10:20, 20:32] = 500
    with Running(SoftwareCamera("1", baseline=0.05)) as running:
        *_, shot = running.shoot(depth=depth)
    found = np.argwhere(shot.depth.content)
    assert found.min(0).tolist() == [10, 26] and found.max(0).tolist() == [19, 37]
    assert set(np.unique(shot.depth.content)) == {0, 500}


def test_depth_in_another_unit_arrives_in_millimetres():
    depth = np.full((HEIGHT, WIDTH), 4321, np.uint16)
    depth[0, 0] = 65530
    with Running(SoftwareCamera("1", units=0.0001)) as running:
        *_, shot = running.shoot(depth=depth)
    assert shot.depth.content[5, 5] == 432 and shot.depth.content[0, 0] == 6553


def test_the_stamp_is_the_middle_of_the_exposure_when_the_camera_tells():
    value = rs.frame_metadata_value
    times = {value.frame_timestamp: 9_000_000, value.sensor_timestamp: 8_992_500}  # [us]
    with Running(SoftwareCamera("1")) as running:
        _, _, stamp, shot = running.shoot(metadata=times)
    assert abs(shot.color.stamp - (stamp - 7.5) * 1e6) < 1000
    assert abs(shot.depth.stamp - (stamp - 7.5) * 1e6) < 1000


def test_a_hardware_clock_is_carried_over_to_the_hosts():
    with Running(SoftwareCamera("1")) as running:
        for k in range(10):
            before = time.time_ns()
            *_, shot = running.shoot(
                stamp_ms=5000 + 1000 * k / HZ, hardware=True, depth_late_ms=3.0
            )
            after = time.time_ns()
            time.sleep(max(0, 1 / HZ - (after - before) * 1e-9))
            assert shot.depth.stamp - shot.color.stamp == pytest.approx(3e6, abs=1000)
            if k == 0:
                assert before < shot.depth.stamp < after
    assert shot.depth.stamp < after and after - shot.depth.stamp < 1e9


def test_what_was_recorded_plays_back_bit_for_bit_and_a_recording_is_not_written_over(tmp_path):
    file = tmp_path / "front.db3"
    camera = SoftwareCamera("42")
    for count in (1, 9):
        with Running(camera, record=file) as running:
            shots = []
            for _ in range(count):
                # pairs found again by their stamps must not lie closer than the rate says
                time.sleep(1 / HZ)
                shots.append(running.shoot())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["front.db3", "front_1.db3"]
    source, monitor, found, begun = (
        RealSense(lambda: recording(tmp_path / "front_1.db3"), CONFIG),
        StreamMonitor(CONFIG),
        0,
        0,
    )
    source.open()
    begun = time.time_ns()
    with pytest.raises(DeviceGone, match="ended"):
        while True:
            shot = source.wait()
            if shot is None or shot.color.number <= 100:
                continue
            color, depth, _, _ = shots[shot.color.number - 101]
            np.testing.assert_array_equal(shot.color.content, color)
            np.testing.assert_array_equal(shot.depth.content, depth)
            assert monitor.check(shot.color, shot.depth, 0.0) == ()
            assert begun - 1e9 < shot.color.stamp < time.time_ns()  # now, not when it was recorded
            found += 1
    source.close()
    assert found >= 4  # the SDK loses the first few to the start


def test_what_cannot_be_opened_is_told_with_what_could():
    bus = Bus(SoftwareCamera("111"), SoftwareCamera("222"))
    with pytest.raises(
        DeviceGone,
        match=r"number 333 .*connected: 111 software camera USB 3\.2, 222 software camera",
    ):
        bus.find("333")
    source = RealSense(lambda: bus.find("222"), StreamConfig(848, 480, 30.0))
    with pytest.raises(
        DeviceGone, match=r"222 .* does not stream 848x480 at 30 Hz.*offers 64x48 at 15"
    ):
        source.open()
    with pytest.raises(
        DeviceGone, match=r"no RealSense with serial number 0 is connected; connected: none"
    ):
        connected("0", lambda: [])


def test_a_camera_that_gives_nothing_is_told_so(monkeypatch):
    monkeypatch.setattr("gwm.hardware.realsense.FIRST_FRAME", 0.2)
    source = RealSense(lambda: SoftwareCamera("1").device, CONFIG)
    with pytest.raises(DeviceGone, match=r"gave no pair in 0\.2 s"):
        source.open()
    source.close()


def test_the_doctor_names_what_is_there_what_is_missing_and_what_is_slow(monkeypatch):
    cameras = [SoftwareCamera("111"), SoftwareCamera("222", usb="2.1")]
    serials = {"front": "111", "side": "222", "wrist": "333", "other": ""}
    site = Site(
        {
            name: Camera(f"camera/{name}", np.eye(4), serial=serial)
            for name, serial in serials.items()
        }
    )
    monkeypatch.setattr(
        "gwm.hardware.realsense.devices", lambda: [camera.device for camera in cameras]
    )
    monkeypatch.setattr("gwm.doctor.machine.configured_site", lambda: site)
    sdk, *checks = check_cameras()
    assert "111 software camera USB 3.2, 222 software camera USB 2.1" in sdk.found
    assert {c.what: (c.level, bool(c.remedy)) for c in checks} == {
        "camera front": (0, False),
        "camera side": (1, True),
        "camera wrist": (1, True),
    }


def test_without_the_sdk_and_without_the_file_there_is_one_clear_line(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no recording"):
        recording(tmp_path / "front.db3")
    (tmp_path / "front.db3").write_bytes(b"no database")
    with pytest.raises(InputError, match="not a recording"):
        recording(tmp_path / "front.db3")
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(InputError, match=r"pyrealsense2 does not load .*libusb"):
        connected("1", lambda: [])
