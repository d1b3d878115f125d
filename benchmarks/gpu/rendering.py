"""gsplat against the reference in float64, in values and gradients, and its speed."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu.figures import Figure, NotHereError, median_ms
from benchmarks.speed.rendering import forward, forward_backward
from benchmarks.speed.scene import LEAVES, as_double, random_scene, surfel_scene
from gwm_core.render import cuda
from gwm_core.render.api import rasterize

# as of tests/test_render.py for the CPU's renderer
MEAN, SHARE, BEYOND, GRADIENT = 1e-4, 1e-3, 2e-3, 1e-4
SIZES = ((320, 240, 20_000), (640, 480, 100_000))


def measure(device: str, quick: bool) -> Iterator[Figure]:
    """Parity of the device's renderer with the reference; speed of both renderers.

    Raises NotHereError where a GPU is there and gsplat does not render on it.
    """
    backend = "cuda" if device == "cuda" else "cpu"
    if backend == "cuda" and not cuda.works():
        raise NotHereError("gsplat renders nothing: see the part before")
    yield from _parity(backend, quick)
    for width, height, count in SIZES[: 1 if quick else None]:
        scene = surfel_scene(count, width, height)
        for name, draw in (("forward", forward), ("forward and backward", forward_backward)):
            for drawn_by in ["cpu", *(["cuda"] if backend == "cuda" else [])]:
                what = f"{name}, {width}x{height}, {count} Gaussians, {drawn_by}"
                ms = median_ms(
                    lambda draw=draw, scene=scene, by=drawn_by: draw(scene, by), 9 - 8 * quick
                )
                yield Figure(what, ms, "ms")


def _parity(backend: str, quick: bool) -> Iterator[Figure]:
    """The worst difference over scenes."""
    scenes = [random_scene(seed) for seed in range(1 if quick else 3)]
    scenes += [
        as_double(surfel_scene(3000, 160, 120, seed, 1.3)) for seed in range(1 if quick else 2)
    ]
    worst = torch.stack([torch.tensor(_differences(scene, backend)) for scene in scenes])
    mean, beyond, alpha, gradient = worst.amax(0).tolist()
    yield Figure("mean difference of images", mean, "", MEAN)
    yield Figure(f"pixels that differ by more than {BEYOND:g}", 100 * beyond, "%", 100 * SHARE)
    yield Figure("mean difference of alpha", alpha, "", MEAN)
    yield Figure("difference of gradients", gradient, "of their norm", GRADIENT)


def _differences(scene: dict, backend: str) -> tuple[float, float, float, float]:
    """Of images, of the share of pixels beyond ``BEYOND``, of alphas, and of gradients."""
    torch.manual_seed(0)
    shape = len(scene["viewmats"]), scene["height"], scene["width"]
    weights = (
        torch.randn(*shape, 4, dtype=torch.float64),
        torch.randn(*shape, 1, dtype=torch.float64),
    )
    images, alphas, grads = [], [], []
    for drawn_by in ("reference", backend):
        to = {"device": "cuda", "dtype": torch.float32} if drawn_by == "cuda" else {}
        inputs = {k: v.to(**to) if torch.is_tensor(v) else v for k, v in scene.items()}
        leaves = {name: inputs[name].clone().requires_grad_() for name in LEAVES}
        image, alpha, _ = rasterize(**(inputs | leaves), render_mode="RGB+D", backend=drawn_by)
        image, alpha = image.double().cpu(), alpha.double().cpu()
        ((image * weights[0]).sum() + (alpha * weights[1]).sum()).backward()
        images.append(image.detach())
        alphas.append(alpha.detach())
        grads.append([leaf.grad.double().cpu() for leaf in leaves.values()])
    error = (images[0] - images[1]).abs()
    beyond = (error.amax(-1) > BEYOND).double().mean()
    gradient = max(float((a - b).norm() / a.norm()) for a, b in zip(*grads))
    return float(error.mean()), float(beyond), float((alphas[0] - alphas[1]).abs().mean()), gradient
