"""The image formats of LeRobot: H.264 colour, 12-bit HEVC depth, and single images.

Depth codes are logarithmic, https://github.com/huggingface/lerobot `datasets/depth_utils.py`
(0.6.1): 12 bits from 0.01 to 10 m. Code 0 is decoded as 0 mm, no reading; LeRobot itself
reads 10 mm there.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from gwm_core.errors import InputError
from gwm_core.interop.untrusted import MAXIMUM_PIXELS, image_size, needed

NEAR, FAR, SHIFT = 0.01, 10.0, 3.5  # [m]
_TOP = 4095  # largest 12-bit code
COLOR = {"crf": "23", "g": "2", "preset": "veryfast"}
# by superfast 7 % larger than by the default, in two thirds of the time
DEPTH = {"preset": "superfast", "x265-params": "lossless=1:log-level=error:keyint=2"}


def to_codes(
    depth_mm: np.ndarray, near: float = NEAR, far: float = FAR, shift: float = SHIFT
) -> np.ndarray:
    """12-bit codes (H, W) uint16 of depth (H, W) uint16 [mm]; ``near``, ``far``, ``shift`` [m]."""
    return _codes(near, far, shift)[depth_mm]


@cache
def _codes(near: float, far: float, shift: float) -> np.ndarray:
    """The code of every depth, (65536,)."""
    low, high = np.log((near + shift) * 1e3), np.log((far + shift) * 1e3)
    steps = (np.log(np.arange(65536) + shift * 1e3) - low) / (high - low) * _TOP
    return np.clip(np.rint(steps), 0, _TOP).astype(np.uint16)


def from_codes(
    codes: np.ndarray, near: float = NEAR, far: float = FAR, shift: float = SHIFT, log: bool = True
):
    """Depth (H, W) uint16 [mm] of codes (H, W): the inverse of ``to_codes``.

    It is exact within 1 mm from 0.3 to 1.3 m.
    """
    part = np.arange(_TOP + 1) / _TOP
    low, high = (np.log(near + shift), np.log(far + shift)) if log else (near, far)
    metres = np.exp(low + part * (high - low)) - shift if log else low + part * (high - low)
    table = np.clip(np.rint(metres * 1e3), 0, 65535).astype(np.uint16)
    table[0] = 0
    return table[np.minimum(codes, _TOP)]


def tiff(depth_mm: np.ndarray) -> bytes:
    """Uncompressed TIFF of (H, W) uint16 [mm]."""
    out = io.BytesIO()
    Image.fromarray(depth_mm).save(out, "TIFF", compression="raw")
    return out.getvalue()


def from_tiff(where, data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Depth (H, W) uint16 [mm] of an uncompressed 16-bit TIFF of ``size``.

    Raises InputError for anything else.
    """
    if image_size(where, data, ("TIFF",)) != tuple(size):
        raise InputError(f"{where}: a depth image is not {size[1]}x{size[0]}")
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            found = np.array(image)
    except (OSError, ValueError, LookupError, SyntaxError, TypeError, OverflowError, EOFError):
        raise InputError(f"{where}: a depth image is broken") from None
    if found.dtype != np.uint16 or found.shape != tuple(size):
        raise InputError(f"{where}: a depth image is not 16 bit")
    return found


class Encoder:
    """Writes one MP4 of ``size`` (H, W) at ``fps``, also of several episodes in turn."""

    def __init__(self, path: Path, size: tuple[int, int], fps: int, depth: bool):
        av = needed("av")
        self._av = av
        self.path = path
        self.depth = depth
        self.count = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = av.open(str(path), "w", options={"movflags": "faststart"})
        kind, options = ("libx265", DEPTH) if depth else ("libx264", COLOR)
        self._stream = self._file.add_stream(kind, rate=fps, options=options)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = "gray12le" if depth else "yuv420p"

    def write(self, image: np.ndarray) -> None:
        """Write a frame: (H, W, 3) uint8 BGR, or (H, W) uint16 [mm] of a depth stream."""
        if self.depth:
            frame = self._av.VideoFrame(image.shape[1], image.shape[0], "gray12le")
            plane = frame.planes[0]
            rows = np.frombuffer(plane, np.uint16).reshape(plane.height, plane.line_size // 2)
            rows[:, : image.shape[1]] = to_codes(image)
        else:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        frame.pts, self.count = self.count, self.count + 1
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and finish the file."""
        self._file.mux(self._stream.encode())
        self._file.close()


def frames(path: Path, size: tuple[int, int], fps: int, depth: bool) -> Iterator[np.ndarray]:
    """Frames of an MP4 in order: (H, W, 3) uint8 BGR, or 12-bit codes (H, W) uint16 of depth.

    Raises InputError for a damaged file and another size, pixel format or rate.
    """
    av = needed("av")
    previous = av.logging.get_level()
    av.logging.set_level(av.logging.PANIC)
    try:
        with av.open(str(path), "r", format="mp4") as file:
            stream = file.streams.video[0]
            _check(path, stream, size)
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(MAXIMUM_PIXELS)}
            for k, frame in enumerate(file.decode(stream)):
                yield _frame(path, frame, k, size, fps, depth)
    except (
        av.FFmpegError,
        OSError,
        LookupError,
        ValueError,
        MemoryError,
        TypeError,
        AttributeError,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} cannot be decoded ({type(error).__name__}: {str(error)[:60]})"
        ) from None
    finally:
        av.logging.set_level(previous)


def _check(path: Path, stream, size: tuple[int, int]) -> None:
    if (stream.height, stream.width) != tuple(size):
        raise InputError(
            f"{path} is {stream.width}x{stream.height}, info.json says {size[1]}x{size[0]}"
        )


def _frame(path: Path, frame, k: int, size: tuple[int, int], fps: int, depth: bool) -> np.ndarray:
    if (frame.height, frame.width) != tuple(size):
        raise InputError(
            f"{path}: frame {k} is {frame.width}x{frame.height}, not {size[1]}x{size[0]}"
        )
    if frame.time is None or abs(frame.time - k / fps) > 0.4 / fps:
        raise InputError(f"{path}: frame {k} is at {frame.time} s, not at {k / fps:.3f} s")
    if not depth:
        return frame.to_ndarray(format="bgr24")
    if frame.format.name != "gray12le":
        raise InputError(f"{path} is {frame.format.name}: depth is wanted as gray12le")
    plane = frame.planes[0]
    return (
        np.frombuffer(plane, np.uint16)
        .reshape(plane.height, plane.line_size // 2)[:, : size[1]]
        .copy()
    )
