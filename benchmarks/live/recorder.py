"""``gwm bench recorder``: what is lost when the recorder is killed or its disk is full.

Nothing that was acknowledged may be lost. A child records episodes as the recorder does, and writes
to a log what it has taken and what it has acknowledged as saved. It is killed at a random time, or
its disk ends at a random byte. Then the parent reads the episodes.
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
from gwm_core.data.episode_info import INFO, list_episodes, list_unfinished
from gwm_core.data.ros_messages import joint_state, serialized
from gwm_core.errors import InputError
from gwm_core.files.checksums import sha256
from gwm_core.files.json_files import write_json
from gwm_core.recording.episode_recovery import recover, salvage_messages
from gwm_core.recording.recorder import DiskConfig, Recorder
from gwm_core.recording.ring_buffer import RingBuffer

RATE = 100  # [Hz] of joint states
EPISODE = 0.6  # [s]
IMAGE = 40_000  # [bytes], at 30 Hz
LOG = "log"  # of the child
KILL = 0.1, 2.5  # [s] after the child's first message, at random
FULL = 100_000, 6_000_000  # [bytes] that fit, at random
_ROOM = 64 << 20  # [bytes]


@dataclass
class RecorderReport:
    """Over all runs.

    Attributes:
        saved: acknowledged episodes.
        lost: acknowledged episodes that are not complete.
        half: folders that look finished and are not complete.
        open: episodes that were being recorded.
        lost_s: for each of these, seconds taken but not recovered.
    """

    runs: int = 0
    saved: int = 0
    lost: int = 0
    half: int = 0
    open: int = 0
    lost_s: list[float] = field(default_factory=list)


def bench_recorder(kills: int, full: int, seed: int, file: str | None) -> int:
    """Run both benchmarks. Returns 1 where an acknowledged or finished episode is not complete."""
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
    """Kill the child, or fill its disk, ``times`` times. Each run is added to ``report``."""
    rng, report = random.Random(seed), report or RecorderReport()
    for _ in range(times):
        with tempfile.TemporaryDirectory(prefix="gwm_recorder_") as folder:
            log = _fill(Path(folder), rng) if full else _kill(Path(folder), rng)
            _check_episodes(Path(folder) / "runs", log, report)
        report.runs += 1
        progress()
    return report


def _kill(folder: Path, rng: random.Random) -> list[str]:
    child = _child(folder)
    while not (folder / LOG).exists() and child.poll() is None:
        time.sleep(0.01)
    time.sleep(rng.uniform(*KILL))
    child.send_signal(signal.SIGKILL)
    child.wait()
    return (folder / LOG).read_text().splitlines()


def _fill(folder: Path, rng: random.Random) -> list[str]:
    """Give the child a disk that ends at a random byte, or else a limit on the size of files."""
    size, runs = rng.randint(*FULL), folder / "runs"
    runs.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", runs]
    mounted = subprocess.run(command, check=False, capture_output=True)
    try:
        child = _child(folder, 0 if mounted.returncode == 0 else size)
        child.wait()
        # Recovery needs room, as its message says.
        if mounted.returncode == 0:
            shutil.copytree(runs, folder / "copy")
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", runs], check=True)
            shutil.copytree(folder / "copy", runs, dirs_exist_ok=True)
    return (folder / LOG).read_text().splitlines()


def _child(folder: Path, limit: int = 0) -> subprocess.Popen:
    command = [sys.executable, "-m", __spec__.name, str(folder), str(limit)]
    return subprocess.Popen(
        command, start_new_session=True, env=os.environ | {END_WITH_PARENT: "1"}
    )


def _check_episodes(runs: Path, log: list[str], report: RecorderReport) -> None:
    saved = {
        name: int(count)
        for _, name, count in (line.split() for line in log if line.startswith("saved"))
    }
    with contextlib.suppress(InputError):  # none
        for path in list_episodes(runs):
            report.half += not _whole(path)
    report.saved += len(saved)
    report.lost += sum(
        not _whole(runs / name) or _count(runs / name) != count for name, count in saved.items()
    )
    taken = [float(line.split()[1]) for line in log if line.startswith("taken")]
    for path in list_unfinished(runs):
        report.open += 1
        begun = [float(line.split()[1]) for line in log if line.startswith("begun")][-1]
        try:
            made, _, _ = recover(path)
            last = max(stamp for _, _, _, stamp in salvage_messages(made / "bag")) * 1e-9
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
    return sum(1 for _ in salvage_messages(path / "bag"))


def _record(folder: Path, limit: int) -> None:
    """Record episodes and log them, until this process is killed or the disk is full."""
    end_with_parent()
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    log = os.open(folder / LOG, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    disk = DiskConfig(0, 0.0)
    recording = Recorder(
        folder / "runs", {"task": "none", "cameras": {}}, RingBuffer(1.0, _ROOM), disk
    )
    image = np.random.default_rng(0).integers(0, 256, IMAGE, np.uint8).tobytes()
    while not recording.cut:
        try:
            count, path = _episode(recording, image, log)
        except (InputError, OSError):  # the operator's message
            return
        if path:
            os.write(log, f"saved {path.name} {count}\n".encode())


def _episode(recording: Recorder, image: bytes, log: int) -> tuple[int, Path | None]:
    recording.start()
    begun, count = time.time(), 0
    os.write(log, f"begun {begun}\n".encode())
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
            os.write(log, f"taken {now}\n".encode())
        recording.tick(now)
        time.sleep(max(0.0, now + 1 / RATE - time.time()))
    return count + count // 3, None if recording.cut else recording.save({"success": True})


if __name__ == "__main__":
    _record(Path(sys.argv[1]), int(sys.argv[2]))
