"""Cache of arrays made from episodes: made once, beside the episodes, and memory-mapped.

A folder ``<name>-<key>`` holds one ``.npy`` file for each array. The key is a hash of the episodes,
the configuration, and the source code that makes the arrays.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gwm_core.data.episode_info import INFO
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json
from gwm_core.workers.pool import workers

Rows = Iterable[dict[str, np.ndarray]]
PARTIAL, _LOCK = ".partial", ".gwm-cache"
_ROOT = Path(__file__).parents[2]
_MADE_BY = (
    "address.py",
    "data",
    "errors.py",
    "files",
    "gate_status.py",
    "geometry",
    "joint_states.py",
    "model",
    "scene",
    "site",
    "sync.py",
    "task_spec.py",
    "topics.py",
    "training/datasets",
    "types.py",
    "workers",
)


def stacked(rows: Rows) -> dict[str, np.ndarray]:
    """Stack rows into one array (S, ...) for each name; empty without rows."""
    columns: dict[str, list[np.ndarray]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in columns.items()}


def numbered(episode: np.ndarray) -> np.ndarray:
    """Renumber episodes (S,) from 0, without those that gave no row: some of them are held out."""
    return np.unique(episode, return_inverse=True)[1]


@functools.cache
def source(root: Path = _ROOT) -> str:
    """Hash of the source code that makes arrays from episodes."""
    digest = hashlib.sha256()
    for path in sources(root):
        digest.update(f"{path.relative_to(root)} ".encode() + path.read_bytes())
    return digest.hexdigest()


def sources(root: Path = _ROOT) -> list[Path]:
    """The files of ``source``."""
    named = [root / name for name in _MADE_BY]
    return sorted(
        {file for path in named for file in ([path] if path.is_file() else path.rglob("*.py"))}
    )


@dataclass(frozen=True)
class ArrayCache:
    """Arrays in ``folder``, for one ``config``, set of episodes, and version of the code."""

    folder: Path
    name: str
    config: str

    def arrays(
        self,
        paths: list[Path],
        work: Callable[[Path], Rows],
        processes: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, np.ndarray]:
        """The rows that ``work`` makes of every episode, and ``episode`` (S,), their index
        in ``paths``.

        Raises InputError where the folder cannot be written, or no episode gives a row.
        """
        folder = self.folder / f"{self.name}-{self._key(paths)}"
        with _locked(self.folder):  # of several training processes one makes the arrays
            try:
                return load_arrays(folder)
            except (OSError, ValueError, EOFError):  # missing, or truncated by a crash
                shutil.rmtree(folder, ignore_errors=True)
            partial_folder = folder.with_name(folder.name + PARTIAL)
            shutil.rmtree(partial_folder, ignore_errors=True)
            partial_folder.mkdir()
            self._make(partial_folder, paths, work, processes, progress)
            partial_folder.rename(folder)
            return load_arrays(folder)

    def _key(self, paths: list[Path]) -> str:
        digest = hashlib.sha256(f"{source()} {self.config}".encode())
        for path in paths:  # episode.json holds the hash of the bag
            digest.update(
                f"{path.name} {hashlib.sha256((path / INFO).read_bytes()).hexdigest()}".encode()
            )
        return digest.hexdigest()[:16]

    def _make(self, folder: Path, paths: list[Path], work, processes: int, progress) -> None:
        progress(0, len(paths))
        jobs = [(path, folder / f"{number:06d}") for number, path in enumerate(paths)]
        counts: list[int] = []
        with workers(processes, len(jobs)) as pool:
            for count in pool.imap(partial(_write_rows, work), jobs):
                counts.append(count)
                progress(len(counts), len(paths))
        parts = [part for (_, part), count in zip(jobs, counts) if count]
        if not parts:
            shutil.rmtree(folder)
            raise InputError(
                f"no moment of {len(paths)} episodes can be used: `gwm data verify` says why"
            )
        kinds = json.loads((parts[0] / "kinds.json").read_text())
        for part in parts[1:]:
            if json.loads((part / "kinds.json").read_text()) != kinds:
                raise InputError(
                    f"{paths[int(part.name)]} has other images than {paths[int(parts[0].name)]}"
                )
        for name, (kind, shape) in kinds.items():
            _join(
                [part / name for part in parts],
                folder / f"{name}.npy",
                np.dtype(kind),
                (sum(counts), *shape),
            )
        np.save(folder / "episode.npy", np.repeat(np.arange(len(paths)), counts))
        for part in parts:
            part.rmdir() if not any(part.iterdir()) else shutil.rmtree(part)


def _write_rows(work: Callable[[Path], Rows], job: tuple[Path, Path]) -> int:
    """Write the rows of one episode, a file for each name; returns their number."""
    path, folder = job
    kinds: dict[str, tuple[str, list[int]]] = {}
    count = 0
    with contextlib.ExitStack() as stack:
        files = {}
        for row in work(path):
            for name, value in row.items():
                if name not in files:
                    folder.mkdir(exist_ok=True)
                    files[name] = stack.enter_context(open(folder / name, "wb"))
                    kinds[name] = value.dtype.str, list(value.shape)
                if (value.dtype.str, list(value.shape)) != kinds[name]:
                    raise InputError(f"{path}: images of several sizes")
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    raise InputError(
                        f"{path}: {name} not finite: `gwm data verify` says what; move it elsewhere"
                    )
                files[name].write(np.ascontiguousarray(value).data)
            count += 1
    if count:
        write_json(folder / "kinds.json", kinds)
    return count


def _join(parts: list[Path], file: Path, kind: np.dtype, shape: tuple[int, ...]) -> None:
    """Concatenate files of raw numbers into a ``.npy`` file, and remove them."""
    with open(file, "wb") as out:
        header = {"descr": kind.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        for part in parts:
            with open(part, "rb") as raw:
                shutil.copyfileobj(raw, out, 1 << 20)
            part.unlink()


def load_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The memory-mapped arrays of a folder of the cache; changes stay in memory."""
    return {
        file.stem: np.load(file, mmap_mode="c")
        for file in [folder / "episode.npy", *sorted(folder.glob("*.npy"))]
    }


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for other processes. Raises InputError where ``folder`` cannot be written."""
    try:
        with open(folder / _LOCK, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror or error}; what is made of episodes is kept"
            " beside them: make room there, or copy them to where you may write"
        ) from None
