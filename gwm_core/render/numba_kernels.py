"""Source of the numba kernels of the CPU rasteriser, float32; ``kernels`` compiles them.

Tiles have 16x16 pixels. A row of 16 pixels is computed without branches, so that the compiler
vectorises it. Each kernel is one function, as in C: helpers could only return newly allocated
arrays.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import config, njit, prange, types
from numba.extending import intrinsic

from gwm_core.render.projection import ALPHA_MIN as _ALPHA_MIN
from gwm_core.render.projection import EXTENT as _EXTENT
from gwm_core.render.projection import MARGIN as _MARGIN
from gwm_core.render.reference import ALPHA_MAX as _ALPHA_MAX
from gwm_core.render.reference import T_STOP as _T_STOP
from gwm_core.render.reference import TILE

# the default threading layer aborts the process when two Python threads render at once
config.THREADING_LAYER = "omp"

LOG2E = np.float32(1.4426950408889634)
ALPHA_MIN, ALPHA_MAX, T_STOP = np.float32(_ALPHA_MIN), np.float32(_ALPHA_MAX), np.float32(_T_STOP)
EXTENT, MARGIN = np.float32(_EXTENT), np.float32(_MARGIN)
ONE, ZERO, HALF = np.float32(1), np.float32(0), np.float32(0.5)
LOWEST = np.float32(-60)  # exp2 below is exact to 3e-7 from here to 0
SQUARE = (TILE, TILE)
CHANNELS = 4  # features blended at a time: red, green, blue and depth in one go
GROUP = 16  # Gaussians between two checks whether a tile is opaque


@intrinsic
def _as_float(context, bits):
    """The float32 with the given int32 bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@njit(fastmath=True, inline="always")
def exp2(p):
    """2^p for p in [-60, 0]: Chebyshev fit of degree 5 on (-1, 0], scaled by the exponent bits."""
    n = np.int32(p)
    f = p - np.float32(n)
    y = np.float32(0.00920626) + f * np.float32(0.00094719)
    y = np.float32(0.24017435) + f * (np.float32(0.05529137) + f * y)
    y = np.float32(0.99999988) + f * (np.float32(0.69314206) + f * y)
    return y * _as_float(np.int32((n + np.int32(127)) << np.int32(23)))


def project(means, quats, scales, opacities, view, camera, G, key):
    """Ellipses G (N, 8) = mean, log2 conic, opacity, half extents; key (N,) = depth or 0.

    ``camera`` (9,) = fx, fy, cx, cy, width, height, near, far, eps2d.
    """
    fx, fy, cx, cy, width, height, near, far, eps2d = camera
    left, right = (
        -cx / fx - MARGIN * HALF * width / fx,
        (width - cx) / fx + MARGIN * HALF * width / fx,
    )
    top, bottom = (
        -cy / fy - MARGIN * HALF * height / fy,
        (height - cy) / fy + MARGIN * HALF * height / fy,
    )
    for i in prange(len(means)):
        key[i] = ZERO
        px, py, pz = means[i, 0], means[i, 1], means[i, 2]
        row = np.float64(view[2, 0]), np.float64(view[2, 1]), np.float64(view[2, 2])
        # in double precision, so that rounding keeps the order of depths
        z = np.float32(row[0] * px + row[1] * py + row[2] * pz + view[2, 3])
        o = opacities[i]
        if not (z > near and z < far and o >= ALPHA_MIN):
            continue
        x = view[0, 0] * px + view[0, 1] * py + view[0, 2] * pz + view[0, 3]
        y = view[1, 0] * px + view[1, 1] * py + view[1, 2] * pz + view[1, 3]
        iz = ONE / z
        qw, qx, qy, qz = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
        s = ONE / math.sqrt(max(qw * qw + qx * qx + qy * qy + qz * qz, np.float32(1e-24)))
        qw, qx, qy, qz = qw * s, qx * s, qy * s, qz * s
        ax, ay = fx * iz, fy * iz
        bx = -ax * min(max(x * iz, left), right)
        by = -ay * min(max(y * iz, top), bottom)
        # the two rows of J R, then their products with the scaled axes of the Gaussian
        u0, v0 = ax * view[0, 0] + bx * view[2, 0], ay * view[1, 0] + by * view[2, 0]
        u1, v1 = ax * view[0, 1] + bx * view[2, 1], ay * view[1, 1] + by * view[2, 1]
        u2, v2 = ax * view[0, 2] + bx * view[2, 2], ay * view[1, 2] + by * view[2, 2]
        r00, r01, r02 = (
            ONE - 2 * (qy * qy + qz * qz),
            2 * (qx * qy - qw * qz),
            2 * (qx * qz + qw * qy),
        )
        r10, r11, r12 = (
            2 * (qx * qy + qw * qz),
            ONE - 2 * (qx * qx + qz * qz),
            2 * (qy * qz - qw * qx),
        )
        r20, r21, r22 = (
            2 * (qx * qz - qw * qy),
            2 * (qy * qz + qw * qx),
            ONE - 2 * (qx * qx + qy * qy),
        )
        s0, s1, s2 = scales[i, 0], scales[i, 1], scales[i, 2]
        p0, q0 = s0 * (u0 * r00 + u1 * r10 + u2 * r20), s0 * (v0 * r00 + v1 * r10 + v2 * r20)
        p1, q1 = s1 * (u0 * r01 + u1 * r11 + u2 * r21), s1 * (v0 * r01 + v1 * r11 + v2 * r21)
        p2, q2 = s2 * (u0 * r02 + u1 * r12 + u2 * r22), s2 * (v0 * r02 + v1 * r12 + v2 * r22)
        sxx, syy = p0 * p0 + p1 * p1 + p2 * p2 + eps2d, q0 * q0 + q1 * q1 + q2 * q2 + eps2d
        sxy = p0 * q0 + p1 * q1 + p2 * q2
        det = sxx * syy - sxy * sxy
        if det <= 0:
            continue
        extent = min(EXTENT, math.sqrt(2 * math.log(max(o / ALPHA_MIN, ONE))))
        mx, my, rx, ry = (
            fx * x * iz + cx,
            fy * y * iz + cy,
            extent * math.sqrt(sxx),
            extent * math.sqrt(syy),
        )
        if mx + rx <= 0 or my + ry <= 0 or mx - rx >= width or my - ry >= height:
            continue
        G[i, 0], G[i, 1] = mx, my
        G[i, 2], G[i, 3], G[i, 4] = (
            -HALF * LOG2E * syy / det,
            LOG2E * sxy / det,
            -HALF * LOG2E * sxx / det,
        )
        G[i, 5], G[i, 6], G[i, 7] = o, rx, ry
        key[i] = z


def bin(G, order, tiles_x, tiles_y, bands, first, ids, fill):
    """Count (``fill`` False) or list (True) the Gaussians of every tile in depth order, in bands.

    ``first`` (tiles,) returns the counts, or holds the next free index in ``ids``.
    """
    for band in prange(bands):
        top, bottom = band * tiles_y // bands, (band + 1) * tiles_y // bands
        for k in range(len(order)):
            g = order[k]
            y0 = max(top, int((G[g, 1] - G[g, 7]) / TILE))
            y1 = min(bottom, int((G[g, 1] + G[g, 7]) / TILE) + 1)
            if y0 >= y1:
                continue
            x0 = max(0, int((G[g, 0] - G[g, 6]) / TILE))
            x1 = min(tiles_x, int((G[g, 0] + G[g, 6]) / TILE) + 1)
            for y in range(y0, y1):
                for tile in range(y * tiles_x + x0, y * tiles_x + x1):
                    if fill:
                        ids[first[tile]] = g
                    first[tile] += 1


def forward(G, features, off, ids, tiles_x, image, light, last):
    """Blend: image (H, W, 4), transmittance light (H, W), last (tiles,) = used end of the lists."""
    height, width, _ = image.shape
    for tile in prange(len(off) - 1):
        x0, y0 = (tile % tiles_x) * TILE, (tile // tiles_x) * TILE
        w, h = min(TILE, width - x0), min(TILE, height - y0)
        T, live, weight = (
            np.ones(SQUARE, np.float32),
            np.ones(SQUARE, np.float32),
            np.empty(TILE, np.float32),
        )
        t0, t1 = (
            np.zeros(SQUARE, np.float32),
            np.zeros(SQUARE, np.float32),
        )  # not one array of four, which is not vectorised
        t2, t3 = np.zeros(SQUARE, np.float32), np.zeros(SQUARE, np.float32)
        k, end = off[tile], off[tile + 1]
        while k < end:
            stop = min(k + GROUP, end)
            for i in range(k, stop):
                g = ids[i]
                mx, my = G[g, 0] - np.float32(x0) - HALF, G[g, 1] - np.float32(y0) - HALF
                A, B, C, o, ry = G[g, 2], G[g, 3], G[g, 4], G[g, 5], G[g, 7]
                f0, f1, f2, f3 = features[g, 0], features[g, 1], features[g, 2], features[g, 3]
                for r in range(max(0, math.ceil(my - ry)), min(h, math.floor(my + ry) + 1)):
                    dy = np.float32(r) - my
                    c0, c1 = C * dy * dy, B * dy
                    for lane in range(TILE):
                        dx = np.float32(lane) - mx
                        p = min(max(c0 + dx * (c1 + A * dx), LOWEST), ZERO)
                        a = min(ALPHA_MAX, o * exp2(p))
                        a = (a if a >= ALPHA_MIN else ZERO) * live[r, lane]
                        before = T[r, lane]
                        after = before * (ONE - a)
                        ok = after > T_STOP
                        weight[lane] = a * before if ok else ZERO
                        live[r, lane] = live[r, lane] if ok else ZERO
                        T[r, lane] = after if ok else before
                    for lane in range(TILE):
                        t0[r, lane] += weight[lane] * f0
                        t1[r, lane] += weight[lane] * f1
                        t2[r, lane] += weight[lane] * f2
                        t3[r, lane] += weight[lane] * f3
            k = stop
            if live[:h, :w].max() == 0:
                break
        last[tile] = k
        for r in range(h):
            for lane in range(w):
                y, x = y0 + r, x0 + lane
                light[y, x] = T[r, lane]
                image[y, x, 0], image[y, x, 1] = t0[r, lane], t1[r, lane]
                image[y, x, 2], image[y, x, 3] = t2[r, lane], t3[r, lane]


def backward(G, features, off, ids, tiles_x, image, light, last, d_image, d_light, sums):
    """Gradients, front to back. sums (threads, N, 6 + 4): moments of dL/dlog(alpha), dL/dfeature.

    ``rest`` is the gradient of all that lies behind, per pixel: dL/dalpha = T <c, d> - rest / (1 -
    alpha).
    """
    height, width, _ = image.shape
    threads = len(sums)
    for thread in prange(threads):
        mine = sums[thread]
        T, live, rest = (
            np.empty(SQUARE, np.float32),
            np.empty(SQUARE, np.float32),
            np.empty(SQUARE, np.float32),
        )
        d0, d1 = np.empty(SQUARE, np.float32), np.empty(SQUARE, np.float32)
        d2, d3 = np.empty(SQUARE, np.float32), np.empty(SQUARE, np.float32)
        slope, weight = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        s0, sx, sy = (
            np.empty(TILE, np.float32),
            np.empty(TILE, np.float32),
            np.empty(TILE, np.float32),
        )
        sxx, sxy, syy = (
            np.empty(TILE, np.float32),
            np.empty(TILE, np.float32),
            np.empty(TILE, np.float32),
        )
        g0, g1 = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        g2, g3 = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        for tile in range(thread, len(off) - 1, threads):
            x0, y0 = (tile % tiles_x) * TILE, (tile // tiles_x) * TILE
            w, h = min(TILE, width - x0), min(TILE, height - y0)
            T[:], live[:], rest[:] = ONE, ZERO, ZERO
            d0[:], d1[:], d2[:], d3[:] = ZERO, ZERO, ZERO, ZERO
            for r in range(h):
                for lane in range(w):
                    y, x = y0 + r, x0 + lane
                    live[r, lane] = ONE
                    d0[r, lane], d1[r, lane] = d_image[y, x, 0], d_image[y, x, 1]
                    d2[r, lane], d3[r, lane] = d_image[y, x, 2], d_image[y, x, 3]
                    rest[r, lane] = d_light[y, x] * light[y, x]
                    for c in range(CHANNELS):
                        rest[r, lane] += d_image[y, x, c] * image[y, x, c]
            for i in range(off[tile], last[tile]):
                g = ids[i]
                mx, my = G[g, 0] - np.float32(x0) - HALF, G[g, 1] - np.float32(y0) - HALF
                A, B, C, o, ry = G[g, 2], G[g, 3], G[g, 4], G[g, 5], G[g, 7]
                f0, f1, f2, f3 = features[g, 0], features[g, 1], features[g, 2], features[g, 3]
                s0[:], sx[:], sy[:], sxx[:], sxy[:], syy[:] = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
                g0[:], g1[:], g2[:], g3[:] = ZERO, ZERO, ZERO, ZERO
                for r in range(max(0, math.ceil(my - ry)), min(h, math.floor(my + ry) + 1)):
                    dy = np.float32(r) - my
                    c0, c1 = C * dy * dy, B * dy
                    for lane in range(TILE):
                        dx = np.float32(lane) - mx
                        p = min(max(c0 + dx * (c1 + A * dx), LOWEST), ZERO)
                        raw = o * exp2(p)
                        a = min(ALPHA_MAX, raw)
                        a = (a if a >= ALPHA_MIN else ZERO) * live[r, lane]
                        before = T[r, lane]
                        after = before * (ONE - a)
                        ok = after > T_STOP
                        wt = a * before if ok else ZERO
                        live[r, lane] = live[r, lane] if ok else ZERO
                        T[r, lane] = after if ok else before
                        # <c, d>
                        v = (
                            f0 * d0[r, lane]
                            + f1 * d1[r, lane]
                            + f2 * d2[r, lane]
                            + f3 * d3[r, lane]
                        )
                        left = rest[r, lane] - wt * v
                        rest[r, lane] = left
                        s = a * (before * v - left / (ONE - a))
                        slope[lane] = s if (wt > ZERO and raw <= ALPHA_MAX) else ZERO
                        weight[lane] = wt
                    for lane in range(TILE):
                        dx, s = np.float32(lane) - mx, slope[lane]
                        s0[lane] += s
                        sx[lane] += s * dx
                        sy[lane] += s * dy
                        sxx[lane] += s * dx * dx
                        sxy[lane] += s * dx * dy
                        syy[lane] += s * dy * dy
                    for lane in range(TILE):
                        g0[lane] += weight[lane] * d0[r, lane]
                        g1[lane] += weight[lane] * d1[r, lane]
                        g2[lane] += weight[lane] * d2[r, lane]
                        g3[lane] += weight[lane] * d3[r, lane]
                for k, lanes in enumerate((s0, sx, sy, sxx, sxy, syy, g0, g1, g2, g3)):
                    mine[g, k] += lanes.sum()
