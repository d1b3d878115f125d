"""Simulated RGB-D cameras: a renderer, then the errors of a real depth sensor.

Renderers in order of preference: EGL, OSMesa, ray casting (without GL; exact depth, flat shading).
A renderer must be used in the thread that made it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from typing import NamedTuple

import cv2
import mujoco
import numpy as np

from gwm_core.errors import one_of
from gwm_core.geometry.camera import intrinsics, look_at
from gwm_core.sim.scene import CAMERAS, FOVY, apply_layout, build_model, place_camera
from gwm_core.sim.simulator import Snapshot

RENDERERS = ("egl", "osmesa", "raycast")
FREE = "free"  # the camera of the model that ``SimCameras.view`` moves
MIN_DEPTH, MAX_DEPTH = 0.28, 6.0  # [m] range of a D435
NOISE = 0.0012  # [1/m] depth noise sigma = NOISE * z^2, D435 at 424x240 on a textured surface
_PROBE = (
    "import mujoco as m; r = m.Renderer(m.MjModel.from_xml_string('<mujoco/>'), 8, 8);"
    "r.update_scene(m.MjData(r._model)); r.render(); r.close()"
)


def choose_renderer(name: str = "auto") -> str:
    """The first renderer that renders a frame here, tried in a child process."""
    if name != "auto":
        return one_of("renderer", name, RENDERERS)
    for candidate in RENDERERS[:2]:
        env = {**os.environ, "MUJOCO_GL": candidate, "PYOPENGL_PLATFORM": candidate}
        child = subprocess.run(
            [sys.executable, "-c", _PROBE], env=env, capture_output=True, check=False
        )
        if child.returncode == 0:
            return candidate
    return "raycast"


def by_clock(stamp: int, seconds: float, offset_ms: float, drift_ppm: float) -> int:
    """Host time [ns] on a camera's own clock, ``seconds`` after both were started."""
    return stamp + round(1e6 * offset_ms + 1e3 * drift_ppm * seconds)


class SimImage(NamedTuple):
    """The images of one camera."""

    camera: str
    color: np.ndarray  # (H, W, 3) uint8
    depth_mm: np.ndarray  # (H, W) uint16, 0 = no reading


class SimCameras:
    """Renders snapshots for all cameras. Make and use it in one thread.

    Args:
        width, height: image size in pixels.
        renderer: "egl", "osmesa" or "raycast".
    """

    def __init__(self, width: int = 424, height: int = 240, renderer: str = "egl"):
        self.width = width
        self.height = height
        self.renderer = one_of("renderer", renderer, RENDERERS)
        self.K = intrinsics(width, height, FOVY)
        self.T_base_camera = {name: look_at(*pose) for name, pose in CAMERAS.items()}
        self._model = build_model()
        self._data = mujoco.MjData(self._model)
        self._layout = None
        self._renderer = (
            _RayCaster(self._model, self.K, width, height)
            if renderer == "raycast"
            else _Rasterizer(self._model, width, height, renderer)
        )

    def close(self) -> None:
        """Release the GL context."""
        self._renderer.close()

    def __call__(self, snapshot: Snapshot) -> list[SimImage]:
        """The images of every camera; equal for equal snapshots."""
        self._apply(snapshot)
        return [self._image(snapshot, name, i) for i, name in enumerate(CAMERAS)]

    def view(self, snapshot: Snapshot, T_base_camera: np.ndarray) -> SimImage:
        """The images of one more camera at any pose, with the same depth errors."""
        place_camera(self._model, FREE, T_base_camera)
        self._apply(snapshot)
        return self._image(snapshot, FREE, len(CAMERAS))

    def _apply(self, snapshot: Snapshot) -> None:
        if snapshot.layout is not self._layout:
            apply_layout(self._model, self._data, snapshot.layout)
            self._layout = snapshot.layout
        self._data.qpos[:] = snapshot.qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _image(self, snapshot: Snapshot, name: str, number: int) -> SimImage:
        color, depth = self._renderer(self._data, name)
        rng = np.random.default_rng([snapshot.layout.seed, number, round(snapshot.time * 1000)])
        return SimImage(name, color, sensor_depth(depth, self.K, snapshot.layout.noise, rng))


def sensor_depth(
    depth: np.ndarray, K: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Stereo depth (H, W) uint16 [mm] from true depth [m]: noise, quantised disparity, and holes at
    edges.

    Args:
        level: 1 is a good D435; noise grows in proportion, and above 1 there are large holes.
    """
    h, w = depth.shape
    # neighbouring pixels share a matching window, so their noise is correlated
    coarse = rng.standard_normal((h // 2, w // 2), dtype=np.float32)
    noise = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR)
    # 1.5 restores the variance, which interpolation lowered
    noisy = depth + (1.5 * NOISE * level) * depth * depth * noise
    baseline_f = 0.05 * K[0, 0]  # [m pixels] 50 mm baseline
    with np.errstate(divide="ignore"):
        noisy = baseline_f / (np.round(32 * baseline_f / noisy) / 32)  # 1/32 pixel disparity steps
    step = cv2.dilate(depth, np.ones((3, 3))) - cv2.erode(depth, np.ones((3, 3)))
    hole = (step > 0.03 * depth) & (rng.random((h, w), dtype=np.float32) < 0.6)
    if level > 1.0:
        blotch = cv2.resize(
            rng.random((h // 8, w // 8), dtype=np.float32), (w, h), interpolation=cv2.INTER_LINEAR
        )
        hole |= blotch > 1.0 - 0.03 * level
    hole |= ~np.isfinite(noisy) | (noisy < MIN_DEPTH) | (noisy > MAX_DEPTH)
    return np.where(hole, 0, np.rint(np.where(hole, 0, noisy) * 1000)).astype(np.uint16)


def cast_rays(model: mujoco.MjModel, data: mujoco.MjData, eye: np.ndarray, rays: np.ndarray):
    """First intersections of unit rays (N, 3) from ``eye``: geom (N,), distance (N,) [m] or -1, and
    surface normal (N, 3).
    """
    geom = np.empty(len(rays), np.int32)
    distance = np.empty(len(rays))
    normal = np.empty((len(rays), 3))
    mujoco.mj_multiRay(
        model,
        data,
        eye,
        np.ascontiguousarray(rays).reshape(-1),
        np.array([1, 1, 1, 0, 0, 0], np.uint8),
        1,
        -1,
        geom,
        distance,
        normal.reshape(-1),
        len(rays),
        20.0,
    )
    return geom, distance, normal


class _Rasterizer:
    """RGB and metric depth from one OpenGL pass."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int, renderer: str):
        os.environ["PYOPENGL_PLATFORM"] = renderer
        # the software rasteriser must not use every core
        os.environ.setdefault("LP_NUM_THREADS", "1")
        # loads the GL library
        platform = importlib.import_module(f"mujoco.{renderer}")
        self._gl = platform.GLContext(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._model, self._view = model, mujoco.MjvScene(model, maxgeom=200)
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._color = np.empty((height, width, 3), np.uint8)
        self._z = np.empty((height, width), np.float32)
        self._option = mujoco.MjvOption()
        self._near = model.vis.map.znear * model.stat.extent
        self._far = model.vis.map.zfar * model.stat.extent

    def __call__(self, data: mujoco.MjData, camera: str) -> tuple[np.ndarray, np.ndarray]:
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self._model.camera(camera).id
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._option,
            None,
            view,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._view,
        )
        mujoco.mjr_render(self._rect, self._view, self._context)
        mujoco.mjr_readPixels(self._color, self._z, self._rect, self._context)
        depth = self._near * self._far / (self._near + self._z * (self._far - self._near))
        return self._color[::-1].copy(), np.ascontiguousarray(depth[::-1])

    def close(self) -> None:
        with contextlib.suppress(AttributeError):
            self._context.free()
        self._gl.free()


class _RayCaster:
    """One ray per pixel against the model's geometry, shaded by the surface normal."""

    def __init__(self, model: mujoco.MjModel, K: np.ndarray, width: int, height: int):
        self._model = model
        v, u = np.mgrid[:height, :width] + 0.5
        rays = np.stack(
            [(u - K[0, 2]) / K[0, 0], -(v - K[1, 2]) / K[1, 1], -np.ones_like(u)], -1
        ).reshape(-1, 3)
        self._length = np.linalg.norm(rays, axis=1)
        self._rays, self._shape = rays / self._length[:, None], (height, width)

    def __call__(self, data: mujoco.MjData, camera: str) -> tuple[np.ndarray, np.ndarray]:
        eye, rotation = data.camera(camera).xpos, data.camera(camera).xmat.reshape(3, 3)
        rays = self._rays @ rotation.T
        geom, distance, normal = cast_rays(self._model, data, eye, rays)
        hit = distance >= 0
        normal = normal * -np.sign(np.sum(normal * rays, axis=1, keepdims=True))
        light = -np.asarray(self._model.light("lamp").dir)
        facing, lit = (
            np.abs(np.sum(normal * rays, axis=1)),
            normal @ (light / np.linalg.norm(light)),
        )
        material = self._model.geom_matid[geom]
        rgba = np.where(
            (material >= 0)[:, None], self._model.mat_rgba[material], self._model.geom_rgba[geom]
        )
        shade = 0.35 + 0.25 * facing + self._model.light("lamp").diffuse[0] * np.maximum(0.0, lit)
        color = np.where(hit[:, None], rgba[:, :3] * shade[:, None], 0.1)
        depth = np.where(hit, distance / self._length, 0.0)
        return (
            (np.clip(color, 0, 1) * 255).astype(np.uint8).reshape(*self._shape, 3),
            depth.astype(np.float32).reshape(self._shape),
        )

    def close(self) -> None:
        pass
