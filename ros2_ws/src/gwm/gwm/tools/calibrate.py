"""``gwm calibrate``: take or read views of a board, then calibrate or check a camera."""

from __future__ import annotations

import select
import sys
import time
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from gwm_core import topics
from gwm_core.calibration import pose_check
from gwm_core.calibration.board_views import find_board
from gwm_core.calibration.charuco import Board, print_board
from gwm_core.calibration.hand_eye import calibrate, residual_picture
from gwm_core.calibration.intrinsics import check_intrinsics
from gwm_core.calibration.site_writer import refuse_installed, write_camera
from gwm_core.calibration.views import CalibrationView, add_view, read_views
from gwm_core.errors import InputError, one_of
from gwm_core.files.json_files import write_json
from gwm_core.geometry.kinematics import fk
from gwm_core.geometry.transforms import pose_difference
from gwm_core.site import DEFAULT_FILE, Camera, load_site

PICTURE = "calibration.png"


def run_calibrate(args) -> int:
    """Run the verb. Returns 0, or 1 when a check refuses the camera's pose."""
    board = Board.parse(args.board)
    if args.print_board:
        print_board(board, Path(args.print_board))
        print(
            f"{args.print_board}: print it at 100 %, measure a square, stick it on something flat"
        )
        return 0
    if not args.camera:
        raise InputError("--camera NAME is wanted (or --print-board FILE.png)")
    site = Path(args.site or DEFAULT_FILE).expanduser()
    if args.check:
        return _check(args, board, _camera(site, args.camera))
    if args.board_pose:
        raise InputError("--board-pose goes with --check")
    moving = one_of("mount", args.mount or "none", ("base", "hand")) == "hand"
    refuse_installed(site)
    previous = load_site(site).cameras.get(args.camera) if site.exists() else None
    prefix = args.prefix or (previous.prefix if previous else topics.prefix_of(args.camera))
    folder = Path(args.views) if args.views else _collect(args.camera, prefix, board)
    return _calibrate(args, board, folder, site, previous, prefix, moving)


def _camera(site: Path, name: str) -> Camera:
    cameras = load_site(site).cameras
    return cameras[one_of("camera", name, cameras)]


def _calibrate(
    args, board, folder: Path, site: Path, previous: Camera | None, prefix: str, moving: bool
) -> int:
    K, views = read_views(folder)
    detections = find_board(views, K, board)
    found = calibrate(detections, K, moving)
    lens = check_intrinsics(detections, K)
    now = datetime.now().isoformat(timespec="seconds")
    record = found.record(board, now)
    if not cv2.imwrite(str(folder / PICTURE), residual_picture(detections, K, found)[..., ::-1]):
        raise InputError(f"cannot write {folder / PICTURE}")
    backup = write_camera(
        site, args.camera, Camera(prefix, found.T, moving, calibrated=record), now.replace(":", "-")
    )
    _save(
        args.json,
        {
            "camera": args.camera,
            "prefix": prefix,
            "moving": moving,
            "T": found.T.tolist(),
            **record,
            "scale": found.scale,
            "given_px": lens.given_px,
            "fitted_px": lens.fitted_px,
            "fitted_K": lens.K.tolist(),
            "warning": lens.warning,
            "per_view": {s.view.name: row.tolist() for s, row in zip(detections, found.per_view)},
        },
    )
    for s, (px, mm, deg) in zip(detections, found.per_view):
        print(
            f"  {s.view.name:12} {len(s.corners.points):3d} corners  {px:6.2f} px {mm:6.2f} mm"
            f" {deg:6.3f} degrees"
        )
    print(
        f"{args.camera}: {len(detections)} of {len(views)} views, RMS {record['residual_px']:.2f}"
        f" px, {record['residual_mm']:.2f} mm, {record['residual_deg']:.3f} degrees; the camera's"
        f" pose is certain to {found.spread[0]:.2f} mm, {found.spread[1]:.3f} degrees (1 sigma)"
    )
    if previous is not None and previous.moving == moving:
        print(
            "it was {:.1f} mm and {:.2f} degrees elsewhere before".format(
                *pose_difference(previous.T, found.T)
            )
        )
    print(
        f"intrinsics: {lens.given_px:.2f} px with the driver's, {lens.fitted_px:.2f} px with fitted"
        " ones"
    )
    if lens.warning:
        print(f"gwm: warning: {lens.warning}", file=sys.stderr)
    print(f"{folder / PICTURE}\n{site}" + (f" (the old one is {backup.name})" if backup else ""))
    return 0


def _check(args, board: Board, camera: Camera) -> int:
    folder = Path(args.views) if args.views else _collect(args.camera, camera.prefix, None)
    K, views = read_views(folder)
    view = views[0]
    claimed = camera.T if not camera.moving else fk(view.q) @ camera.T
    if args.board_pose:
        board_pose = _board_pose(args.board_pose, camera, view)
        how = f"board {board}"
        verdict = pose_check.check_board(view, K, board, board_pose, claimed)
    elif camera.moving:
        raise InputError(
            f"{args.camera} is on the hand and does not see the arm: give --board-pose"
        )
    else:
        # This needs MuJoCo, which a robot's machine may lack.
        from gwm_core.calibration.check_by_arm import check_body

        how = "the arm's own body"
        verdict = check_body(view, K, claimed)
    ok = verdict.accepted
    _save(
        args.json,
        {
            "camera": args.camera,
            "by": how,
            "view": view.name,
            "mm": verdict.mm,
            "deg": verdict.deg,
            "seen": verdict.visible,
            "accepted": ok,
        },
    )
    print(
        f"{args.camera}: {'accepted' if ok else 'REFUSED'} by {how}: {verdict.mm:.1f} mm and"
        f" {verdict.deg:.2f} degrees from its claimed pose (at most"
        f" {pose_check.MAXIMUM_OFFSET_MM:g} and {pose_check.MAXIMUM_OFFSET_DEG:g}),"
        f" {100 * verdict.visible:.0f} % of what should be in view is there"
    )
    if not ok:
        mount = "hand" if camera.moving else "base"
        print(f"calibrate it again: gwm calibrate --camera {args.camera} --mount {mount}")
    return 0 if ok else 1


def _board_pose(text: str, camera: Camera, view: CalibrationView) -> np.ndarray:
    """Return T_base_board (4, 4)."""
    if text == "stored":
        calibrated = camera.calibrated or {}
        if "T_base_board" in calibrated:
            return np.array(calibrated["T_base_board"])
        if "T_tcp_board" in calibrated:
            return fk(view.q) @ np.array(calibrated["T_tcp_board"])
        raise InputError("the site file has no calibration with a board: give x,y,z,roll,pitch,yaw")
    try:
        x, y, z, *angles = (float(word) for word in text.split(","))
        T = np.eye(4)
        T[:3, :3] = Rotation.from_euler("xyz", np.reshape(angles, 3), degrees=True).as_matrix()
        T[:3, 3] = x, y, z
    except ValueError:
        T = np.full((4, 4), np.nan)
    if not np.isfinite(T).all():
        raise InputError(
            f"--board-pose '{text}' is neither 'stored' nor x,y,z,roll,pitch,yaw [m, degrees]"
        ) from None
    return T


def _save(path: str | None, figures: dict) -> None:
    if path:
        write_json(path, figures)


def _collect(camera: str, prefix: str, board: Board | None) -> Path:
    """Take views of the running camera into a new folder.

    With a board one per Enter, without a board a single one at once.
    """
    from gwm.tools.calibration_views import ViewTaker

    folder = Path("runs") / f"calibrate-{camera}-{time.strftime('%Y%m%d-%H%M%S')}"
    with ViewTaker(camera, prefix) as taker:
        if board is None:
            add_view(folder, *taker.take("00.png"))
            return folder
        print(
            f"views go to {folder}. Move the arm, let it rest, press Enter for a view; q and Enter"
            " ends."
        )
        count = 0
        while _wants_view(taker):
            try:
                K, view = taker.take(f"{count:02d}.png")
            except InputError as error:
                print(f"  not taken: {error}")
                continue
            corners = board.detect(view.color)
            if corners is None:
                print(
                    "  not taken: the board is not seen (whole, sharp, not too far, not too"
                    " slanted)"
                )
                continue
            add_view(folder, K, view)
            count += 1
            print(f"  {view.name}: {len(corners.points)} corners")
    if not count:
        raise InputError("no views were taken")
    return folder


def _wants_view(taker) -> bool:
    """Wait for a line while the topics are read. Returns False for q or the end of input."""
    while not select.select([sys.stdin], [], [], 0)[0]:
        taker.spin(0.05)
    line = sys.stdin.readline()
    return bool(line) and line.strip().lower() != "q"
