"""Gaussians -> images. ``rasterize`` has the names, conventions and results of
``gsplat.rasterization`` (1.5.3).

These arguments are missing: tile_size, sparse_grad, absgrad, channel_chunk, distributed,
camera_model, segmented, covars, with_ut, with_eval3d, lens distortion and rolling shutter. Shapes
have no further batch dimensions.

Backends: ``reference`` (plain torch, any float type), ``cpu`` (C or numba kernels, float32) and
``cuda`` (gsplat). Tests compare each with the reference. Several Python threads may render at once;
a forked child renders on one core.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gwm_core.errors import one_of
from gwm_core.render import cuda
from gwm_core.render.projection import project, sh_colors

BACKENDS = ("auto", "reference", "cpu", "cuda")
MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
RASTERIZE_MODES = ("classic", "antialiased")


def choose_backend(device: str = "cpu") -> str:
    """The fastest backend on ``device``: cuda where gsplat renders, else cpu."""
    return "cuda" if torch.device(device).type == "cuda" and cuda.works() else "cpu"


class Splats(NamedTuple):
    """N Gaussians, shapes as of ``rasterize``."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor


class Views(NamedTuple):
    """C cameras, shapes as of ``rasterize``."""

    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int


class Options(NamedTuple):
    """How to render, as of ``rasterize``."""

    near_plane: float
    far_plane: float
    radius_clip: float
    eps2d: float
    sh_degree: int | None
    packed: bool
    render_mode: str
    rasterize_mode: str


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
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = True,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    rasterize_mode: str = "classic",
    backend: str = "auto",
) -> tuple[Tensor, Tensor, dict]:
    """Render N Gaussians for C cameras: image (C, H, W, X), alpha (C, H, W, 1), and a dict with
    means2d, conics, depths and radii where the backend has them.

    Args:
        means: (N, 3) [m]; quats: (N, 4) wxyz, any length; scales: (N, 3) [m]; opacities: (N,) 0-1.
        colors: (N, D) or (C, N, D); with ``sh_degree`` 0-3 coefficients ([C,] N, K, 3).
        viewmats: (C, 4, 4) T_camera_world, OpenCV axes; Ks: (C, 3, 3) [pixels], no gradient.
        near_plane, far_plane: [m]. radius_clip: [pixels]; smaller Gaussians are left out.
        eps2d: blur added to the image covariance [pixels^2].
        packed: gsplat's layout of what is in the dict; the image is the same.
        backgrounds: (C, D), or (C, 3) with ``sh_degree``; not in modes D and ED.
        render_mode: RGB, D (accumulated depth), ED (depth over alpha), RGB+D or RGB+ED; depth is
            the last channel.
        rasterize_mode: classic; antialiased lowers opacities by as much as the blur widens.
        backend: auto, reference, cpu or cuda.

    Raises:
        InputError: unknown modes or backend. ValueError: shapes that do not fit, or values that
            are not finite.
    """
    one_of("render_mode", render_mode, MODES)
    one_of("rasterize_mode", rasterize_mode, RASTERIZE_MODES)
    if one_of("backend", backend, BACKENDS) == "auto":
        backend = choose_backend(means.device.type)
    splats = Splats(means, quats, scales, opacities, colors)
    views = Views(viewmats, Ks, width, height)
    clip = near_plane, far_plane, radius_clip
    options = Options(*clip, eps2d, sh_degree, packed, render_mode, rasterize_mode)
    _check(splats, views, sh_degree, backgrounds)
    if backend == "cuda":
        image, alpha, meta = cuda.rasterize(*splats, *views, **options._asdict())
        light = 1 - alpha
    else:
        image, light, meta = _render_on_cpu(backend, splats, views, options)
        alpha = 1 - light
    return _with_background(image, light, backgrounds, render_mode), alpha, meta


def _render_on_cpu(backend: str, splats: Splats, views: Views, options: Options):
    """Image (C, H, W, X), transmittance left over (C, H, W, 1), and the projection.

    The kernels of "cpu" also serve tensors on a GPU, where gsplat does not work.
    """
    device = splats.means.device
    if backend == "cpu" and device.type != "cpu":
        splats = Splats(*(tensor.cpu() for tensor in splats))
        views = views._replace(viewmats=views.viewmats.cpu(), Ks=views.Ks.cpu())
        image, light, meta = _render_on_cpu(backend, splats, views, options)
        return image.to(device), light.to(device), meta
    colors, mode = splats.colors, options.render_mode
    if options.sh_degree is not None:
        colors = sh_colors(splats.means, colors, views.viewmats, options.sh_degree)
    elif colors.ndim == 2:
        colors = colors.expand(len(views.viewmats), -1, -1)
    if "RGB" not in mode:
        colors = colors[..., :0]
    splats = splats._replace(colors=colors)
    image, light, meta = _composite(backend, splats, views, options, mode != "RGB")
    light = light[..., None]
    return _with_depth(image, light, mode), light, meta


def _composite(backend: str, splats: Splats, views: Views, options: Options, with_depth: bool):
    """Sums of weight * feature (C, H, W, D [+ 1]), transmittance left over (C, H, W), and the
    projection.
    """
    *gaussians, colors = splats
    camera = (*views, options.near_plane, options.far_plane, options.eps2d)
    rules = options.radius_clip, options.rasterize_mode == "antialiased"
    inputs = (*splats, views.viewmats)
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    if backend == "cpu" and not needs_grad and rules == (0, False):
        from gwm_core.render.cpu import render

        image, light = render(*splats, with_depth, *camera)
        return image.to(splats.means.dtype), light.to(splats.means.dtype), {}
    if backend == "cpu":
        from gwm_core.render.cpu import composite
    else:
        from gwm_core.render.reference import composite
    ellipses, opacities = project(*gaussians, *camera, *rules)
    features = torch.cat([colors, ellipses.depths[..., None]], dim=-1) if with_depth else colors
    image, light = composite(ellipses, opacities, features, views.width, views.height)
    return image, light, ellipses._asdict()


def _with_depth(image: Tensor, light: Tensor, mode: str) -> Tensor:
    """Divide depth by alpha in the modes ED."""
    if not mode.endswith("ED"):
        return image
    return torch.cat([image[..., :-1], image[..., -1:] / (1 - light).clamp(min=1e-10)], dim=-1)


def _with_background(image: Tensor, light: Tensor, backgrounds: Tensor | None, mode: str) -> Tensor:
    """Add the background where transmittance (C, H, W, 1) is left over.

    Done here for all backends: gsplat 1.5.3 takes backgrounds of another shape when it packs
    (`rasterize_to_pixels` of its cuda/_wrapper.py).
    """
    if backgrounds is None or "RGB" not in mode:
        return image
    depth = image.shape[-1] - backgrounds.shape[-1]
    # depth has no background
    return image + light * torch.nn.functional.pad(backgrounds, (0, depth))[:, None, None]


def _finite(tensor: Tensor) -> bool:
    """Whether all values are finite. A finite sum proves it at a tenth of the cost."""
    tensor = tensor.detach()
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _check(splats: Splats, views: Views, sh_degree: int | None, backgrounds) -> None:
    """Raise ValueError for shapes or values that cannot be rendered."""
    means, quats, scales, opacities, colors = splats
    viewmats, Ks, width, height = views
    n, c = len(means), len(viewmats)
    shapes = {
        "means": (means, (n, 3)),
        "quats": (quats, (n, 4)),
        "scales": (scales, (n, 3)),
        "opacities": (opacities, (n,)),
        "viewmats": (viewmats, (c, 4, 4)),
        "Ks": (Ks, (c, 3, 3)),
    }
    for name, (tensor, shape) in shapes.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, wanted {shape}")
    tail = ("D",) if sh_degree is None else ("K", 3)
    if tuple(colors.shape[: -len(tail)]) not in ((n,), (c, n)) or (
        sh_degree is not None and colors.shape[-1] != 3
    ):
        wanted = ", ".join(map(str, tail))
        raise ValueError(
            f"colors has shape {tuple(colors.shape)}, wanted ({n}, {wanted}) or ({c}, {n},"
            f" {wanted})"
        )
    if sh_degree is not None and not (
        0 <= sh_degree <= 3 and colors.shape[-2] >= (sh_degree + 1) ** 2
    ):
        raise ValueError(
            f"sh_degree {sh_degree} wants 0-3 and {(sh_degree + 1) ** 2} coefficients or more"
        )
    if backgrounds is not None and tuple(backgrounds.shape) != (c, colors.shape[-1]):
        raise ValueError(
            f"backgrounds has shape {tuple(backgrounds.shape)}, wanted {(c, colors.shape[-1])}"
        )
    if width < 1 or height < 1 or width * height > 2**26:
        raise ValueError(f"image of {width}x{height} pixels: 1x1 up to {2**26} pixels are rendered")
    for name, tensor in [
        *((k, v[0]) for k, v in shapes.items()),
        ("colors", colors),
        ("backgrounds", backgrounds),
    ]:
        if tensor is not None and not _finite(tensor):
            raise ValueError(f"{name} holds values that are not finite")
    if (Ks[:, 0, 0] <= 0).any() or (Ks[:, 1, 1] <= 0).any():
        raise ValueError("Ks has a focal length that is not positive")
