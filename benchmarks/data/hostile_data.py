"""Give corrupted datasets to their readers in a child process. Each must be refused or unharmed.

Small datasets of every kind are made once. A case is a copy of one with random damage or an attack,
half of them with matching hashes. The child reports the answer of the reader. A child that dies,
hangs or raises anything but a one-line InputError is a crash.
"""

from __future__ import annotations

import json
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from gwm_core.data.episode_info import INFO
from gwm_core.data.resampled_episode import ResampledEpisode, resample_longest, write_resampled
from gwm_core.errors import InputError
from gwm_core.files.png import encode_png
from gwm_core.geometry.kinematics import HOME_Q, fk, to_rows
from gwm_core.interop.untrusted import check_table, digest

KINDS = ("v3-images", "v3-video", "v2.1", "robomimic", "episode", "partial")
TIMEOUT = 30.0  # [s] for an answer of the child
MEMORY = 6 << 30  # [bytes] of address space for the child


@dataclass
class HostileReport:
    """The result of a fuzz run."""

    cases: int = 0
    refused: int = 0
    accepted_unharmed: int = 0
    crashes: list[str] = field(default_factory=list)
    # accepted with other content than was stored, although the hashes were not changed
    altered: list[str] = field(default_factory=list)
    worst_seconds: float = 0.0  # of processor time
    worst_case: str = ""
    worst_rss_mb: float = 0.0  # of a child, with its libraries


def samples(
    count: int = 2, rows: int = 8, seed: int = 0, size: tuple[int, int] = (24, 32)
) -> list[ResampledEpisode]:
    """Small random episodes with two cameras; the depth of "front" is 0.3 to 1.3 m with holes."""
    rng, made = np.random.default_rng(seed), []
    for k in range(count):
        q = np.float32(HOME_Q + np.cumsum(rng.normal(0, 0.01, (rows, 7)), 0))
        sent = np.float32(q + rng.normal(0, 0.01, q.shape))
        width = np.float32(rng.uniform(0, 0.08, (3, rows)))
        columns = {
            "observation.state": np.column_stack([q, width[0], width[1]]),
            "observation.velocity": np.float32(rng.normal(0, 0.1, (rows, 7))),
            "observation.pose": np.float32(to_rows(fk(q.astype(float)), width[0])),
            "action": np.float32(to_rows(fk(sent.astype(float)), width[2])),
            "action.joints": np.column_stack([sent, width[2]]),
        }
        color, depth = {}, {}
        for name in ("front", "wrist"):
            images = rng.integers(0, 256, (rows, *size, 3), np.uint8)
            images = [cv2.GaussianBlur(image, (0, 0), 3) for image in images]
            color[name] = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
            mm = rng.integers(300, 1300, (rows, *size)).astype(np.uint16) * (
                rng.random((rows, *size)) > 0.1
            )
            depth[name] = [encode_png(image.astype(np.uint16)) for image in mm]
        color["wrist"] = [encode_png(image) for image in images]
        eye = np.eye(4).tolist()
        cameras = {
            "front": {"prefix": "camera/front", "T_base_camera": eye},
            "wrist": {"prefix": "camera/wrist", "T_tcp_camera": eye},
        }
        info = {
            "task": ("stack", "lift")[k % 2],
            "seed": k,
            "success": k % 2 == 0,
            "unusable": [],
            "cameras": cameras,
        }
        K = np.array([[30.0, 0, size[1] / 2], [0, 30.0, size[0] / 2], [0, 0, 1]])
        usable = np.arange(rows) != 2
        made.append(
            ResampledEpisode(10, info, {"front": K, "wrist": K + 0}, columns, usable, color, depth)
        )
    return made


def prepare(folder: Path) -> dict[str, str]:
    """Make a small dataset of each of ``KINDS`` in ``folder``; returns kind -> digest."""
    from gwm_core.data.episode_writer import EpisodeWriter
    from gwm_core.interop.lerobot import export_lerobot
    from gwm_core.interop.robomimic import export_robomimic
    from gwm_core.recording.episode_recovery import salvage_messages

    tables = samples()
    export_lerobot(tables, folder / "v3-images", "v3.0", video=False)
    export_lerobot(tables, folder / "v3-video", "v3.0", video=True)
    export_lerobot(tables, folder / "v2.1", "v2.1", video=True)
    export_robomimic(tables, folder / "robomimic")
    write_resampled(tables[0], folder / "episode")
    writer = EpisodeWriter(folder / "begun", tables[0].info)
    for k, (topic, message, content, stamp) in enumerate(salvage_messages(folder / "episode")):
        writer.write_cdr(topic, message, content, stamp)
        if k % 15 == 14:  # small chunks
            writer.sync()
    writer.abort()
    writer.partial.rename(folder / "partial")
    return {kind: " ".join(read(kind, folder / kind, folder)) for kind in KINDS}


def read(kind: str, path: Path, work: Path) -> list[str]:
    """Digests of the episodes of a dataset. ``work`` is a folder for a recovered episode."""
    from gwm_core.data.episode import read_episode
    from gwm_core.files.atomic_write import PARTIAL
    from gwm_core.interop.lerobot import import_lerobot
    from gwm_core.interop.robomimic_read import import_robomimic
    from gwm_core.recording.episode_recovery import recover

    if kind == "robomimic":
        return [digest(table) for table in import_robomimic(path)]
    if kind == "partial":
        shutil.rmtree(work / "recovered", ignore_errors=True)
        shutil.copytree(path, work / f"recovered{PARTIAL}", symlinks=True, dirs_exist_ok=True)
        path = recover(work / "recovered")[0]
    if kind in ("episode", "partial"):
        return [digest(check_table(path, resample_longest(read_episode(path))))]
    return [digest(table) for table in import_lerobot(path)]


def corrupt(rng, kind: str, path: Path) -> tuple[str, bool]:
    """Corrupt a dataset; returns a description, and whether its hashes were updated."""
    from benchmarks.data import hostile_attacks as attacks
    from benchmarks.data import hostile_lerobot as lerobot
    from benchmarks.data.hostile_hdf5 import ROBOMIMIC

    known = {
        "robomimic": ROBOMIMIC,
        "episode": attacks.EPISODE,
        "partial": {},
        "v2.1": lerobot.LEROBOT | lerobot.V21,
        "v3-video": lerobot.LEROBOT | lerobot.V3,
        "v3-images": lerobot.LEROBOT | lerobot.V3 | lerobot.IMAGES,
    }[kind]
    choice = rng.random()
    if choice < 0.4 and known:
        name = list(known)[rng.integers(len(known))]
        known[name](path)
        signed = True
    else:
        name, signed = (
            (attacks.edit_json if choice < 0.6 else attacks.damage)(rng, path),
            rng.random() < 0.6,
        )
    if signed and path.is_dir():
        attacks.sign(path)
    unhashed = kind == "partial" or (kind == "episode" and name.startswith(INFO))
    return f"{kind}: {name}", signed or unhashed


def fuzz(
    count: int = 2000, seed: int = 0, step: Callable[[], None] = lambda: None
) -> HostileReport:
    """Read ``count`` corrupted datasets, the kinds in turn; ``step`` is called after each."""
    rng, report = np.random.default_rng(seed), HostileReport()
    with tempfile.TemporaryDirectory(prefix="gwm-hostile-") as name:
        folder = Path(name)
        whole, reader = prepare(folder), Reader()
        try:
            for k in range(count):
                kind, path = KINDS[k % len(KINDS)], folder / f"case{k}" / "data"
                path.parent.mkdir()
                (shutil.copytree if (folder / kind).is_dir() else shutil.copy)(folder / kind, path)
                what, signed = corrupt(rng, kind, path)
                answer = reader.ask(kind, path)
                _count(
                    report,
                    f"{what} (case {k}, seed {seed})",
                    answer,
                    signed or answer.get("digest") == whole[kind],
                )
                shutil.rmtree(path.parent)
                step()
        finally:
            reader.close()
    return report


def _count(report: HostileReport, what: str, answer: dict, fine: bool) -> None:
    report.cases += 1
    report.worst_rss_mb = max(report.worst_rss_mb, answer.get("rss_mb", 0.0))
    if answer.get("seconds", 0.0) > report.worst_seconds:
        report.worst_seconds, report.worst_case = answer["seconds"], what
    if "refused" in answer:
        report.refused += 1
    elif "crash" in answer:
        report.crashes.append(f"{what}: {answer['crash']}")
    elif not fine:
        report.altered.append(what)
    else:
        report.accepted_unharmed += 1


class Reader:
    """A child that reads datasets, one at a time; it is started again after its death."""

    def __init__(self):
        self._child = None

    def ask(self, kind: str, path: Path) -> dict:
        """The answer: "refused", "digest" or "crash"; "seconds" and "rss_mb" unless it died."""
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        self._child.stdin.write(json.dumps([kind, str(path)]) + "\n")
        self._child.stdin.flush()
        if not select.select([self._child.stdout], [], [], TIMEOUT)[0]:
            self.close()
            return {"crash": f"no answer in {TIMEOUT} s"}
        line = self._child.stdout.readline()
        if not line:
            code = self._child.wait()
            self.close()
            return {"crash": f"the reader died, code {code}"}
        return json.loads(line)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
        self._child = None


def serve() -> None:
    """Answer the parent: a line with kind and path in, a line of JSON out."""
    out, sys.stdout = sys.stdout, sys.stderr
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        kind, path = json.loads(line)
        before = time.process_time() + _children()
        answer = _try_read(kind, Path(path))
        spent = time.process_time() + _children() - before
        print(
            json.dumps(answer | {"seconds": spent, "rss_mb": _maximum_memory()}),
            file=out,
            flush=True,
        )


def _children() -> float:
    """CPU time [s] of the finished children of this process."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _maximum_memory() -> float:
    """The largest resident memory [MB] so far, of this program or of its children.

    ``ru_maxrss`` of this program would include the parent's; that of a child includes this
    program's, so it is an upper bound.
    """
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return max(int(line.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def _try_read(kind: str, path: Path) -> dict:
    try:
        return {"digest": " ".join(read(kind, path, path.parent))}
    except InputError as error:
        text = str(error)
        return (
            {"refused": text}
            if text and "\n" not in text
            else {"crash": f"not one line: {text[:200]!r}"}
        )
    except Exception:  # any exception is a finding
        return {"crash": " | ".join(traceback.format_exc().strip().splitlines()[-3:])[:400]}


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        serve()
