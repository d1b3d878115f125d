"""Projection of Gaussians to ellipses, in plain torch: differentiable, any float type.

The backends reference and cpu share it. The rules are those of gsplat 1.5.3
(ProjectionEWA3DGSFused.cu): EWA splatting with a clamped Jacobian and a blur of ``eps2d``, extents
that end where alpha falls below 1/255.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ALPHA_MIN = 1.0 / 255.0
EXTENT = 3.33  # sigmas at which a Gaussian of opacity 1 falls below ALPHA_MIN
# of the tangent of half the field of view: the Jacobian is clamped beyond it
MARGIN = 0.3


class Ellipses(NamedTuple):
    """Projected Gaussians of C cameras. ``radii`` are 0 where a Gaussian is not visible."""

    means2d: Tensor  # (C, N, 2) pixels
    conics: Tensor  # (C, N, 3) inverse covariance a, b, c of a x^2 + 2 b x y + c y^2
    depths: Tensor  # (C, N) [m]
    radii: Tensor  # (C, N, 2) int32 pixels


def rotation_matrices(quats: Tensor) -> Tensor:
    """(..., 4) wxyz of any length -> (..., 3, 3)."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    eps2d: float,
    radius_clip: float = 0.0,
    antialiased: bool = False,
) -> tuple[Ellipses, Tensor]:
    """Project N Gaussians into C cameras, shapes as of ``rasterize``; also returns the opacities
    (C, N) to render with.
    """
    R, t = viewmats[:, :3, :3], viewmats[:, :3, 3]
    local = means @ R.mT + t[:, None]  # (C, N, 3)
    x, y, z = local.unbind(-1)
    visible = (z > near_plane) & (z < far_plane)
    # keeps invisible Gaussians finite, in the gradient too
    z = torch.where(visible, z, torch.ones_like(z))
    fx, fy, cx, cy = (Ks[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))  # (C, 1)
    margin_x, margin_y = MARGIN * 0.5 * width / fx, MARGIN * 0.5 * height / fy
    tx = z * torch.clamp(x / z, -cx / fx - margin_x, (width - cx) / fx + margin_x)
    ty = z * torch.clamp(y / z, -cy / fy - margin_y, (height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    J = torch.stack(
        [fx / z, zero, -fx * tx / z**2, zero, fy / z, -fy * ty / z**2], dim=-1
    ).unflatten(-1, (2, 3))
    M = rotation_matrices(quats) * scales[..., None, :]  # (N, 3, 3)
    U = J @ R[:, None] @ M  # (C, N, 2, 3)
    cov = U @ U.mT
    sxx, sxy, syy = cov[..., 0, 0] + eps2d, cov[..., 0, 1], cov[..., 1, 1] + eps2d
    det = sxx * syy - sxy * sxy
    visible = visible & (det > 0)
    det = torch.where(visible, det, torch.ones_like(det))
    opacities = opacities.expand(z.shape)  # (C, N)
    if antialiased:  # keeps the sum over the image what it was before the blur
        sharp = (cov[..., 0, 0] * cov[..., 1, 1] - sxy * sxy).clamp(min=0)
        opacities = opacities * _sqrt(sharp / det)
    visible = visible & (opacities >= ALPHA_MIN)
    conics = torch.stack([syy / det, -sxy / det, sxx / det], dim=-1)
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)
    with torch.no_grad():
        extent = torch.clamp(
            torch.sqrt(2 * torch.log(torch.clamp(opacities / ALPHA_MIN, min=1.0))), max=EXTENT
        )
        radii = torch.ceil(extent[..., None] * torch.stack([sxx, syy], dim=-1).clamp(min=0).sqrt())
        visible = visible & (radii > radius_clip).any(-1)
        inside = (means2d + radii > 0).all(-1) & (
            means2d - radii < means2d.new_tensor([width, height])
        ).all(-1)
        radii = torch.where((visible & inside)[..., None], radii, torch.zeros_like(radii)).to(
            torch.int32
        )
    return Ellipses(means2d, conics, torch.where(visible, z, zero), radii), opacities


def _sqrt(x: Tensor) -> Tensor:
    """Square root with gradient 0 at 0."""
    positive = x > 0
    return torch.where(
        positive, torch.where(positive, x, torch.ones_like(x)).sqrt(), torch.zeros_like(x)
    )


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics (..., (degree + 1)^2) of unit vectors (..., 3), in the order and
    signs of 3DGS.

    Sloan, "Efficient Spherical Harmonic Evaluation" (2013), up to degree 3.
    """
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        terms += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        terms += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if degree >= 3:
        terms += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    return torch.stack(terms, dim=-1)


def sh_colors(means: Tensor, coefficients: Tensor, viewmats: Tensor, degree: int) -> Tensor:
    """Colours (C, N, 3), at least 0, for each camera. ``coefficients`` ([C,] N, K, 3)."""
    centers = -(viewmats[:, :3, :3].mT @ viewmats[:, :3, 3:])[..., 0]  # (C, 3)
    directions = torch.nn.functional.normalize(means[None] - centers[:, None], dim=-1)
    basis = sh_basis(directions, degree)  # (C, N, K)
    colors = (basis[..., None] * coefficients[..., : basis.shape[-1], :]).sum(-2) + 0.5
    return colors.clamp(min=0.0)
