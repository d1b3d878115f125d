"""``gwm bench``: speed of rendering and lifting against a reference of the same run."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch

from benchmarks.speed.scene import LEAVES, as_double, surfel_scene
from gwm_core.files.json_files import write_json
from gwm_core.geometry.camera import look_at
from gwm_core.render import cuda
from gwm_core.render.api import rasterize
from gwm_core.scene.build import EVERYWHERE, compare
from gwm_core.scene.lift import LiftConfig, lift
from gwm_core.types import Frame

SIZES = ((320, 240, 5_000), (320, 240, 20_000), (640, 480, 20_000), (640, 480, 100_000))
REFERENCE_EVERY = 5  # rounds: the slow reference is timed less often
HEADER = (
    f"{'pass':18}{'backend':11}{'image':>9}{'Gaussians':>11}{'ms':>10}"
    f"{'x reference':>13}{'mean err':>10}{'99.9 %':>10}"
)


def bench_render(path: str | None, repeats: int) -> int:
    """Time every backend that works here, forward and backward. Prints and writes a table."""
    rows = []
    for width, height, count in SIZES:
        print(f"{width}x{height}, {count} Gaussians ...", file=sys.stderr, flush=True)
        scene = surfel_scene(count, width, height)
        for name, draw in (("forward", forward), ("forward+backward", forward_backward)):
            rows += _compare(scene, name, draw, repeats)
    if path:
        write_json(path, {"rows": rows, "threads": torch.get_num_threads()})
    print(HEADER)
    for r in rows:
        print(
            f"{r['pass']:18}{r['backend']:11}{r['width']:>5}x{r['height']}{r['gaussians']:>11}{r['ms_median']:>10.2f}"
            f"{r['ratio_to_reference']:>13.1f}{r['mean_err']:>10.1e}{r['p999_err']:>10.1e}"
        )
    return 0


def bench_lift(path: str | None, repeats: int) -> int:
    """Time the lift of two simulated 424x240 cameras, as the policy does it and with every step."""
    from gwm_core.sim.cameras import choose_renderer
    from gwm_core.sim.rollout import SimEnvironment
    from gwm_core.sim.tasks import sample_layout

    world = SimEnvironment(renderer=choose_renderer())
    world.sim.reset(sample_layout("pick_place", 0, "hard"))
    frames, q = world.frames(), world.sim.q
    everything = LiftConfig(arm_margin=0.01, free_space=0.05, voxel=0.004)
    runs = {
        "policy": LiftConfig(),
        "everything": everything,
        "importance": replace(everything, sampling="importance"),
    }
    rows = []
    for name, config in runs.items():
        lift(frames, config, q)
        times = []
        for _ in range(repeats):
            begun = time.perf_counter()
            lift(frames, config, q)
            times.append(1e3 * (time.perf_counter() - begun))
        p99 = float(np.quantile(times, 0.99))
        rows.append(
            {
                "lift": name,
                "gaussians": config.count,
                "ms_median": statistics.median(times),
                "ms_p99": p99,
            }
        )
        print(f"{name:12} {rows[-1]['ms_median']:.2f} ms median, {p99:.2f} ms p99")
    if path:
        write_json(path, {"rows": rows})
    return 0


# eyes [m]
UNSEEN = {"close": (0.75, -0.2, 0.35), "between": (0.85, -0.35, 0.5), "as far": (1.25, -0.55, 0.75)}
TARGET = (0.5, 0.0, 0.03)  # [m] what they look at


def bench_scene(path: str | None, seeds: range) -> int:
    """Compare a third simulated camera with the scene and the points of the other two.

    The figures are mean PSNR [dB].
    """
    from gwm_core.sim.cameras import choose_renderer
    from gwm_core.sim.rollout import SimEnvironment
    from gwm_core.sim.tasks import sample_layout

    world, rows = SimEnvironment(renderer=choose_renderer()), []
    for name, eye in UNSEEN.items():
        T, reports = look_at(eye, TARGET), []
        for seed in seeds:
            world.sim.reset(sample_layout("pick_place", seed))
            used, image = world.frames(), world.cameras.view(world.sim.snapshot(), T)
            held = Frame(
                name, 1, image.color, image.depth_mm * np.float32(1e-3), world.cameras.K, T
            )
            reports.append(asdict(compare(lift(used, EVERYWHERE), list(used), held)))
        row = {key: float(np.mean([report[key] for report in reports])) for key in reports[0]}
        row |= {
            "camera": name,
            "eye": eye,
            "scenes": len(reports),
            "gain": row["psnr_baseline_mask"] - row["baseline_psnr"],
        }
        rows.append(row)
        print(
            f"{name:8} covers {row['coverage']:.0%} against {row['baseline_coverage']:.0%}; where"
            f" points are {row['psnr_baseline_mask']:.2f} dB against {row['baseline_psnr']:.2f},"
            f" where either is {row['psnr_either']:.2f} against {row['baseline_psnr_either']:.2f}"
        )
    if path:
        write_json(path, {"rows": rows})
    return 0


def _compare(scene: dict, name: str, draw: Callable, repeats: int) -> list[dict]:
    """Return a row per backend: median time, and its image against the float64 reference."""
    truth = forward(as_double(scene), "reference")
    backends = ["reference", "cpu", *(["cuda"] if cuda.works() else [])]
    times = _interleaved({backend: partial(draw, scene, backend) for backend in backends}, repeats)
    rows = []
    for backend in backends:
        error = (forward(scene, backend).cpu() - truth).abs().flatten()
        rows.append(
            {
                "pass": name,
                "backend": backend,
                "width": scene["width"],
                "height": scene["height"],
                "gaussians": len(scene["means"]),
                "dtype": "float32",
                "ms_median": 1e3 * times[backend],
                "ratio_to_reference": times["reference"] / times[backend],
                "mean_err": float(error.mean()),
                "p999_err": float(error.kthvalue(int(0.999 * error.numel())).values),
            }
        )
    return rows


def forward(scene: dict, backend: str) -> torch.Tensor:
    """The image of a scene, drawn without gradients."""
    with torch.no_grad():
        return rasterize(**_on_device(scene, backend), render_mode="RGB+D", backend=backend)[0]


def forward_backward(scene: dict, backend: str) -> None:
    """Draw a scene, and the gradients of its mean square."""
    inputs = _on_device(scene, backend)
    for leaf in LEAVES:
        inputs[leaf] = inputs[leaf].clone().requires_grad_()
    rasterize(**inputs, render_mode="RGB+D", backend=backend)[0].square().mean().backward()


def _on_device(scene: dict, backend: str) -> dict:
    device = "cuda" if backend == "cuda" else "cpu"
    return {k: v.to(device) if torch.is_tensor(v) else v for k, v in scene.items()}


def _interleaved(runs: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Return median seconds of each, timed in turns so that a busy phase affects all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():  # compile, then once more warm
        run()
        run()
    for turn in range(repeats):
        for name, run in runs.items():
            if name == "reference" and turn % REFERENCE_EVERY:
                continue
            begun = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}
