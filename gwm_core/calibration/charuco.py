"""The ChArUco board: print it, find it in an image, and estimate its pose.

OpenCV's board frame starts at the outer corner of the first square, x along the columns, y down the
rows and z *into* the board, away from the viewer. OpenCV counts pixels from their centres, we from
their edges (a centre is at + 0.5). Only ``detect`` and ``draw_axes`` convert between the two, so K
is everywhere the K of a ``Frame``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from gwm_core.errors import InputError

A4 = (0.297, 0.210)  # [m] landscape
DPI = 300
HALF_PIXEL = 0.5
MINIMUM_CORNERS = 8  # of a view that counts
MINIMUM_SIDE = 12  # [pixels] of a marker: at 9 its squares' corners are no longer found
EXAMPLE = "7x5:0.04:0.03:DICT_4X4_50"


class Corners(NamedTuple):
    """Corners of the squares found in one image."""

    points: np.ndarray  # (M, 3) [m] in the board frame
    pixels: np.ndarray  # (M, 2) pixels, centres at + 0.5


@dataclass(frozen=True)
class Board:
    """A board by its numbers; ``parse`` reads and checks ``7x5:0.04:0.03:DICT_4X4_50``."""

    columns: int = 7
    rows: int = 5
    square: float = 0.04  # [m]
    marker: float = 0.03  # [m]
    dictionary: str = "DICT_4X4_50"

    def __str__(self) -> str:
        return f"{self.columns}x{self.rows}:{self.square:g}:{self.marker:g}:{self.dictionary}"

    @staticmethod
    def parse(text: str) -> Board:
        """A board from COLUMNSxROWS:SQUARE:MARKER:DICTIONARY [m]. Raises InputError with what is
        wrong.
        """
        try:
            size, square, marker, dictionary = text.split(":")
            columns, rows = (int(n) for n in size.lower().split("x"))
            board = Board(columns, rows, float(square), float(marker), dictionary)
        except ValueError:
            raise InputError(
                f"board '{text}' is not COLUMNSxROWS:SQUARE:MARKER:DICTIONARY, as {EXAMPLE}"
            ) from None
        if board.square > 1.0 and board.square > board.marker > 1.0:
            metres = (
                f"{columns}x{rows}:{board.square / 1000:g}:{board.marker / 1000:g}:{dictionary}"
            )
            raise InputError(f"board '{text}': sizes are in metres: {metres}?")
        if not (
            3 <= columns <= 30 and 3 <= rows <= 30 and 0.005 <= board.marker < board.square <= 1.0
        ):
            raise InputError(
                f"board '{text}': 3-30 squares each way, 5 mm <= marker < square <= 1 m"
            )
        number = getattr(cv2.aruco, dictionary, None) if dictionary.startswith("DICT_") else None
        if number is None:
            known = [name for name in dir(cv2.aruco) if name.startswith("DICT_")]
            raise InputError(
                f"board '{text}': unknown dictionary {dictionary}, valid are"
                f" {', '.join(sorted(known))}"
            )
        there = len(cv2.aruco.getPredefinedDictionary(number).bytesList)
        if columns * rows // 2 > there:
            raise InputError(
                f"board '{text}' needs {columns * rows // 2} markers, {dictionary} has {there}"
            )
        return board

    @cached_property
    def _opencv(self) -> cv2.aruco.CharucoBoard:
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))
        return cv2.aruco.CharucoBoard(
            (self.columns, self.rows), self.square, self.marker, dictionary
        )

    @cached_property
    def _patterns(self) -> tuple[cv2.aruco.CharucoBoard, ...]:
        """The pattern of OpenCV 4.6 and later, and that of older ones and calib.io.

        They are the same where the number of rows is odd.
        """
        legacy = cv2.aruco.CharucoBoard(
            (self.columns, self.rows), self.square, self.marker, self._opencv.getDictionary()
        )
        legacy.setLegacyPattern(True)
        return (self._opencv,) if self.rows % 2 else (self._opencv, legacy)

    @property
    def size(self) -> np.ndarray:
        """Width and height [m]."""
        return self.square * np.array([self.columns, self.rows])

    @property
    def centre(self) -> np.ndarray:
        """Middle of the board (3,) [m] in its own frame."""
        return np.array([*self.size / 2, 0.0])

    def draw(self, pixels_per_square: int) -> np.ndarray:
        """The board (H, W) uint8 without a margin."""
        return self._opencv.generateImage(
            (self.columns * pixels_per_square, self.rows * pixels_per_square)
        )

    def detect(self, image: np.ndarray) -> Corners | None:
        """Corners in an image (H, W, 3) RGB; None for fewer than ``MINIMUM_CORNERS``."""
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        for pattern in self._patterns:
            corners, ids, _, _ = cv2.aruco.CharucoDetector(pattern).detectBoard(gray)
            if ids is not None and len(ids) >= MINIMUM_CORNERS:
                points, pixels = pattern.matchImagePoints(corners, ids)
                return Corners(
                    points.reshape(-1, 3).astype(float),
                    pixels.reshape(-1, 2).astype(float) + HALF_PIXEL,
                )
        return None

    def markers(self, image: np.ndarray) -> tuple[list[int], float]:
        """Ids of the markers in an image (H, W, 3) RGB, and the median side [pixels]."""
        detector = cv2.aruco.ArucoDetector(self._opencv.getDictionary())
        corners, ids, _ = detector.detectMarkers(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        if ids is None:
            return [], 0.0
        return ids.ravel().tolist(), float(np.median([cv2.arcLength(c, True) / 4 for c in corners]))

    def why_not_found(self, images: list[np.ndarray]) -> str:
        """Why images (H, W, 3) do not show this board, and what to do."""
        found = [self.markers(image) for image in images]
        best = int(np.argmax([len(ids) for ids, _ in found]))
        ids, side = found[best]
        if len(ids) < 2:
            return (
                f"no marker of {self.dictionary} is found: another dictionary (--board), or markers"
                " too small in the image, blurred or in glare"
            )
        if side < MINIMUM_SIDE:
            return (
                f"its markers are {side:.0f} pixels wide in the image, {MINIMUM_SIDE} are wanted:"
                " bring it nearer, or take larger images"
            )
        count = 1 + max(max(ids, default=0) for ids, _ in found)
        for columns, rows in _sizes(count):
            other = replace(self, columns=columns, rows=rows)
            if (columns, rows) != (self.columns, self.rows) and other.detect(
                images[best]
            ) is not None:
                return (
                    f"{count} markers are found, as on a board of {columns}x{rows}: --board {other}"
                )
        wanted = self.columns * self.rows // 2
        return (
            f"markers 0 to {count - 1} are found, this board has 0 to {wanted - 1}: give its real"
            " numbers with --board, or bring the whole of it into view"
        )


def _sizes(markers: int) -> list[tuple[int, int]]:
    """Columns and rows of the boards with so many markers."""
    squares = (2 * markers, 2 * markers + 1)
    return [
        (n, total // n)
        for total in squares
        for n in range(3, 31)
        if total % n == 0 and 3 <= total // n <= 30
    ]


def board_pose(corners: Corners, K: np.ndarray) -> np.ndarray:
    """T_camera_board (4, 4): the better of the two poses of a plane, then refined."""
    points, pixels = corners
    _, rotations, translations, _ = cv2.solvePnPGeneric(
        points, pixels, K, None, flags=cv2.SOLVEPNP_IPPE
    )
    rotation, translation = cv2.solvePnPRefineLM(
        points, pixels, K, None, rotations[0], translations[0]
    )
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(rotation)[0]
    T[:3, 3] = translation[:, 0]
    return T


def project(points: np.ndarray, T_camera_board: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Pixels (M, 2), centres at + 0.5, of points (M, 3) [m]; the pose is (4, 4) or (M, 4, 4)."""
    local = (T_camera_board[..., :3, :3] @ points[..., None])[..., 0] + T_camera_board[..., :3, 3]
    return local[:, :2] / local[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]


def draw_axes(
    image: np.ndarray, corners: Corners, T_camera_board: np.ndarray, K: np.ndarray
) -> np.ndarray:
    """A copy of the image (H, W, 3) with the board's axes and corners.

    Measured corners are circles, expected ones crosses.
    """
    image, sixteenth = np.ascontiguousarray(image).copy(), 4

    def fixed(pixels):  # OpenCV draws at sixteenths of a pixel
        return [
            tuple(p) for p in np.rint((pixels - HALF_PIXEL) * 2**sixteenth).astype(int).tolist()
        ]

    size = image.shape[1] / 424
    for found, wanted in zip(
        fixed(corners.pixels), fixed(project(corners.points, T_camera_board, K))
    ):
        cv2.circle(
            image, found, round(4 * size * 2**sixteenth), (0, 220, 0), 1, cv2.LINE_AA, sixteenth
        )
        for step in ((1, 0), (0, 1)):
            ends = [
                tuple(int(w + s * k * 3 * size * 2**sixteenth) for w, s in zip(wanted, step))
                for k in (-1, 1)
            ]
            cv2.line(image, *ends, (255, 40, 40), 1, cv2.LINE_AA, sixteenth)
    ends = fixed(project(np.vstack([np.zeros(3), 0.08 * np.eye(3)]), T_camera_board, K))
    for end, color in zip(ends[1:], ((255, 0, 0), (0, 200, 0), (40, 80, 255))):
        cv2.line(image, ends[0], end, color, max(1, round(2 * size)), cv2.LINE_AA, sixteenth)
    return image


def print_board(board: Board, path: Path) -> None:
    """Write an A4 page (landscape) as PNG at true scale; the file states its dots per inch.

    Raises:
        InputError: the board is larger than A4, or the file cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path}: a board is printed as .png")
    if np.any(board.size > A4):
        width, height = 1000 * board.size
        raise InputError(
            f"board {board} is {width:.0f} x {height:.0f} mm, larger than A4 (297 x 210 mm)"
        )
    dots = DPI / 0.0254  # per metre
    page = np.full(np.rint(np.array(A4[::-1]) * dots).astype(int), 255, np.uint8)
    width, height = np.rint(board.size * dots).astype(int)
    top, left = (page.shape[0] - height) // 2, (page.shape[1] - width) // 2
    page[top : top + height, left : left + width] = cv2.resize(
        board.draw(480), (width, height), 0, 0, cv2.INTER_AREA
    )
    text = f"gwm {board}   print at 100 %, then measure: one square is {1000 * board.square:g} mm"
    cv2.putText(
        page, text, (left, page.shape[0] - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 0, 2, cv2.LINE_AA
    )
    try:
        Image.fromarray(page).save(path, dpi=(DPI, DPI))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
