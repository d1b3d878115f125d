"""``gwm bench``: how fast, measured against a named reference in the same run. Medians of interleaved runs."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gwm_core.render import cuda, rasterize
from gwm_core.render.benchmark_scene import surfel_scene

SIZES = ((320, 240, 5_000), (320, 240, 20_000), (640, 480, 20_000), (640, 480, 100_000))


def bench_render(path: str | None, repeats: int, progress: Callable[[str], None]) -> int:
    """Time every backend that works here, forward and forward + backward; print a table and write ``rows``."""
    rows = []
    for width, height, count in SIZES:
        progress(f"{width}x{height}, {count} Gaussians")
        rows += _rows(width, height, count, repeats)
    if path:
        Path(path).write_text(json.dumps({"rows": rows, "threads": torch.get_num_threads()}, indent=1) + "\n")
    print(f"{'pass':18}{'backend':11}{'image':>9}{'Gaussians':>11}{'ms':>10}{'x reference':>13}{'mean error':>12}{'99.9 %':>10}")
    for r in rows:
        print(f"{r['pass']:18}{r['backend']:11}{r['width']:>5}x{r['height']}{r['gaussians']:>11}{r['ms_median']:>10.2f}"
              f"{r['ratio_to_reference']:>13.1f}{r['mean_err']:>12.1e}{r['p999_err']:>10.1e}")  # fmt: skip
    return 0


def _rows(width: int, height: int, count: int, repeats: int) -> list[dict]:
    scene = surfel_scene(count, width, height)
    wide = {k: v.double() if torch.is_tensor(v) else v for k, v in scene.items()}
    truth = rasterize(**wide, render_mode="RGB+D", backend="reference")[0]
    backends = ["reference", "cpu", *(["cuda"] if cuda.works() else [])]
    rows = []
    for name, draw in (("forward", _forward), ("forward+backward", _forward_backward)):
        runs = {b: (lambda b=b: draw(scene, b)) for b in backends}
        times = _interleaved(runs, repeats)
        for b in backends:
            error = (draw(scene, b).detach().cpu() - truth).abs()
            rows.append({
                "pass": name, "backend": b, "width": width, "height": height, "gaussians": count, "dtype": "float32",
                "ms_median": 1e3 * times[b], "ratio_to_reference": times["reference"] / times[b],
                "mean_err": float(error.mean()), "p999_err": float(error.flatten().kthvalue(int(0.999 * error.numel())).values),
            })  # fmt: skip
    return rows


def _forward(scene: dict, backend: str) -> torch.Tensor:
    with torch.no_grad():
        return rasterize(**_on_device(scene, backend), render_mode="RGB+D", backend=backend)[0]


def _forward_backward(scene: dict, backend: str) -> torch.Tensor:
    leaves = ("means", "quats", "scales", "opacities", "colors")
    inputs = _on_device(scene, backend)
    inputs |= {name: inputs[name].clone().requires_grad_() for name in leaves}
    image = rasterize(**inputs, render_mode="RGB+D", backend=backend)[0]
    image.square().mean().backward()
    return image


def _on_device(scene: dict, backend: str) -> dict:
    device = "cuda" if backend == "cuda" else "cpu"
    return {k: v.to(device) if torch.is_tensor(v) else v for k, v in scene.items()}


def _interleaved(runs: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turns so that a busy moment hits all; slow ones are run less often."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():  # compile and warm up; the fast ones once more, to be timed warm
        run(), run()
    for turn in range(repeats):
        for name, run in runs.items():
            if name == "reference" and turn % 5:
                continue
            begun = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}
