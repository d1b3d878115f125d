"""Gaussians -> images. ``rasterize`` has the argument names, conventions and results of ``gsplat.rasterization``.

Backends: ``reference`` (plain torch, any float type: the truth), ``cpu`` (numba, float32), ``cuda`` (gsplat). Each is
tested against the reference. Safe from several Python threads; a forked child renders on one core.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gwm_core.errors import one_of
from gwm_core.render import cuda
from gwm_core.render.projection import project, sh_colors

BACKENDS = ("auto", "reference", "cpu", "cuda")
MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")


def choose_backend(device: str = "cpu") -> str:
    """The fastest backend that really works on ``device``: cuda when gsplat draws there, else cpu."""
    return "cuda" if torch.device(device).type == "cuda" and cuda.works() else "cpu"


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    backend: str = "auto",
) -> tuple[Tensor, Tensor, dict]:
    """Draw N Gaussians as C cameras see them.

    Args:
        means: (N, 3) [m]; quats: (N, 4) wxyz of any length; scales: (N, 3) [m]; opacities: (N,) in [0, 1].
        colors: (N, D) or (C, N, D); with ``sh_degree`` 0-3, SH coefficients (N, K, 3) or (C, N, K, 3).
        viewmats: (C, 4, 4) T_camera_world, OpenCV axes; Ks: (C, 3, 3) [pixels], not differentiable.
        near_plane, far_plane: [m]. eps2d: blur added to the image covariance [pixels^2].
        backgrounds: (C, D), seen where light is left over.
        render_mode: RGB, D (accumulated depth), ED (depth over alpha), RGB+D or RGB+ED; depth is the last channel.
        backend: auto, reference, cpu or cuda.

    Returns:
        Image (C, H, W, X), alpha (C, H, W, 1), and a dict with means2d, conics, depths and radii where the backend
        has them.

    Raises:
        InputError: unknown mode or backend. ValueError: shapes that do not fit, or anything that is not finite.
    """
    one_of("render_mode", render_mode, MODES)
    if one_of("backend", backend, BACKENDS) == "auto":
        backend = choose_backend(means.device.type)
    _check(means, quats, scales, opacities, colors, viewmats, Ks, width, height, sh_degree, backgrounds)
    if backend == "cuda":
        return cuda.rasterize(
            means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane=near_plane,
            far_plane=far_plane, eps2d=eps2d, sh_degree=sh_degree, backgrounds=backgrounds, render_mode=render_mode,
        )  # fmt: skip
    if sh_degree is not None:
        colors = sh_colors(means, colors, viewmats, sh_degree)
    elif colors.ndim == 2:
        colors = colors.expand(len(viewmats), -1, -1)
    if "RGB" not in render_mode:
        colors = colors[..., :0]
    view = (viewmats, Ks, width, height, near_plane, far_plane, eps2d)
    image, light, meta = _draw(backend, means, quats, scales, opacities, colors, render_mode != "RGB", view)
    return _finish(image, light, backgrounds, render_mode), 1 - light[..., None], meta


def _draw(backend: str, means, quats, scales, opacities, colors, with_depth: bool, view):
    """Sums of weight * feature (C, H, W, D [+ 1]), light left over (C, H, W), and what was projected."""
    inputs = (means, quats, scales, opacities, colors, view[0])
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    if backend == "cpu" and not wanted:
        from gwm_core.render.cpu import render

        image, light = render(means, quats, scales, opacities, colors, with_depth, *view)
        return image.to(means.dtype), light.to(means.dtype), {}
    if backend == "cpu":
        from gwm_core.render.cpu import composite
    else:
        from gwm_core.render.reference import composite
    ellipses = project(means, quats, scales, opacities, *view)
    features = torch.cat([colors, ellipses.depths[..., None]], dim=-1) if with_depth else colors
    image, light = composite(ellipses, opacities, features, view[2], view[3])
    return image, light, ellipses._asdict()


def _finish(image: Tensor, light: Tensor, backgrounds: Tensor | None, mode: str) -> Tensor:
    """Depth over alpha where wanted; background where light is left over."""
    if mode.endswith("ED"):
        alpha = (1 - light[..., None]).clamp(min=1e-10)
        image = torch.cat([image[..., :-1], image[..., -1:] / alpha], dim=-1)
    if backgrounds is not None and "RGB" in mode:
        depth = image.shape[-1] - backgrounds.shape[-1]
        behind = torch.nn.functional.pad(backgrounds, (0, depth))[:, None, None]  # nothing is behind the depth
        image = image + light[..., None] * behind
    return image


def _finite(tensor: Tensor) -> bool:
    """A finite sum proves it at a tenth of the cost; one that overflowed proves nothing."""
    tensor = tensor.detach()
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _check(means, quats, scales, opacities, colors, viewmats, Ks, width, height, sh_degree, backgrounds) -> None:
    n, c = len(means), len(viewmats)
    shapes = {
        "means": (means, (n, 3)), "quats": (quats, (n, 4)), "scales": (scales, (n, 3)), "opacities": (opacities, (n,)),
        "viewmats": (viewmats, (c, 4, 4)), "Ks": (Ks, (c, 3, 3)),
    }  # fmt: skip
    for name, (tensor, shape) in shapes.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, wanted {shape}")
    tail = 1 if sh_degree is None else 2
    if colors.ndim not in (1 + tail, 2 + tail) or colors.shape[-1 - tail] != n:
        raise ValueError(f"colors has shape {tuple(colors.shape)}, wanted ({c}, {n}, ...) or ({n}, ...)")
    if sh_degree is not None and not (0 <= sh_degree <= 3 and colors.shape[-2] >= (sh_degree + 1) ** 2):
        raise ValueError(f"sh_degree {sh_degree} wants 0-3 and {(sh_degree + 1) ** 2} coefficients or more")
    if width < 1 or height < 1 or width * height > 2**26:
        raise ValueError(f"image of {width}x{height} pixels: 1x1 up to {2**26} pixels are drawn")
    for name, tensor in [*((k, v[0]) for k, v in shapes.items()), ("colors", colors), ("backgrounds", backgrounds)]:
        if tensor is not None and not _finite(tensor):
            raise ValueError(f"{name} holds values that are not finite")
    if (Ks[:, 0, 0] <= 0).any() or (Ks[:, 1, 1] <= 0).any():
        raise ValueError("Ks has a focal length that is not positive")
