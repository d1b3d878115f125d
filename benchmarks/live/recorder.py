"""``gwm bench recorder``: what is lost when it is killed or the disk is full; nothing acknowledged
may be.

A child records episodes as the recorder does and notes, in a file of its own, what it has taken and
what was acknowledged as saved. It is killed at a random moment, or its disk ends at a random byte;
then the parent reads on.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from gwm.graph.environment import END_WITH_PARENT, end_with_parent
from gwm.tools.terminal import ProgressBar

from gwm_core import topics
from gwm_core.data.episode import INFO, list_episodes
from gwm_core.data.episode_recovery import recover, salvaged, unfinished
from gwm_core.data.ros_messages import joint_state, serialized
from gwm_core.errors import InputError
from gwm_core.files.checksums import sha256
from gwm_core.files.json_files import write_json
from gwm_core.recording.recorder import DiskConfig, Recorder
from gwm_core.recording.ring_buffer import RingBuffer

# [Hz] of joint states, [s] of an episode, [bytes] of an image at 30 Hz
RATE, EPISODE, IMAGE = 100, 0.6, 40_000
KILL = 0.1, 2.5  # [s] after the child's first message, at random
FULL = 100_000, 6_000_000  # [bytes] that fit, at random
_ROOM = 64 << 20  # [bytes]


@dataclass
class RecorderReport:
    """Over all runs.

    Attributes:
        saved: episodes acknowledged. lost: of them, how many are not there whole. half: folders
            that look finished and are not. open: episodes that were being recorded. lost_s: of each
            of these, seconds taken but not recovered.
    """

    runs: int = 0
    saved: int = 0
    lost: int = 0
    half: int = 0
    open: int = 0
    lost_s: list[float] = field(default_factory=list)


def bench_recorder(kills: int, full: int, seed: int, file: str | None) -> int:
    """Both, and a line for each; 1 where an acknowledged episode was lost or half of one passes for
    a whole.
    """
    reports, code = {"killed": RecorderReport(), "disk full": RecorderReport()}, 0
    try:
        for name, times in (("killed", kills), ("disk full", full)):
            run(
                times,
                seed,
                name == "disk full",
                ProgressBar(max(times, 1), name).step,
                reports[name],
            )
    except KeyboardInterrupt:
        code = 130
    for name, report in reports.items():
        lost = np.array(report.lost_s or [0.0])
        print(
            f"{name} {report.runs} times: {report.lost} of {report.saved} acknowledged episodes"
            f" lost, {report.half} half; of {report.open} open ones, recovered,"
            f" {1e3 * np.median(lost):.0f} ms are lost at the median and {1e3 * lost.max():.0f} ms"
            " at most"
        )
    if file:
        write_json(file, {name: asdict(r) for name, r in reports.items()})
    return code or int(any(report.lost or report.half for report in reports.values()))


def run(
    times: int,
    seed: int,
    full: bool,
    progress: Callable[[], None] = lambda: None,
    report: RecorderReport | None = None,
) -> RecorderReport:
    """Kill the child, or fill its disk, ``times`` times; adds to ``report``, which is complete
    after each.
    """
    rng, report = random.Random(seed), report or RecorderReport()
    for _ in range(times):
        with tempfile.TemporaryDirectory(prefix="gwm_recorder_") as folder:
            told = _fill(Path(folder), rng) if full else _kill(Path(folder), rng)
            _judge(Path(folder) / "runs", told, report)
        report.runs += 1
        progress()
    return report


def _kill(folder: Path, rng: random.Random) -> list[str]:
    child = _child(folder)
    while not (folder / "told").exists() and child.poll() is None:
        time.sleep(0.01)
    time.sleep(rng.uniform(*KILL))
    child.send_signal(signal.SIGKILL)
    child.wait()
    return (folder / "told").read_text().splitlines()


def _fill(folder: Path, rng: random.Random) -> list[str]:
    """A disk of its own that ends at a random byte; without the right to mount one, a limit on the
    size of files.
    """
    size, runs = rng.randint(*FULL), folder / "runs"
    runs.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", runs]
    mounted = subprocess.run(command, check=False, capture_output=True)
    try:
        child = _child(folder, 0 if mounted.returncode == 0 else size)
        child.wait()
        # read and recovered where there is room, as the message tells people to
        if mounted.returncode == 0:
            shutil.copytree(runs, folder / "copy")
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", runs], check=True)
            shutil.copytree(folder / "copy", runs, dirs_exist_ok=True)
    return (folder / "told").read_text().splitlines()


def _child(folder: Path, limit: int = 0) -> subprocess.Popen:
    command = [sys.executable, "-m", __spec__.name, str(folder), str(limit)]
    return subprocess.Popen(
        command, start_new_session=True, env=os.environ | {END_WITH_PARENT: "1"}
    )


def _judge(runs: Path, told: list[str], report: RecorderReport) -> None:
    saved = {
        name: int(count)
        for _, name, count in (line.split() for line in told if line.startswith("saved"))
    }
    with contextlib.suppress(InputError):  # none
        for path in list_episodes(runs):
            report.half += not _whole(path)
    report.saved += len(saved)
    report.lost += sum(
        not _whole(runs / name) or _count(runs / name) != count for name, count in saved.items()
    )
    taken = [float(line.split()[1]) for line in told if line.startswith("taken")]
    for path in unfinished(runs):
        report.open += 1
        begun = [float(line.split()[1]) for line in told if line.startswith("begun")][-1]
        try:
            made, _, _ = recover(path)
            last = max(stamp for _, _, _, stamp in salvaged(made / "bag")) * 1e-9
        except InputError:
            last = begun
        report.lost_s.append(max([*taken, begun]) - last)


def _whole(path: Path) -> bool:
    try:
        known = json.loads((path / INFO).read_text())["sha256"]
        return bool(known) and all(sha256(path / name) == digest for name, digest in known.items())
    except (OSError, ValueError, LookupError):
        return False


def _count(path: Path) -> int:
    return sum(1 for _ in salvaged(path / "bag"))


def _record(folder: Path, limit: int) -> None:
    """The child: records one episode after the other and tells what it did, until it is killed or
    the disk is full.
    """
    end_with_parent()
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    told = os.open(folder / "told", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    disk = DiskConfig(0, 0.0)
    recording = Recorder(
        folder / "runs", {"task": "none", "cameras": {}}, RingBuffer(1.0, _ROOM), disk
    )
    image = np.random.default_rng(0).integers(0, 256, IMAGE, np.uint8).tobytes()
    while not recording.cut:
        try:
            count, path = _episode(recording, image, told)
        except (InputError, OSError):  # what the operator is told
            return
        if path:
            os.write(told, f"saved {path.name} {count}\n".encode())


def _episode(recording: Recorder, image: bytes, told: int) -> tuple[int, Path | None]:
    recording.start()
    begun, count = time.time(), 0
    os.write(told, f"begun {begun}\n".encode())
    while not recording.cut and time.time() - begun < EPISODE:
        now = time.time()
        stamp = round(now * 1e9)
        message = joint_state(stamp, topics.ARM_JOINTS, np.zeros(7))
        recording.take(now, *serialized(topics.JOINT_STATES, message, stamp))
        count += 1
        if count % 3 == 0:
            recording.take(
                now,
                "camera/front/color/image_raw/compressed",
                "std_msgs/msg/ByteMultiArray",
                image,
                stamp,
            )
        if not recording.cut:
            os.write(told, f"taken {now}\n".encode())
        recording.tick(now)
        time.sleep(max(0.0, now + 1 / RATE - time.time()))
    return count + count // 3, None if recording.cut else recording.save({"success": True})


if __name__ == "__main__":
    _record(Path(sys.argv[1]), int(sys.argv[2]))
