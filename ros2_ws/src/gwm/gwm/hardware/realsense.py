"""RealSense cameras through pyrealsense2: a connected device, a recording, or one a caller finds.

The SDK's types stay in this file. The SDK is imported on first use, since a machine with
realsense-ros lacks it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gwm_core.errors import InputError
from gwm_core.geometry.camera import from_opencv
from gwm_core.scene.stream_monitor import CameraImage, DeviceClock, StreamConfig

FIRST_FRAME = 4.0  # [s] from start to the first pair; a camera on a bad cable never gives one
ENCODINGS = {"z16": "16UC1"}  # names of the SDK -> names of ROS
MILLIMETRE = 1e-3  # [m]
_IDENTITY = [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]  # rotation, translation


class DeviceGone(Exception):
    """The camera is absent or delivers nothing. It may come back."""


class AlignedPair(NamedTuple):
    """A colour image, depth aligned to it, and the parameters of the colour camera."""

    color: CameraImage
    depth: CameraImage  # [mm]
    K: np.ndarray  # (3, 3) in our convention
    distortion: tuple[float, ...]  # of CameraInfo's plumb_bob


def sdk():
    """Return the module pyrealsense2. Raises InputError when it does not load."""
    try:
        # The system's own library notices plugging and unplugging.
        if ctypes.util.find_library("usb-1.0") is None:
            import libusb_package

            ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
        import pyrealsense2
    except ImportError as error:
        raise InputError(
            f"pyrealsense2 does not load ({error}): pip install pyrealsense2 "
            "libusb-package, or use realsense-ros (docs/cameras.md)"
        ) from None
    return pyrealsense2


@cache
def _context():
    """Return the SDK's view of the USB bus. All cameras share one, as it starts threads."""
    return sdk().context()


def devices() -> list:
    """Return the connected devices."""
    return list(_context().query_devices())


def describe(device) -> str:
    """Return serial number, name and kind of USB port."""
    info = sdk().camera_info
    names = (info.serial_number, info.name, info.usb_type_descriptor)
    serial, name, usb = (device.get_info(i) if device.supports(i) else "" for i in names)
    return " ".join(filter(None, (serial, name, usb and f"USB {usb}")))


def connected(serial: str, among: Callable[[], Iterable] = devices):
    """Return the device with a serial number. Raises DeviceGone naming the connected ones."""
    there = list(among())
    number = sdk().camera_info.serial_number
    for device in there:
        if device.supports(number) and device.get_info(number) == serial:
            return device
    names = ", ".join(describe(device) for device in there) or "none"
    raise DeviceGone(f"no RealSense with serial number {serial} is connected; connected: {names}")


def recording(path: Path):
    """Return a recorded device, which plays when it is opened. Raises InputError without a file."""
    if not Path(path).is_file():
        raise InputError(f"no recording {path}")
    try:
        return sdk().context().load_device(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} is not a recording (.db3): {error}") from None


class RealSense:
    """One camera. A device that came back is opened again after ``close``.

    Args:
        find: returns the device, or raises DeviceGone.
        config: size and rate of colour and depth.
        record: file (.db3) to record to. An existing one is kept; the name gets a number.
    """

    def __init__(
        self, find: Callable[[], object], config: StreamConfig, record: Path | None = None
    ):
        self._find = find
        self._config = config
        self._record = record
        self._device = self._pipeline = None

    def open(self) -> None:
        """Start both streams and wait for the first pair. Raises DeviceGone with the reason."""
        rs, config = sdk(), self._config
        self._device = self._find()
        self._clock = DeviceClock()
        self._align = rs.align(rs.stream.color)  # None: nothing to align
        request = rs.config()
        request.enable_stream(
            rs.stream.color, config.width, config.height, rs.format.rgb8, round(config.hz)
        )
        request.enable_stream(
            rs.stream.depth, config.width, config.height, rs.format.z16, round(config.hz)
        )
        if self._record is not None:
            request.enable_record_to_file(str(_unused(self._record)))
        try:
            for sensor in self._device.query_sensors():
                # it hides a delay that varies: librealsense #8003
                if sensor.supports(rs.option.global_time_enabled):
                    sensor.set_option(rs.option.global_time_enabled, 0)
            pipeline = rs.pipeline()
            pipeline.set_device(self._device)
            streams = pipeline.start(request)
            self._pipeline = pipeline
            if _coincide(streams.get_stream(rs.stream.depth), streams.get_stream(rs.stream.color)):
                self._align = None
            arrived, _ = pipeline.try_wait_for_frames(round(FIRST_FRAME * 1000))
        except RuntimeError as error:
            raise DeviceGone(_why_not(self._device, config, error)) from None
        if not arrived:
            raise DeviceGone(
                f"{describe(self._device)} was started but gave no pair in {FIRST_FRAME:g} s: try"
                " another USB 3 port and cable, and see that no other process has it"
            )

    def wait(self) -> AlignedPair | None:
        """Return the next pair, or None when none came in time. Raises DeviceGone."""
        try:
            arrived, frames = self._pipeline.try_wait_for_frames(
                round(1000 * self._config.patience / self._config.hz)
            )
            arrival = time.monotonic_ns(), time.time_ns()
            if not arrived and self._has_ended():
                raise DeviceGone("the recording has ended")
            if not arrived and not self._device.is_connected():
                raise DeviceGone("it was unplugged")
            return self._pair(frames, arrival) if arrived else None
        except RuntimeError as error:  # the SDK's only kind; the device left during the call
            raise DeviceGone(str(error)) from None

    def close(self) -> None:
        """Stop streaming, and finish the recording."""
        pipeline, self._pipeline, self._device = self._pipeline, None, None
        if pipeline is not None:
            try:
                pipeline.stop()
            except RuntimeError:  # the device left and stopped by itself
                return

    def _has_ended(self) -> bool:
        stopped = sdk().playback_status.stopped
        return self._device.is_playback() and self._device.as_playback().current_status() == stopped

    def _pair(self, frames, arrival: tuple[int, int]) -> AlignedPair:
        color, depth = frames.get_color_frame(), frames.get_depth_frame()
        stamps = self._stamps((color, depth), arrival)
        if self._align is not None:
            depth = self._align.process(frames).get_depth_frame()
        pictures = [
            CameraImage(frame.get_frame_number(), stamp, _encoding(frame), content)
            for frame, stamp, content in zip(
                (color, depth), stamps, (np.array(color.get_data()), _millimetres(depth))
            )
        ]
        i = color.profile.as_video_stream_profile().get_intrinsics()
        K = from_opencv([[i.fx, 0, i.ppx], [0, i.fy, i.ppy], [0, 0, 1]])
        return AlignedPair(*pictures, K, tuple(i.coeffs))

    def _stamps(self, frames, arrival: tuple[int, int]) -> list[int]:
        """Return the host time [ns] at the middle of each exposure.

        Args:
            frames: of the pair.
            arrival: steady time and host time of their arrival [ns].
        """
        times = [_mid_exposure(frame) for frame in frames]
        hardware = sdk().timestamp_domain.hardware_clock
        if frames[0].get_frame_timestamp_domain() != hardware and not self._device.is_playback():
            return times
        newest = max(times)
        shift = self._clock(newest, *arrival) - newest
        return [t + shift for t in times]


def _coincide(depth, color) -> bool:
    """Return whether depth already lies on the colour camera's pixels.

    Then rs.align must not run. It rounds pixel corners that fall on corners: 4 % of random depths
    became wrong or missing (measured with pyrealsense2 2.59.1).
    """
    cameras = [stream.as_video_stream_profile().get_intrinsics() for stream in (depth, color)]
    d, c = ((i.width, i.height, i.fx, i.fy, i.ppx, i.ppy, *i.coeffs) for i in cameras)
    way = depth.get_extrinsics_to(color)
    return np.allclose(d, c, atol=1e-6) and np.allclose(
        [*way.rotation, *way.translation], _IDENTITY, atol=1e-6
    )


def _mid_exposure(frame) -> int:
    """Return the middle of a frame's exposure on its own clock [ns].

    The frame's stamp is that of the readout; the metadata tell the time in between.
    """
    value = sdk().frame_metadata_value
    stamp = round(frame.get_timestamp() * 1e6)
    if not all(
        frame.supports_frame_metadata(v) for v in (value.frame_timestamp, value.sensor_timestamp)
    ):
        # Without metadata half the exposure and the transfer stay in the measured offset.
        return stamp
    # [us]
    readout, middle = (
        frame.get_frame_metadata(v) for v in (value.frame_timestamp, value.sensor_timestamp)
    )
    return stamp - 1000 * (readout - middle)


def _encoding(frame) -> str:
    name = frame.profile.format().name
    return ENCODINGS.get(name, name)


def _millimetres(depth) -> np.ndarray:
    """Return a copy in millimetres. A D405 counts tenths, and the SDK reuses its buffers."""
    raw, scale = np.array(depth.get_data()), depth.get_units() / MILLIMETRE
    return (
        raw if abs(scale - 1) < 1e-3 else np.minimum(np.rint(raw * scale), 65535).astype(np.uint16)
    )


def _why_not(device, config: StreamConfig, error: RuntimeError) -> str:
    """Return why a device does not start: it lacks the streams, or another process has it."""
    request, offers = f"{config.width}x{config.height} at {config.hz:g}", _offers(device)
    if request in offers:
        return (
            f"{describe(device)} offers {request} Hz but does not start ({error}): does another"
            " process have it?"
        )
    return (
        f"{describe(device)} does not stream {request} Hz ({error}); it offers"
        f" {', '.join(offers) or 'nothing shared'}"
    )


def _offers(device) -> list[str]:
    """Return sizes and rates that colour and depth have in common."""
    rs = sdk()
    wanted = {rs.stream.color: rs.format.rgb8, rs.stream.depth: rs.format.z16}
    found: dict = {stream: set() for stream in wanted}
    for sensor in device.query_sensors():
        for profile in sensor.get_stream_profiles():
            if profile.format() == wanted.get(profile.stream_type()):
                video = profile.as_video_stream_profile()
                found[profile.stream_type()].add((video.width(), video.height(), video.fps()))
    common = sorted(set.intersection(*found.values()))
    return [f"{w}x{h} at {hz}" for w, h, hz in common]


def _unused(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        free = path.with_stem(f"{path.stem}_{number}")
        number += 1
    return free
