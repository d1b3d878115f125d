"""Render a Gaussian scene that is written by hand: a ring of coloured balls.

    python examples/01_render_a_scene.py [FOLDER]

Writes FOLDER/ring.ply, which opens in any splat viewer, and FOLDER/ring.png.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from gwm_core import intrinsics, look_at, render_scene, save_scene

COUNT = 24  # balls
WIDTH, HEIGHT = 320, 240  # [pixels]


def main(folder: Path) -> None:
    """Write the scene and its image."""
    folder.mkdir(parents=True, exist_ok=True)
    angle = np.linspace(0, 2 * np.pi, COUNT, endpoint=False)
    scene = np.zeros((COUNT, 14), np.float32)
    scene[:, 0] = 0.2 * np.cos(angle)  # position [m]
    scene[:, 1] = 0.2 * np.sin(angle)
    scene[:, 3:6] = 0.02  # scale [m]
    scene[:, 6] = 1.0  # quaternion wxyz
    scene[:, 10] = 0.5 + 0.5 * np.cos(angle)  # colour in [0, 1]
    scene[:, 11] = 0.5 + 0.5 * np.sin(angle)
    scene[:, 12] = 0.6
    scene[:, 13] = 0.9  # opacity
    save_scene(folder / "ring.ply", scene)

    K = intrinsics(WIDTH, HEIGHT, fovy_degrees=45.0)
    T_base_camera = look_at(eye=(0.4, -0.3, 0.4), target=(0.0, 0.0, 0.0))
    image, alpha = render_scene(scene, K, T_base_camera, WIDTH, HEIGHT)  # (H, W, 3), (H, W)
    pixels = np.rint(255 * image.clip(0, 1)).astype(np.uint8)
    cv2.imwrite(str(folder / "ring.png"), pixels[..., ::-1])  # OpenCV writes BGR
    print(f"{COUNT} Gaussians cover {alpha.mean():.0%} of the image: {folder / 'ring.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples"))
