"""Predicted scenes of the shipped policy: how long each takes on the default runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gwm.tools.terminal import shipped

from benchmarks.gpu.figures import Figure, median_ms, remark
from gwm_core.model.weights_file import predicting_config
from gwm_core.runtime.bundle import open_bundle
from gwm_core.runtime.graphs.backends import choose
from gwm_core.runtime.imagined_world import compiled_world
from gwm_core.scene.lift import as_lifted


def measure(device: str, quick: bool) -> Iterator[Figure]:
    """Times of one prediction, by parts, on scenes of the shipped bundle's golden inputs."""
    folder = Path(shipped())
    backend, precision = choose("auto", "coarse")
    yield remark("runtime", f"{backend} {precision}")
    world = compiled_world(folder, 1, backend)
    config, golden = predicting_config(folder), open_bundle(folder).golden()
    scene, proprio, rows = (golden[name][0] for name in ("scene", "proprio", "rows"))
    scene = as_lifted(scene, world.lift_config)  # the bundle holds as many as the policy sees
    count, task = 1 if quick else 30, config.tasks[int(golden["task"][0])]

    state = world.observe(scene, proprio)
    parts = {
        "an observed scene, and its success": lambda: world.success(
            world.observe(scene, proprio), task
        )
    }
    for jump in config.jumps:
        parts[f"a jump of {jump / 10:.1f} s"] = lambda n=jump: world.after(state, rows[:n])
    total = 0.0
    for name, run in parts.items():
        ms = median_ms(run, count)
        total += ms
        yield Figure(name, ms, "ms")
    yield Figure("futures without pictures", 1000 / total, "a second")
