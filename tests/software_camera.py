"""A RealSense made of software: pyrealsense2's own software_device, driven frame by frame."""

import threading
import time

import numpy as np
from gwm.hardware.realsense import connected, sdk

rs = sdk()
WIDTH, HEIGHT, HZ = 64, 48, 15
FOCAL, CENTRE = 60.0, (31.25, 23.75)  # [pixels], as librealsense counts them


def intrinsics(coeffs=(0.0,) * 5):
    i = rs.intrinsics()
    i.width, i.height, i.fx, i.fy, i.ppx, i.ppy = WIDTH, HEIGHT, FOCAL, FOCAL, *CENTRE
    i.model, i.coeffs = rs.distortion.inverse_brown_conrady, list(coeffs)
    return i


class SoftwareCamera:
    """Colour and depth sensors of one size; ``baseline`` [m] is how far right of the colour camera
    depth looks from.
    """

    def __init__(self, serial, units=0.001, baseline=0.0, coeffs=(0.0,) * 5, usb="3.2"):
        self.serial, self._units, self._kept, self._streams = serial, units, [], {}
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, serial)
        self.device.register_info(rs.camera_info.name, "software camera")
        self.device.register_info(rs.camera_info.usb_type_descriptor, usb)
        kinds = (
            ("depth", rs.stream.depth, rs.format.z16, 2),
            ("color", rs.stream.color, rs.format.rgb8, 3),
        )
        for uid, (name, stream, fmt, bpp) in enumerate(kinds, start=1):
            sensor, video = self.device.add_sensor(name), rs.video_stream()
            video.type, video.index, video.uid, video.fmt, video.bpp = stream, 0, uid, fmt, bpp
            video.width, video.height, video.fps = WIDTH, HEIGHT, HZ
            video.intrinsics = intrinsics(coeffs if name == "color" else (0.0,) * 5)
            self._streams[name] = sensor, sensor.add_video_stream(video), bpp
        self._streams["depth"][0].add_read_only_option(rs.option.depth_units, units)
        way = rs.extrinsics()
        way.rotation, way.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [baseline, 0, 0]
        self._streams["depth"][1].register_extrinsics_to(self._streams["color"][1], way)
        self.device.create_matcher(rs.matchers.default)

    def push(
        self, number, color, depth, stamp_ms, depth_late_ms=0.0, hardware=False, metadata=None
    ):
        """One pair. Stamps near the wall clock, by which the SDK pairs. It does not copy pixels, so
        we keep them.
        """
        domain = rs.timestamp_domain.hardware_clock if hardware else rs.timestamp_domain.system_time
        for name, content, late in (("depth", depth, depth_late_ms), ("color", color, 0.0)):
            sensor, profile, bpp = self._streams[name]
            for value, us in (metadata or {}).items():
                sensor.set_metadata(value, us)
            frame = rs.software_video_frame()
            frame.pixels, frame.stride, frame.bpp = content, WIDTH * bpp, bpp
            frame.timestamp, frame.domain, frame.frame_number = stamp_ms + late, domain, number
            frame.profile = profile.as_video_stream_profile()
            if name == "depth":
                frame.depth_units = self._units
            self._kept = [*self._kept[-60:], content]
            sensor.on_video_frame(frame)


def picture(rng):
    """A pair unlike any other: (H, W, 3) uint8 and (H, W) uint16 [mm]."""
    color = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return color, rng.integers(300, 2000, (HEIGHT, WIDTH)).astype(np.uint16)


class Film:
    """Pushes a new pair every period from a thread of its own; ``spoil(number, keywords)`` may
    change a pair before.
    """

    def __init__(self, camera, seed=0, number=0):
        self.camera, self.spoil = camera, lambda number, pair: pair
        self.pushed = {}  # number -> (stamp [ms], colour, depth) of every pair that was not spoilt
        self._over, self._rng, self._number = threading.Event(), np.random.default_rng(seed), number
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._over.wait(1 / HZ):
            self._number += 1
            number = self._number
            color, depth = picture(self._rng)
            pair = {"number": number, "color": color, "depth": depth, "stamp_ms": time.time() * 1e3}
            spoilt = self.spoil(number, dict(pair))
            if spoilt is None:
                continue
            if all(spoilt.get(k) is v for k, v in pair.items()) and len(spoilt) == len(pair):
                self.pushed[number] = pair["stamp_ms"], color, depth
            self.camera.push(**spoilt)

    def stop(self):
        self._over.set()
        self._thread.join()


class Bus:
    """Where software cameras are plugged in and out."""

    def __init__(self, *cameras):
        self.cameras = list(cameras)

    def find(self, serial):
        return connected(serial, lambda: [camera.device for camera in self.cameras])
