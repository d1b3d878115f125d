"""Lift RGB-D frames of two simulated cameras to one Gaussian scene.

    python examples/02_lift_frames.py [FOLDER]

Writes FOLDER/table.ply, and FOLDER/table.png with the scene as the first camera sees it.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from gwm_core import (
    LiftConfig,
    SimEnvironment,
    choose_renderer,
    lift,
    render_scene,
    sample_layout,
    save_scene,
)

WIDTH, HEIGHT = 212, 120  # [pixels]


def main(folder: Path) -> None:
    """Write the scene and its image."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = SimEnvironment(WIDTH, HEIGHT, choose_renderer())
    environment.sim.reset(sample_layout("pick_place", seed=5000))
    frames = environment.frames()  # one RGB-D frame per camera, each with its pose
    for frame in frames:
        print(f"{frame.camera}: colour {frame.color.shape}, depth up to {frame.depth.max():.2f} m")

    scene = lift(frames, LiftConfig(count=2048))  # (2048, 14)
    save_scene(folder / "table.ply", scene)
    low, high = scene[:, :3].min(0), scene[:, :3].max(0)
    print(f"{len(scene)} Gaussians from {np.round(low, 2)} to {np.round(high, 2)} m")

    camera = frames[0]
    image, _ = render_scene(scene, camera.K, camera.T_base_camera, WIDTH, HEIGHT)
    pixels = np.concatenate([camera.color, np.rint(255 * image.clip(0, 1)).astype(np.uint8)])
    cv2.imwrite(str(folder / "table.png"), pixels[..., ::-1])  # OpenCV writes BGR


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples"))
