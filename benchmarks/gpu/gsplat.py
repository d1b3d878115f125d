"""Builds gsplat's CUDA code, which its first use compiles, so that no later part waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.gpu.figures import Figure, NotHereError
from benchmarks.speed.scene import surfel_scene
from gwm_core.render.api import rasterize


def measure(device: str, _: bool) -> Iterator[Figure]:
    """Time until the first image. Raises NotHereError without a GPU, or without gsplat."""
    if device == "cpu":
        raise NotHereError("no NVIDIA GPU")
    try:
        import gsplat  # noqa: F401
    except ImportError as error:
        raise NotHereError(f"gsplat does not load ({error}): pip install gsplat") from None
    scene = surfel_scene(100, 64, 48)
    tensors = {k: v.cuda() if hasattr(v, "cuda") else v for k, v in scene.items()}
    begun = time.perf_counter()
    rasterize(**tensors, backend="cuda")
    yield Figure("time to the first image", time.perf_counter() - begun, "s")
