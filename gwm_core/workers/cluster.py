"""Jobs on a Ray cluster. All nodes have the same code, and see the same folders.

Whoever reaches its ports runs code on its nodes: use it in a network that you trust.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from gwm_core.errors import InputError

_PATIENCE = 5.0  # [s] for a cluster to answer
_RETRIES = 5  # of a job whose node or process was lost
_AHEAD = 2  # jobs for each core of the cluster that are handed over at once
_PACKAGE = Path(__file__).parents[1]
_current: RayPool | None = None


class RayPool:
    """Runs jobs on the cluster that ``ray`` is connected to. A job of a lost node runs again."""

    def __init__(self, ray):
        self._ray = ray
        self._remote = ray.remote(_run)
        self._task = self._remote.options(num_cpus=1, max_retries=_RETRIES)

    def imap(self, work: Callable, jobs: Iterable) -> Iterator:
        """The results in the order of the jobs."""
        waiting = []
        for job in jobs:
            waiting.append(self._begin(work, job))
            while len(waiting) >= self._most():
                yield self._result(waiting.pop(0))
        for task in waiting:
            yield self._result(task)

    def imap_unordered(self, work: Callable, jobs: Iterable) -> Iterator:
        """The results as they come."""
        waiting = []
        for job in jobs:
            waiting.append(self._begin(work, job))
            while len(waiting) >= self._most():
                yield self._first(waiting)
        while waiting:
            yield self._first(waiting)

    def on_every_node(self, work: Callable, job: Any) -> list:
        """The result of one job on each node; one that is lost meanwhile is left out."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node["NodeID"] for node in self._ray.nodes() if node["Alive"]]
        tasks = [
            self._remote.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(work, job, code_hash(), os.getcwd())
            for node in nodes
        ]
        gone = (self._ray.exceptions.TaskUnschedulableError, self._ray.exceptions.NodeDiedError)
        results = []
        for task in tasks:
            with contextlib.suppress(*gone):
                results.append(self._result(task))
        return results

    def _most(self) -> int:
        return max(1, round(_AHEAD * self._ray.cluster_resources().get("CPU", 1)))

    def _begin(self, work: Callable, job: Any):
        return self._task.remote(work, job, code_hash(), os.getcwd())

    def _first(self, waiting: list) -> Any:
        (done,), waiting[:] = self._ray.wait(waiting, num_returns=1)
        return self._result(done)

    def _result(self, task) -> Any:
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ImportError):
                raise InputError(
                    f"a node cannot import gwm ({error.cause}): install the same version there"
                ) from None
            raise error.cause from None  # as a process of this machine raises it
        except (
            self._ray.exceptions.WorkerCrashedError,
            self._ray.exceptions.OutOfMemoryError,
        ) as error:
            said = str(error).strip().splitlines()[0]
            raise InputError(
                f"a job ended its process {_RETRIES + 1} times ({said}): start nodes with fewer"
                " cores or more memory"
            ) from None


def _run(work: Callable, job: Any, code: str, folder: str) -> Any:
    """Run a job on a node, in a folder. Raises InputError where the node has other code, or lacks
    the folder.
    """
    if code_hash() != code:
        raise InputError(
            f"node {socket.gethostname()} runs another version of gwm: install the same on all"
        )
    try:
        os.chdir(folder)  # relative paths mean the same
    except OSError:
        raise _not_shared(socket.gethostname(), folder) from None
    return work(job)


def _not_shared(host: str, path: Path | str) -> InputError:
    return InputError(f"node {host} does not see {path}: a folder that all nodes share is wanted")


@functools.cache
def code_hash(package: Path = _PACKAGE) -> str:
    """Hash of the Python code of a package."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)} ".encode() + path.read_bytes())
    return digest.hexdigest()


def current() -> RayPool | None:
    """The pool of ``joined``; None outside it."""
    return _current


@contextlib.contextmanager
def joined(address: str, out: Path | None = None, read: Iterable[Path] = ()) -> Iterator[RayPool]:
    """Have all ``workers`` be those of a Ray cluster.

    Args:
        address: HOST:PORT of its head, or "auto" for the one that runs on this machine.
        out: folder that is written to. read: paths that are read.

    Raises:
        InputError: Ray is not installed, no cluster answers, or a node has other code or does not
            see the same folders.
    """
    global _current
    try:
        import ray
    except ImportError:
        raise InputError("Ray is not installed: pip install 'ray==2.*'") from None
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise InputError(
            f"no Ray cluster answers at '{address}' ({said}): start one with `ray start --head`,"
            " and give HOST:PORT"
        ) from None
    try:
        _current = RayPool(ray)
        _require_shared(_current, out, read)
        yield _current
    finally:
        _current = None
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError or ValueError where nothing listens: Ray itself tries for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()


def _require_shared(pool: RayPool, out: Path | None, read: Iterable[Path]) -> None:
    """Raise InputError where a node has other code, or does not see the same folders."""
    mark = None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        mark = out.absolute() / f".gwm-shared-{uuid4().hex}"
        mark.touch()
    wanted = [path.absolute() for path in read if path.exists()] + ([mark] if mark else [])
    try:
        for host, missing in pool.on_every_node(_missing, wanted):
            if missing:
                path = missing.parent if missing == mark else missing
                raise _not_shared(host, path)
    finally:
        if mark:
            mark.unlink()


def _missing(paths: list[Path]) -> tuple[str, Path | None]:
    """The node's name, and the first of the paths that is not there."""
    return socket.gethostname(), next((path for path in paths if not path.exists()), None)
