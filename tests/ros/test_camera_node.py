"""The camera node on real topics, fed by pyrealsense2's software devices: no camera was ever
attached here.
"""

import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import yaml

rclpy = pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from gwm.graph.environment import process_environment
from gwm.hardware.realsense import AlignedPair, DeviceGone, RealSense, recording
from gwm.nodes.camera_node import CameraNode
from gwm.ros import image_messages, messages
from gwm.ros.node import RELIABLE, SENSOR
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image
from software_camera import CENTRE, FOCAL, HEIGHT, HZ, WIDTH, Bus, Film, SoftwareCamera, picture

from gwm_core import topics
from gwm_core.errors import InputError
from gwm_core.geometry.camera_info import read_camera_info
from gwm_core.scene.stream_monitor import CameraImage, StreamConfig
from gwm_core.sync import MS

K = np.array([[FOCAL, 0, CENTRE[0] + 0.5], [0, FOCAL, CENTRE[1] + 0.5], [0, 0, 1]])


class Site:
    """Two cameras in a site file, a listener, and a camera node that gets its sources from the
    test.
    """

    def __init__(self, tmp_path):
        self.file, self.nodes = tmp_path / "site.yaml", []
        cameras = {
            n: {"prefix": f"camera/{n}", "serial": s, "T_base_camera": np.eye(4).tolist()}
            for n, s in (("front", "111"), ("wrist", "222"))
        }
        self.file.write_text(yaml.safe_dump({"cameras": cameras}))
        self.images = {
            (n, kind): []
            for n in cameras
            for kind in ("color", "depth", "color info", "depth info")
        }
        self.reports = {}

    def start(self, source, **parameters):
        """``source``: (name, camera) -> what open, wait and close."""
        values = {
            "site": self.file,
            "width": WIDTH,
            "height": HEIGHT,
            "camera_hz": float(HZ),
            "restart_after": 2.0,
        }
        words = [f"-p {name}:={value}" for name, value in (values | parameters).items()]
        rclpy.init(
            args=["--ros-args", *" ".join(words).split()],
            signal_handler_options=rclpy.signals.SignalHandlerOptions.NO,
        )
        listener = rclpy.create_node("listener")
        for name, kind in self.images:
            topic = {"color": topics.color, "depth": topics.depth, "color info": topics.info}.get(
                kind, topics.depth_info
            )
            listener.create_subscription(
                CameraInfo if "info" in kind else Image,
                topic(f"camera/{name}"),
                self.images[name, kind].append,
                SENSOR,
            )
        listener.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_report, RELIABLE)
        self.nodes = [listener, CameraNode(lambda name, camera, p, config: source(name, camera))]
        self.executor = SingleThreadedExecutor()
        for node in self.nodes:
            self.executor.add_node(node)

    def _on_report(self, message):
        self.reports |= messages.read_diagnostics(message)

    def until(self, what, holds, limit=40.0):
        deadline = time.monotonic() + limit
        while not holds():
            assert time.monotonic() < deadline, f"{what} did not come; {self.reports}"
            self.executor.spin_once(timeout_sec=0.05)

    def count(self, name, kind="depth"):
        return len(self.images[name, kind])

    def counted(self, name, what):
        return int(self.reports.get(f"camera {name}", {}).get(what, 0))

    def state(self, name):
        return self.reports.get(f"camera {name}", {}).get("message", "")

    def stop(self):
        for node in reversed(self.nodes):
            if hasattr(node, "close"):
                node.close()
            node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "ROS_DOMAIN_ID",
        os.environ.get("ROS_DOMAIN_ID") or str(random.SystemRandom().randint(1, 100)),
    )
    for name, value in process_environment().items():
        monkeypatch.setenv(name, value)
    site = Site(tmp_path)
    yield site
    site.stop()


@pytest.fixture
def films():
    """Two software cameras that film, on a bus."""
    films = {"111": Film(SoftwareCamera("111"), 1), "222": Film(SoftwareCamera("222"), 2)}
    yield films
    for film in films.values():
        film.stop()


CONFIG = StreamConfig(WIDTH, HEIGHT, HZ)


def on(bus):
    return lambda name, camera: RealSense(lambda: bus.find(camera.serial), CONFIG)


def stamps(received):
    return [messages.stamp_ns(m.header.stamp) for m in received]


def same_as_pushed(site, name, film, offset_ms=0.0):
    """Each pair that arrived was pushed, bit for bit, under its stamp; returns how many there
    were.
    """
    pushed = list(film.pushed.values())
    for which, kind in enumerate(("color", "depth"), start=1):
        for message in site.images[name, kind]:
            stamp = messages.stamp_ns(message.header.stamp) / MS - offset_ms
            nearest = min(pushed, key=lambda pair: abs(pair[0] - stamp))
            assert abs(nearest[0] - stamp) < 0.01
            np.testing.assert_array_equal(image_messages.pixels(message, kind), nearest[which])
    return min(site.count(name, "color"), site.count(name, "depth"))


def test_two_cameras_arrive_bit_for_bit_under_the_names_of_realsense_ros(films, site):
    site.start(on(Bus(*(f.camera for f in films.values()))), **{"offset_ms.wrist": -12.5})
    site.until("ten pairs of each", lambda: min(map(len, site.images.values())) >= 10)
    assert same_as_pushed(site, "front", films["111"]) >= 10
    assert same_as_pushed(site, "wrist", films["222"], offset_ms=-12.5) >= 10
    for name in ("front", "wrist"):
        color, depth, info, depth_info = (
            site.images[name, kind][0] for kind in ("color", "depth", "color info", "depth info")
        )
        assert (color.encoding, depth.encoding) == ("rgb8", "16UC1")
        frames = {m.header.frame_id for m in (color, depth, info, depth_info)}
        assert frames == {f"{name}_color_optical_frame"}
        for message in (info, depth_info):
            # as librealsense counts, and realsense-ros publishes
            assert (message.k[2], message.k[5]) == CENTRE
            assert (message.width, message.height, message.distortion_model) == (
                WIDTH,
                HEIGHT,
                "plumb_bob",
            )
            np.testing.assert_array_equal(read_camera_info(message).K, K)
        assert set(stamps(site.images[name, "color info"])) & set(
            stamps(site.images[name, "color"])
        )
    site.until("a good report", lambda: site.state("front") == "streaming")
    assert all(
        site.counted("front", what) == 0
        for what in ("repeated color", "desynchronised", "lost", "no depth")
    )


FAULTS = {
    "repeated color": lambda pair, before: pair | {"color": before["color"]},
    "repeated depth": lambda pair, before: pair | {"depth": before["depth"]},
    "desynchronised": lambda pair, before: pair | {"depth_late_ms": -25.0},
    "no depth": lambda pair, before: pair | {"depth": np.zeros((HEIGHT, WIDTH), np.uint16)},
    "dropped": lambda pair, before: None,
}


def test_each_fault_is_counted_and_no_faulty_pair_is_published(films, site):
    """Every fourth pair has a fault, each kind in turn."""
    film, kinds, before = films["111"], list(FAULTS), {}

    def spoil(number, pair):
        kind = kinds[number // 4 % len(kinds)]
        spoilt = FAULTS[kind](pair, before) if number % 4 == 0 and before else pair
        before.update(pair)
        # no repetition where the SDK lost the pair before it
        if kind.startswith("repeated") and spoilt is not pair:
            film.pushed[number] = pair["stamp_ms"], spoilt["color"], spoilt["depth"]
        return spoilt

    film.spoil = spoil
    site.start(on(Bus(*(f.camera for f in films.values()))))
    # on a busy machine the SDK drops most pairs, spoilt ones among them
    site.until(
        "every fault", lambda: all(site.counted("front", kind) >= 1 for kind in FAULTS), limit=90.0
    )
    # a spoilt pair's stamp is not among those pushed
    assert same_as_pushed(site, "front", film) >= 10
    for kind in ("color", "depth"):
        contents = [image_messages.pixels(m, kind).tobytes() for m in site.images["front", kind]]
        assert len(set(contents)) == len(contents)
    # whatever the SDK mispairs when it is late is caught too
    assert same_as_pushed(site, "wrist", films["222"]) >= 10


def test_a_stall_and_an_unplugged_camera_are_told_and_it_comes_back_while_the_other_goes_on(
    films, site
):
    bus, film = Bus(*(f.camera for f in films.values())), films["111"]
    site.start(on(bus))
    site.until("pairs", lambda: min(site.count("front"), site.count("wrist")) >= 5)

    held = []
    film.spoil = lambda number, pair: pair if held else None
    site.until("a stall", lambda: site.counted("front", "stalled") >= 1)
    held.append("over")
    seen = site.count("front")
    site.until("pairs after the stall", lambda: site.count("front") > seen + 3)
    assert site.counted("front", "lost") == 0

    film.stop()  # unplugged: it sends nothing, and is not on the bus
    bus.cameras = [films["222"].camera]
    site.until("the loss", lambda: "no RealSense with serial number 111" in site.state("front"))
    assert "222 software camera" in site.state("front") and site.counted("front", "lost") == 1
    gone, others = site.count("front"), site.count("wrist")
    site.until("the other's pairs", lambda: site.count("wrist") > others + 8)
    assert site.count("front") == gone and site.counted("front", "lost") == 1

    new = films["111"] = Film(SoftwareCamera("111"), 7, number=5000)
    bus.cameras.append(new.camera)
    site.until("its return", lambda: site.count("front") > gone + 5)
    site.until("a good report", lambda: site.state("front") == "streaming")
    assert site.counted("front", "dropped") < 100  # another count is no gap
    assert site.counted("wrist", "lost") == 0


def test_recordings_play_through_the_node(site, tmp_path):
    film = Film(SoftwareCamera("111"), 3)
    source = RealSense(lambda: film.camera.device, CONFIG, record=tmp_path / "front.db3")
    source.open()
    for _ in range(16):
        source.wait()
    source.close()
    film.stop()
    site.start(
        lambda name, camera: RealSense(lambda: recording(tmp_path / f"{name}.db3"), CONFIG),
        playback=tmp_path,
    )
    site.until(
        "the recording", lambda: min(site.count("front"), site.count("front", "color")) >= 10
    )
    now = time.time_ns()
    # stamped anew
    assert all(now - 10e9 < stamp < now for stamp in stamps(site.images["front", "depth"]))
    pushed = [depth.tobytes() for _, _, depth in film.pushed.values()]
    order = [
        pushed.index(image_messages.pixels(m, "depth").tobytes())
        for m in site.images["front", "depth"][:10]
    ]
    assert np.all(np.diff(order) >= 1)
    site.until("the end", lambda: "recording has ended" in site.state("front"))
    assert site.count("wrist") == 0
    played = site.count("front")
    site.until("the next round", lambda: site.count("front") > played)


class Script:
    """A source that gives what a list says: a shot, None, or an exception to raise."""

    def __init__(self, items):
        self._items, self.opened = list(items), 0

    def open(self):
        self.opened += 1

    def wait(self):
        time.sleep(1 / HZ)
        item = self._items.pop(0) if self._items else None
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self):
        pass


def shot(number):
    color, depth = picture(np.random.default_rng(number))
    stamp = time.time_ns() + number * round(1e9 / HZ)
    return AlignedPair(
        CameraImage(number, stamp, "rgb8", color),
        CameraImage(number, stamp, "16UC1", depth),
        K,
        (0.0,) * 5,
    )


def test_wrong_sizes_and_encodings_are_not_published_and_a_lost_device_is_opened_again(site):
    good = [shot(n) for n in range(6)]
    small = good[1]._replace(color=replace(good[1].color, content=good[1].color.content[::2]))
    swapped = good[2]._replace(color=replace(good[2].color, encoding="bgr8"))
    infrared = good[3]._replace(depth=replace(good[3].depth, encoding="y16"))
    script = Script([good[0], small, swapped, infrared, good[4], DeviceGone("the cable"), good[5]])
    site.start(lambda name, camera: script if name == "front" else Script([]))
    site.until(
        "what was good", lambda: site.count("front") == 3 and site.counted("front", "lost") == 1
    )
    assert stamps(site.images["front", "depth"]) == [good[n].depth.stamp for n in (0, 4, 5)]
    assert (
        site.counted("front", "wrong format color") == 2
        and site.counted("front", "wrong format depth") == 1
    )
    assert script.opened >= 2


def test_any_other_exception_ends_the_node(site):
    site.start(lambda name, camera: Script([shot(1), ZeroDivisionError("a mistake of ours")]))
    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        site.until("the exception", lambda: False)


def test_a_camera_that_was_never_there_is_bad_input(films, site):
    site.start(on(Bus(films["222"].camera)))
    with pytest.raises(
        InputError,
        match=r"camera front: no RealSense with serial number 111 .*: 222 software camera",
    ):
        site.until("the refusal", lambda: False)


@pytest.mark.parametrize(
    ("change", "parameters", "named"),
    [
        (
            None,
            [],
            "camera front: no RealSense with serial number 111000111000 is connected; connected:",
        ),
        ("serial", [], "has a serial (of front)"),
        (None, ["-p", "playback:=/nowhere"], "no recording in /nowhere: looked for front.db3"),
        (None, ["-p", "playback:=a", "-p", "record:=b"], "exclude each other"),
        (None, ["-p", "record:=/proc/nothing"], "cannot write /proc/nothing"),
    ],
)
def test_the_process_tells_in_one_line_what_is_missing(tmp_path, change, parameters, named):
    camera = {
        "prefix": "camera/front",
        "serial": "111000111000",
        "T_base_camera": np.eye(4).tolist(),
    }
    camera.pop(change, None)
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump({"cameras": {"front": camera}}))
    words = [
        sys.executable,
        "-m",
        "gwm.nodes.camera_node",
        "--ros-args",
        "-p",
        f"site:={file}",
        *parameters,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("gwm:")]
    assert done.returncode == 2 and len(lines) == 1 and named in lines[0], done.stderr
    assert "Traceback" not in done.stderr
