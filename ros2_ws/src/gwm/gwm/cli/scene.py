"""``gwm scene``: scenes from recordings, and pictures of scenes."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gwm.tools.terminal import ProgressBar, positive, verb, writable
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json


def add(verbs) -> None:
    """Declare the verbs."""
    kinds = verb(
        verbs,
        "scene",
        "Build and draw Gaussian scenes.",
        "gwm scene build data/desk --out desk.ply",
        None,
    )
    kinds = kinds.add_subparsers(metavar="WHAT", required=True)
    _add_build(kinds)
    _add_render(kinds)


def _add_build(kinds) -> None:
    p = verb(
        kinds,
        "build",
        "One scene from an episode's first moment or from a folder in the TUM RGB-D layout.",
        "gwm scene build data/desk --holdout 3 --out desk.ply --picture desk.png",
        build,
    )
    p.add_argument(
        "source",
        help="an episode, or a folder with rgb/, depth/, groundtruth.txt and intrinsics.json",
    )
    p.add_argument(
        "--out", required=True, help="scene.ply (opens in any splat viewer) or scene.safetensors"
    )
    p.add_argument(
        "--stride",
        type=int,
        default=1,
        metavar="N",
        help="every Nth frame of a TUM folder; those taken are in memory at once",
    )
    p.add_argument(
        "--holdout", type=int, metavar="K", help="leave frame K (from 0) out, draw it and compare"
    )
    p.add_argument(
        "--refine", type=int, default=0, metavar="N", help="N steps of photometric refinement"
    )
    p.add_argument(
        "--picture",
        metavar="FILE",
        help="with --holdout: what the camera saw beside what the scene shows",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")


def _add_render(kinds) -> None:
    p = verb(
        kinds,
        "render",
        "Draw a scene from anywhere.",
        "gwm scene render desk.ply --look 1.2 -0.5 0.8 0.5 0 0 --out view.png",
        render,
    )
    p.add_argument("scene", help="a .ply or .safetensors scene")
    where = p.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--pose",
        type=float,
        nargs=7,
        metavar=("X", "Y", "Z", "QW", "QX", "QY", "QZ"),
        help="of the camera in the world: z forward, y down",
    )
    where.add_argument(
        "--look",
        type=float,
        nargs=6,
        metavar=("X", "Y", "Z", "TX", "TY", "TZ"),
        help="from X Y Z towards TX TY TZ, z up",
    )
    p.add_argument("--size", default="640x480", help="WIDTHxHEIGHT (default 640x480)")
    p.add_argument(
        "--fov", type=float, default=45.0, help="vertical field of view in degrees (default 45)"
    )
    p.add_argument("--out", required=True, help="a .png or .jpg file")


def build(args) -> int:
    from gwm_core.scene.build import EVERYWHERE, compare, side_by_side
    from gwm_core.scene.frame_source import read_source
    from gwm_core.scene.lift import lift
    from gwm_core.scene.ply_io import check_ending, save_scene
    from gwm_core.scene.refine import refine

    check_ending(args.out)
    if args.refine < 0:
        raise InputError(f"--refine must be 0 or more, got {args.refine}")
    for path in (args.out, args.json, args.picture):
        writable(path)
    if args.picture and args.holdout is None:
        raise InputError("--picture shows the frame that --holdout leaves out: give both")
    source = read_source(Path(args.source), positive("stride", args.stride))
    frames = source.frames
    if source.skipped:
        print(
            f"{args.source}: {source.skipped} images have no depth or pose at their stamp and are"
            " left out"
        )
    held = _held_out(frames, args.holdout)
    used = tuple(frame for frame in frames if frame is not held)
    lift(used, EVERYWHERE)  # compiles
    begun = time.perf_counter()
    scene = lift(used, EVERYWHERE)
    figures = {
        "gaussians": len(scene),
        "ms": 1e3 * (time.perf_counter() - begun),
        "frames": len(used),
    }
    figures["skipped"] = source.skipped
    if len(scene) == 0:
        raise InputError(
            f"{args.source}: no surface was left to build from: depth is all holes and edges"
        )
    figures |= _compared(scene, used, held, compare)
    if args.refine:
        before, bar = dict(figures), ProgressBar(args.refine, "refine")
        scene = refine(
            scene, used, args.refine, lambda step, loss: bar.to(step, f"loss {loss:.4f}")
        )
        figures |= _compared(scene, used, held, compare)
        figures["before_refinement"] = {k: v for k, v in before.items() if figures[k] != v}
    save_scene(args.out, scene)
    if args.picture:
        _write_image(args.picture, side_by_side(scene, held))
    if args.json:
        write_json(args.json, figures)
    print(f"{args.out}: {len(scene)} Gaussians from {len(used)} frames in {figures['ms']:.0f} ms")
    if held is not None:
        f = figures
        print(
            f"frame {args.holdout}, left out: {f['psnr']:.2f} dB PSNR, {f['ssim']:.3f} SSIM on"
            f" {f['coverage']:.0%}; where points would be {f['psnr_baseline_mask']:.2f} dB, theirs"
            f" {f['baseline_psnr']:.2f}"
        )
    return 0


def _held_out(frames: list, k: int | None):
    if k is None:
        return None
    if len(frames) < 2 or not 0 <= k < len(frames):
        raise InputError(
            f"--holdout {k}: the source has frames 0 to {len(frames) - 1}, and one must be left to"
            " build from"
        )
    return frames[k]


def _compared(scene: np.ndarray, used: tuple, held, compare) -> dict:
    """Figures of the frame left out, and the mean PSNR over the frames that were used."""
    own = float(np.mean([compare(scene, used, frame).psnr for frame in used]))
    return {"psnr_used_frames": own} | (
        asdict(compare(scene, used, held)) if held is not None else {}
    )


def render(args) -> int:
    from gwm_core.geometry.camera import intrinsics, look_at, pose_matrix
    from gwm_core.scene.build import render_scene
    from gwm_core.scene.ply_io import load_scene

    writable(args.out)
    try:
        width, height = (int(word) for word in args.size.split("x"))
    except ValueError:
        raise InputError(
            f"--size {args.size}: WIDTHxHEIGHT in pixels is wanted, such as 640x480"
        ) from None
    if not 1 <= args.fov <= 170 or not (1 <= width <= 8192 and 1 <= height <= 8192):
        raise InputError("a view of 1 to 170 degrees and of 1 to 8192 pixels a side can be drawn")
    T = look_at(args.look[:3], args.look[3:]) if args.look else pose_matrix(args.pose)
    image, _ = render_scene(
        load_scene(Path(args.scene), print), intrinsics(width, height, args.fov), T, width, height
    )
    _write_image(args.out, image)
    return 0


def _write_image(path: str, image: np.ndarray) -> None:
    """RGB (H, W, 3) in [0, 1] to a file."""
    import cv2

    content = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)[..., ::-1]
    try:
        written = cv2.imwrite(path, content)
    except cv2.error:
        written = False
    if not written:
        raise InputError(f"cannot write {path}: an image ends in .png or .jpg")
