"""The workspace drawn into a camera's picture, to see whether the camera's pose is right."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from gwm_core.geometry.limits import Workspace
from gwm_core.geometry.plan_lines import project

_BOX, _AXES = (255, 200, 0), ((255, 60, 60), (60, 220, 60), (80, 120, 255))  # RGB
_AXIS = 0.2  # [m] length of the base's axes
_PARTS = 24  # of an edge: those behind the camera are left out


def draw_workspace(
    image: np.ndarray, K: np.ndarray, T_base_camera: np.ndarray, workspace: Workspace
) -> np.ndarray:
    """A copy of an image (H, W, 3) with the edges of the workspace and the axes of the base."""
    drawn = np.ascontiguousarray(image).copy()
    corners = np.array(list(itertools.product(*zip(workspace.low, workspace.high))))
    for a, b in itertools.combinations(corners, 2):
        if np.sum(a != b) == 1:
            _draw_edge(drawn, a, b, _BOX, K, T_base_camera)
    for axis, color in zip(np.eye(3) * _AXIS, _AXES):
        _draw_edge(drawn, np.zeros(3), axis, color, K, T_base_camera)
    return drawn


def _draw_edge(image, a, b, color, K, T_base_camera) -> None:
    height, width = image.shape[:2]
    points = a + np.linspace(0.0, 1.0, _PARTS + 1)[:, None] * (b - a)
    pixels = project(points, K, T_base_camera, (width, height)) * [width, height]
    # OpenCV takes 16 bits; far outside nothing is drawn anyway
    pixels[np.abs(pixels).max(axis=1) > 1e4] = np.nan
    for start, end in itertools.pairwise(pixels):
        if np.isfinite([start, end]).all():
            ends = (tuple(np.round(point).astype(int).tolist()) for point in (start, end))
            cv2.line(image, *ends, color, 2, cv2.LINE_AA)
