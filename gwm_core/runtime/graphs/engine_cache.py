"""Cache of compiled graphs. Names are hashes of everything that a graph depends on, as the GPU."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from gwm_core.errors import InputError
from gwm_core.files.checksums import verify_checksums, write_checksums
from gwm_core.files.json_files import to_json

KEY = "key.json"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR, cuda.h
Key = dict[str, str]
_building = threading.RLock()  # torch.export works in one thread at a time


def cache_folder() -> Path:
    """Where compiled graphs are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gwm" / "compiled"


def path_of(name: str, key: Key) -> Path:
    """The folder of the graph ``name`` that was compiled under ``key``."""
    return cache_folder() / f"{name}-{hashlib.sha256(_text(key).encode()).hexdigest()[:16]}"


def cached(name: str, file: str, key: Key, build: Callable[[Path], None]) -> Path:
    """The path of ``file``, built if it does not exist.

    Raises InputError when it is damaged, of another key, or cannot be written.

    Args:
        name: of the folder. file: in the folder. build: writes the file.
    """
    folder = path_of(name, key)
    try:
        with _building:
            if not folder.exists():
                _build(folder, file, key, build)
    except OSError as error:  # a full disk, or another user's home
        remedy = "make room, or name another place with XDG_CACHE_HOME"
        raise InputError(f"cannot write {folder}: {error.strerror or error}: {remedy}") from None
    remedy = f"`rm -r {folder}`, and it is built anew"
    try:
        verify_checksums(folder, (KEY, file))
        found = json.loads((folder / KEY).read_text())
    except (InputError, OSError, ValueError) as error:
        raise InputError(f"{error}; {remedy}") from None
    if found != key:
        differ = [f"{k} '{found.get(k)}'" for k in key if found.get(k) != key[k]]
        raise InputError(
            f"{folder} was built for {', '.join(differ) or 'something else'}: {remedy}"
        )
    if not (folder / file).is_file():
        raise InputError(f"{folder} lacks {file}: {remedy}")
    return folder / file


def _build(folder: Path, file: str, key: Key, build: Callable[[Path], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        build(partial / file)
        (partial / KEY).write_text(_text(key))
        write_checksums(partial)
        try:
            partial.rename(folder)
        except OSError:  # another process has built the same
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _text(key: Key) -> str:
    return to_json(key, sort_keys=True, indent=1) + "\n"


@functools.cache
def gpu() -> str:
    """Name, architecture and driver of the first NVIDIA GPU; "" without one. Asks the driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    device, driver, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return ""
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDriverGetVersion(ctypes.byref(driver))
    architecture = "".join(str(_attribute(cuda, which, device)) for which in (_MAJOR, _MINOR))
    return f"{name.value.decode()}, sm_{architecture}, CUDA driver {driver.value}"


def _attribute(cuda: ctypes.CDLL, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return value.value
