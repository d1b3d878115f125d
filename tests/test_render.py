"""The fast renderers against the reference, the reference against itself."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
import torch

from benchmarks.speed.scene import LEAVES, as_double, random_scene, surfel_scene
from gwm_core.errors import InputError
from gwm_core.render import cpu, kernels, native
from gwm_core.render.api import rasterize
from gwm_core.render.projection import rotation_matrices, sh_basis

SCENES = [
    *(lambda s=s: random_scene(s) for s in range(20)),
    *(lambda s=s: as_double(surfel_scene(3000, 160, 120, s, 1 + 0.3 * s)) for s in range(5)),
]


@pytest.mark.parametrize("scene", SCENES)
def test_cpu_draws_what_the_reference_draws_in_float64(scene):
    scene = scene()
    background = torch.rand(len(scene["viewmats"]), 3, dtype=torch.float64)
    truth, alpha, _ = rasterize(
        **scene, backgrounds=background, render_mode="RGB+D", backend="reference"
    )
    image, own, _ = rasterize(**scene, backgrounds=background, render_mode="RGB+D", backend="cpu")
    error = (image - truth).abs()
    assert error.mean() <= 1e-4
    assert (error.amax(-1) <= 2e-3).double().mean() >= 0.999
    assert (own - alpha).abs().mean() <= 1e-4


@pytest.mark.parametrize("scene", SCENES[:3] + SCENES[20:22])
def test_cpu_gradients_are_the_references(scene):
    scene = scene()
    cameras, shape = len(scene["viewmats"]), (scene["height"], scene["width"])
    torch.manual_seed(0)
    w, wa = (
        torch.randn(cameras, *shape, 4, dtype=torch.float64),
        torch.randn(cameras, *shape, 1, dtype=torch.float64),
    )
    grads = {}
    for backend in ("reference", "cpu"):
        leaves = {name: scene[name].clone().requires_grad_() for name in LEAVES}
        image, alpha, _ = rasterize(**(scene | leaves), render_mode="RGB+ED", backend=backend)
        ((image * w).sum() + (alpha * wa).sum()).backward()
        grads[backend] = {name: leaf.grad for name, leaf in leaves.items()}
    for name in LEAVES:
        a, b = grads["reference"][name], grads["cpu"][name]
        assert (a - b).norm() <= 1e-4 * a.norm(), name


def test_the_kernels_of_numba_and_of_c_agree(monkeypatch):
    """Whichever is in use, the other is held to the same."""
    if native.load() is None:
        assert shutil.which("cc") is None or os.environ.get(native.OFF)
        pytest.skip("no compiler")
    scene = as_double(surfel_scene(3000, 160, 120, 1))
    results = []
    for own in (kernels.kernels(), kernels.NumbaKernels(True)):
        monkeypatch.setattr(cpu, "kernels", lambda own=own: own)
        leaves = {name: scene[name].clone().requires_grad_() for name in LEAVES}
        image, alpha, _ = rasterize(**(scene | leaves), render_mode="RGB+D", backend="cpu")
        (image.square().sum() + alpha.sum()).backward()
        results.append((image.detach(), {name: leaf.grad for name, leaf in leaves.items()}))
    (a, grads_a), (b, grads_b) = results
    assert (a - b).abs().mean() < 1e-5
    for name in LEAVES:
        assert (grads_a[name] - grads_b[name]).norm() <= 1e-4 * grads_a[name].norm(), name


def test_without_a_compiler_or_a_place_for_its_work_numba_draws(monkeypatch, tmp_path):
    for name, value in (
        (native.OFF, "1"),
        ("PATH", str(tmp_path)),
        ("XDG_CACHE_HOME", "/proc/nothing"),
    ):
        with monkeypatch.context() as m:
            m.setenv(name, value)
            assert native.load.__wrapped__() is None


def test_the_kernels_leave_the_processors_arithmetic_alone():
    code = """
from gwm_core.render import native
native.load()
assert float("5e-324") * 1.0 > 0, "subnormal numbers are taken for zero"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_code_that_others_could_have_written_is_not_loaded(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if native.load.__wrapped__() is None:
        pytest.skip("no compiler")
    (library,) = tmp_path.glob("gwm/*.so")
    library.chmod(0o777)
    assert native.load.__wrapped__() is None


@pytest.mark.parametrize("channels", [1, 4, 5, 9])
def test_any_number_of_channels(channels):
    """The kernel blends four at a time."""
    scene = random_scene(4, cameras=1)
    scene["colors"] = torch.rand(
        500, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    weight = torch.rand(1, 100, 150, channels + 1, dtype=torch.float64)
    grads = {}
    for backend in ("reference", "cpu"):
        leaves = {name: scene[name].clone().requires_grad_() for name in LEAVES}
        image, alpha, _ = rasterize(**(scene | leaves), render_mode="RGB+D", backend=backend)
        assert image.shape == (1, 100, 150, channels + 1)
        ((image * weight).sum() + alpha.sum()).backward()
        grads[backend] = {name: leaf.grad for name, leaf in leaves.items()}
    for name in LEAVES:
        assert (grads["reference"][name] - grads["cpu"][name]).norm() <= 1e-4 * grads["reference"][
            name
        ].norm(), name


def test_both_ways_through_cpu_agree():
    """Forward alone projects in numba, forward for gradients in torch."""
    scene = surfel_scene(3000, 160, 120)
    image, _, meta = rasterize(**scene, backend="cpu")
    grown, _, _ = rasterize(
        **(scene | {"means": scene["means"].clone().requires_grad_()}), backend="cpu"
    )
    assert (image - grown).abs().mean() < 1e-5 and not meta


def test_one_gaussian_by_hand():
    """Centre pixel: alpha = opacity, colour = alpha * colour + (1 - alpha) * background, expected
    depth = z.
    """
    scene = random_scene(0, count=1, cameras=1)
    scene |= {
        "means": torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64),
        "scales": torch.full((1, 3), 0.1).double(),
        "opacities": torch.tensor([0.7]).double(),
        "width": 31,
        "height": 31,
        "Ks": torch.tensor([[[50, 0, 15.5], [0, 50, 15.5], [0, 0, 1]]]).double(),
    }
    black = torch.tensor([[0.0, 0.5, 1.0]]).double()
    for backend in ("reference", "cpu"):
        image, alpha, _ = rasterize(
            **scene, render_mode="RGB+ED", backgrounds=black, backend=backend
        )
        center = image[0, 15, 15]
        np.testing.assert_allclose(center[:3], 0.7 * scene["colors"][0] + 0.3 * black[0], atol=1e-5)
        np.testing.assert_allclose([alpha[0, 15, 15, 0], center[3]], [0.7, 2.0], atol=1e-5)
        # sigma in pixels: sqrt((f s / z)^2 + eps2d)
        wanted = 0.7 * np.exp(-0.5 * 16 / ((50 * 0.1 / 2) ** 2 + 0.3))
        np.testing.assert_allclose(alpha[0, 15, 19, 0], wanted, atol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_laws(backend):
    scene = random_scene(3)
    image, alpha, _ = rasterize(**scene, backend=backend)
    assert alpha.min() >= 0 and alpha.max() <= 1
    order = torch.randperm(500)
    shuffled = scene | {n: scene[n][order] for n in LEAVES}
    assert (rasterize(**shuffled, backend=backend)[0] - image).abs().mean() < 1e-6
    scaled = rasterize(**(scene | {"quats": scene["quats"] * 3.0}), backend=backend)[0]
    assert (scaled - image).abs().mean() < 1e-6  # a quaternion's length does not matter
    turn = rotation_matrices(torch.tensor([0.9, 0.1, -0.3, 0.2], dtype=torch.float64))
    # moving scene and camera together changes nothing
    moved = scene | {"means": scene["means"] @ turn.T, "viewmats": scene["viewmats"].clone()}
    moved["viewmats"][:, :3, :3] = scene["viewmats"][:, :3, :3] @ turn.T
    q = torch.tensor([0.9, 0.1, -0.3, 0.2], dtype=torch.float64)
    w1, v1, w2, v2 = q[0], q[1:], scene["quats"][:, 0], scene["quats"][:, 1:]
    vector = w1 * v2 + w2[:, None] * v1 + torch.linalg.cross(v1.expand_as(v2), v2)
    moved["quats"] = torch.cat([(w1 * w2 - v2 @ v1)[:, None], vector], 1)
    assert (rasterize(**moved, backend=backend)[0] - image).abs().mean() < 1e-5


def test_nothing_in_view_is_background():
    scene = random_scene(1, cameras=1)
    scene["means"] = scene["means"] * torch.tensor([1, 1, -1.0]) - torch.tensor([0, 0, 1.0])
    for backend in ("reference", "cpu"):
        image, alpha, _ = rasterize(**scene, backgrounds=torch.ones(1, 3).double(), backend=backend)
        assert (image == 1).all() and (alpha == 0).all()


def test_spherical_harmonics_are_orthonormal():
    """Gauss-Legendre in z, even steps in angle: exact for these degrees."""
    z, weight = np.polynomial.legendre.leggauss(8)
    angle = np.arange(16) * np.pi / 8
    z, angle = np.meshgrid(z, angle, indexing="ij")
    r = np.sqrt(1 - z**2)
    basis = sh_basis(torch.from_numpy(np.stack([r * np.cos(angle), r * np.sin(angle), z], -1)), 3)
    weights = torch.from_numpy(np.repeat(weight[:, None], 16, 1) * np.pi / 8)
    np.testing.assert_allclose(
        torch.einsum("abi,abj,ab->ij", basis, basis, weights), np.eye(16), atol=1e-12
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_spherical_harmonics_colour_the_image(degree):
    scene = random_scene(2)
    scene["colors"] = 0.3 * torch.randn(500, 16, 3, dtype=torch.float64)
    truth = rasterize(**scene, sh_degree=degree, backend="reference")[0]
    assert (rasterize(**scene, sh_degree=degree, backend="cpu")[0] - truth).abs().mean() < 1e-4
    if degree == 0:
        flat = scene | {"colors": (0.28209479177387814 * scene["colors"][:, 0] + 0.5).clamp(min=0)}
        assert (rasterize(**flat, backend="reference")[0] - truth).abs().max() < 1e-12


def test_two_threads_may_render_at_once():
    scene = surfel_scene(2000, 160, 120)
    wanted = rasterize(**scene, backend="cpu")[0]
    results = []

    def work():
        results.extend(torch.equal(rasterize(**scene, backend="cpu")[0], wanted) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert results == [True] * 40


def _child(scene, wanted, queue):
    queue.put(float((rasterize(**scene, backend="cpu")[0] - wanted).abs().max()))


def test_a_forked_child_may_render():
    scene = surfel_scene(500, 64, 48)
    wanted = rasterize(**scene, backend="cpu")[0]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(scene, wanted, queue))
    child.start()
    assert queue.get(timeout=60) < 1e-5
    child.join(10)
    assert child.exitcode == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"means": torch.full((500, 3), torch.nan)}, "means holds values that are not finite"),
        ({"scales": torch.ones(499, 3)}, r"scales has shape \(499, 3\)"),
        ({"colors": torch.ones(4, 3)}, "colors has shape"),
        ({"Ks": torch.zeros(2, 3, 3)}, "focal length"),
        ({"width": 10**6, "height": 10**6}, "pixels"),
        ({"sh_degree": 4}, "sh_degree|colors"),
        ({"backgrounds": torch.ones(2, 1)}, r"backgrounds has shape \(2, 1\), wanted \(2, 3\)"),
        ({"backgrounds": torch.ones(3)}, r"backgrounds has shape \(3,\)"),
        ({"backgrounds": torch.ones(1, 3)}, "backgrounds has shape"),
        ({"backgrounds": torch.ones(2, 4), "render_mode": "D"}, "backgrounds has shape"),
        (
            {"colors": torch.ones(1, 500, 3)},
            r"colors has shape \(1, 500, 3\), wanted \(500, D\) or \(2, 500, D\)",
        ),
        ({"colors": torch.ones(500)}, "colors has shape"),
        ({"colors": torch.ones(2, 2, 500, 3)}, "colors has shape"),
        ({"colors": torch.ones(500, 16, 4), "sh_degree": 1}, r"wanted \(500, K, 3\)"),
        ({"colors": torch.ones(500, 3), "sh_degree": 0}, r"wanted \(500, K, 3\)"),
    ],
)
def test_bad_input_is_named(change, named):
    with pytest.raises(ValueError, match=named):
        rasterize(**(random_scene(0) | change))


def test_unknown_names_say_what_is_valid():
    with pytest.raises(InputError, match=r"RGB\+ED"):
        rasterize(**random_scene(0), render_mode="X")
    with pytest.raises(InputError, match="antialiased"):
        rasterize(**random_scene(0), rasterize_mode="X")
    with pytest.raises(InputError, match="reference"):
        rasterize(**random_scene(0), backend="gpu")


def gsplat_rasterization(
    means,
    quats,
    scales,
    opacities,
    colors,
    viewmats,
    Ks,
    width,
    height,
    near_plane=0.01,
    far_plane=1e10,
    radius_clip=0.0,
    eps2d=0.3,
    sh_degree=None,
    packed=True,
    tile_size=16,
    backgrounds=None,
    render_mode="RGB",
    sparse_grad=False,
    absgrad=False,
    rasterize_mode="classic",
    channel_chunk=32,
    distributed=False,
    camera_model="pinhole",
    segmented=False,
    covars=None,
    with_ut=False,
    with_eval3d=False,
):
    """The arguments of gsplat 1.5.3 (rendering.py), and what it does with backgrounds where it
    packs (_wrapper.py).
    """
    assert not (packed and backgrounds is not None), "backgrounds.shape == image_dims + (channels,)"
    return rasterize(
        means,
        quats,
        scales,
        opacities,
        colors,
        viewmats,
        Ks,
        width,
        height,
        near_plane,
        far_plane,
        radius_clip,
        eps2d,
        sh_degree,
        packed,
        backgrounds,
        render_mode,
        rasterize_mode,
        "reference",
    )


@pytest.mark.parametrize("mode", ["RGB", "RGB+ED", "D"])
@pytest.mark.parametrize("packed", [True, False])
def test_gsplat_is_asked_for_what_it_draws_and_the_background_is_behind_it(
    monkeypatch, mode, packed
):
    monkeypatch.setitem(
        sys.modules, "gsplat", types.SimpleNamespace(rasterization=gsplat_rasterization)
    )
    asked = {
        "render_mode": mode,
        "packed": packed,
        "radius_clip": 4.0,
        "rasterize_mode": "antialiased",
        "eps2d": 0.2,
        "backgrounds": torch.rand(2, 3, dtype=torch.float64),
    }
    image, alpha, _ = rasterize(**random_scene(2), **asked, backend="cuda")
    wanted, known, _ = rasterize(**random_scene(2), **asked, backend="reference")
    torch.testing.assert_close(image, wanted)
    torch.testing.assert_close(alpha, known)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_antialiased_keeps_the_sum_of_what_is_small(backend):
    """A Gaussian far smaller than a pixel adds up to 2 pi sigma^2 opacity, not to what the blur
    makes of it.
    """
    scene = {
        "means": torch.tensor([[0.0, 0, 2]]),
        "quats": torch.tensor([[1.0, 0, 0, 0]]),
        "opacities": torch.ones(1),
        "scales": torch.full((1, 3), 0.012),
        "colors": torch.ones(1, 1),
        "viewmats": torch.eye(4)[None],
        "Ks": torch.tensor([[[50.0, 0, 15.5], [0, 50, 15.5], [0, 0, 1]]]),
        "width": 31,
        "height": 31,
    }
    sums = {
        mode: rasterize(**as_double(scene), rasterize_mode=mode, backend=backend)[1].sum().item()
        for mode in ("classic", "antialiased")
    }
    true = 2 * np.pi * (50 * 0.012 / 2) ** 2
    assert sums["antialiased"] == pytest.approx(true, rel=0.1) and sums["classic"] > 3 * true


@pytest.mark.parametrize("rules", [{"rasterize_mode": "antialiased"}, {"radius_clip": 6.0}])
def test_the_cpu_keeps_to_these_rules_as_the_reference_does(rules):
    scene, grads = random_scene(7), {}
    plain = rasterize(**scene, backend="reference")[0]
    for backend in ("reference", "cpu"):
        with torch.no_grad():
            image = rasterize(**scene, **rules, backend=backend)[0]
        leaves = {name: scene[name].clone().requires_grad_() for name in LEAVES}
        again, alpha, _ = rasterize(**(scene | leaves), **rules, backend=backend)
        (again.square().sum() + alpha.sum()).backward()
        grads[backend] = [image, again.detach()] + [leaf.grad for leaf in leaves.values()]
    assert (grads["reference"][0] - plain).abs().max() > 0.01
    for a, b in zip(grads["reference"], grads["cpu"]):
        assert (a - b).norm() <= 1e-4 * a.norm()


def test_radius_clip_leaves_out_what_reaches_no_farther():
    scene = random_scene(3, cameras=1)
    radii = rasterize(**scene, backend="reference")[2]["radii"][0]
    small = (radii <= 6).all(-1)
    clipped = rasterize(**scene, radius_clip=6.0, backend="reference")[0]
    without = scene | {name: scene[name][~small] for name in LEAVES}
    assert 0 < small.sum() < len(small)
    torch.testing.assert_close(clipped, rasterize(**without, backend="reference")[0])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_what_is_not_seen_has_gradients_of_zero(backend):
    scene = random_scene(1, cameras=1)
    scene["means"] = scene["means"] - torch.tensor([0, 0, 9.0])
    leaves = {name: scene[name].clone().requires_grad_() for name in LEAVES}
    image, alpha, _ = rasterize(**(scene | leaves), render_mode="RGB+ED", backend=backend)
    (image.sum() + alpha.sum()).backward()
    assert all((leaf.grad == 0).all() for leaf in leaves.values())
