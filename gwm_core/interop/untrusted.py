"""Checks for the readers of untrusted files.

Sizes are checked before anything large is allocated. Every error is an InputError of one line that
names the file and the fault.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
from PIL import Image

from gwm_core.data.resampled_episode import COLUMNS, ResampledEpisode
from gwm_core.errors import InputError
from gwm_core.files.checksums import sha256
from gwm_core.files.json_files import to_json
from gwm_core.site import Camera

MAXIMUM_JSON_BYTES = 64 << 20  # [bytes] of a file
MAXIMUM_VALUES = 2_000_000  # in it: some 300 MB as Python objects
MAXIMUM_EPISODE_BYTES = 640 << 20  # [bytes] of encoded images that one episode may hold in memory
MAXIMUM_ROWS = 100_000  # of an episode: 2.8 h at 10 Hz
MAXIMUM_PIXELS = 1 << 22  # of an image: 1280x720 is a quarter of it
MAXIMUM_EPISODES = 100_000
SUMS = "meta/SHA256SUMS"  # as sha256sum writes it, of every other file of a dataset
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def needed(module: str) -> ModuleType:
    """Import an optional package. Raises InputError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"{module.partition('.')[0]} is not installed: pip install 'gwm[export]'"
        ) from None


def named(what: str, name) -> str:
    """Return ``name``. Raises InputError unless it can be part of a path and of a key."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise InputError(f"{what} {str(name)[:60]!r}: letters, digits, '_', '-' and '.' are wanted")
    return name


def whole(where: str, value, low: int, high: int) -> int:
    """Return ``value``. Raises InputError unless it is a whole number in [low, high]."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or not low <= value <= high
    ):
        raise InputError(
            f"{where} is {str(value)[:40]!r}: a whole number from {low} to {high} is wanted"
        )
    return int(value)


class UntrustedFolder:
    """The files of a dataset: none outside it, and each as its list of hashes states, if any."""

    def __init__(self, root: Path):
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise InputError(f"no folder {root}")
        self.sums = self._sums() if (self.root / SUMS).exists() else None

    def _sums(self) -> dict[str, str]:
        sums = {}
        for line in read_text(self._inside(SUMS)).splitlines():
            digest, _, name = line.partition("  ")
            if not re.fullmatch(r"[0-9a-f]{64}", digest) or name in sums:
                raise InputError(
                    f"{self.root / SUMS}: {line[:100]!r} is no line of sha256sum, or there twice"
                )
            sums[name] = digest
        return sums

    def file(self, name: str) -> Path:
        """The path of the file ``name``, after a check of its hash."""
        path = self._inside(name)
        if self.sums is not None and self.sums.get(name) != sha256(path):
            raise InputError(f"{path} is not the file of {SUMS}: copy the dataset again")
        return path

    def has(self, name: str) -> bool:
        """Whether the dataset has or lists a file ``name``."""
        return (self.root / name).exists() or (self.sums is not None and name in self.sums)

    def _inside(self, name: str) -> Path:
        try:
            path = (self.root / name).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            raise InputError(f"{self.root / name} is missing") from None
        if not path.is_relative_to(self.root) or not path.is_file():
            raise InputError(f"{self.root / name} is not a file inside the dataset")
        return path

    def json(self, name: str):
        """The content of a JSON file."""
        path = self.file(name)
        return parse_json(path, read_text(path))

    def lines(self, name: str) -> list:
        """The content of a JSON Lines file."""
        path = self.file(name)
        return [parse_json(path, line) for line in read_text(path).splitlines() if line.strip()]


def read_text(path: Path) -> str:
    """Read a text file with bounds on its size and its number of JSON values."""
    size = path.stat().st_size
    if size > MAXIMUM_JSON_BYTES:
        raise InputError(f"{path} has {size} bytes: at most {MAXIMUM_JSON_BYTES} are read")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None
    require_bounded(path, text)
    return text


def require_bounded(where, text: str) -> None:
    """Raise InputError where JSON text would become too many objects."""
    values = sum(text.count(sign) for sign in ",[{")
    if values > MAXIMUM_VALUES:
        raise InputError(f"{where} holds about {values} values: at most {MAXIMUM_VALUES} are read")


@contextmanager
def damage_as_input_error(path: Path, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Raise the ``errors`` of a library as InputError: all mean that the file is damaged."""
    try:
        yield
    except InputError:
        raise
    except errors as error:
        reason = (str(error).splitlines() or [""])[0][:80]
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {reason})") from None


def parse_json(where, text: str):
    """Parse JSON text without NaN or infinity."""

    def refuse(word: str):
        raise ValueError(f"{word} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {str(error)[:100]}") from None


def parse_record(where, record) -> tuple[dict, dict[str, np.ndarray]]:
    """Info and intrinsics (camera -> (3, 3) [pixels]) of an exported episode.

    Args:
        where: the file, for messages.
        record: {"info": ..., "intrinsics": ...} as exports write it.
    """
    try:
        info, intrinsics = dict(record["info"]), {}
        if not isinstance(info["cameras"], dict) or not info["cameras"]:
            raise ValueError("cameras are wanted")
        for name, values in info["cameras"].items():
            named("camera", name)
            Camera.from_dict(values)
            K = np.array(record["intrinsics"][name], np.float64)
            if K.shape != (3, 3) or not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0:
                raise ValueError(f"intrinsics of {name} are no camera matrix")
            intrinsics[name] = K
        info.setdefault("unusable", [])
        for name in ("unusable", "interventions"):
            _require_windows(name, info.get(name) or [])
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{where}: 'info' with cameras and 'intrinsics' are wanted ({str(error)[:100]})"
        ) from None
    for name in ("sha256", "reached"):  # of the bag, and of its stamps
        info.pop(name, None)
    return info, intrinsics


def _require_windows(name: str, windows) -> None:
    if not all(
        len(window) == 2 and all(isinstance(end, int) and 0 <= end < 2**63 for end in window)
        for window in windows
    ):
        raise ValueError(f"{name} is no list of [begin, end] in ns")


def check_table(where, table: ResampledEpisode) -> ResampledEpisode:
    """Return ``table``. Raises InputError unless its parts fit each other and are finite."""
    rows = len(table)
    for name, signs in COLUMNS.items():
        values = table.columns[name]
        if values.shape != (rows, len(signs)):
            raise InputError(f"{where}: {name} is {values.shape}, ({rows}, {len(signs)}) is wanted")
        if not np.isfinite(values).all():
            raise InputError(
                f"{where}: {name} is not finite in row {int(np.argmin(np.isfinite(values).all(1)))}"
            )
    for images in (*table.color.values(), *table.depth.values()):
        if len(images) != rows:
            raise InputError(f"{where}: {len(images)} images for {rows} rows")
    return table


def image_size(where, data: bytes, formats: tuple[str, ...]) -> tuple[int, int]:
    """Height and width [pixels] by the header of an image."""
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            width, height = image.size
            if image.format == "TIFF" and image.tag_v2.get(259, 1) != 1:
                raise ValueError("compressed")
    except (
        OSError,
        ValueError,
        LookupError,
        SyntaxError,
        TypeError,
        OverflowError,
        Image.DecompressionBombError,
    ):
        raise InputError(f"{where}: an image is not {' or '.join(formats)}") from None
    if not 0 < height * width <= MAXIMUM_PIXELS:
        raise InputError(
            f"{where}: an image of {width}x{height} pixels: at most {MAXIMUM_PIXELS} are read"
        )
    return height, width


def decode_image(where, data: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode JPEG or PNG to (H, W, 3) uint8 BGR or (H, W) uint16. ``size`` is the wanted (H, W)."""
    found = image_size(where, data, ("PNG", "JPEG"))
    if size is not None and found != tuple(size):
        raise InputError(
            f"{where}: an image of {found[1]}x{found[0]} pixels among those of {size[1]}x{size[0]}"
        )
    flags = cv2.IMREAD_COLOR if data[:2] == b"\xff\xd8" else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if (
        image is None
        or image.shape not in ((*found, 3), found)
        or image.dtype != (np.uint8, np.uint16)[image.ndim < 3]
    ):
        raise InputError(f"{where}: an image is neither 8-bit colour nor 16-bit grey, or broken")
    return image


def digest(table: ResampledEpisode) -> str:
    """Hex digest of a table, with pixels instead of encoded images."""
    total = hashlib.sha256(
        to_json([table.fps, table.info, sorted(table.color)], sort_keys=True).encode()
    )
    for name in sorted(table.columns):
        total.update(np.ascontiguousarray(table.columns[name]))
    total.update(np.ascontiguousarray(table.usable, np.uint8))
    for camera in sorted(table.color):
        total.update(np.ascontiguousarray(table.intrinsics[camera], np.float64))
        for data in (*table.color[camera], *table.depth[camera]):
            total.update(decode_image(camera, data))
    return total.hexdigest()
