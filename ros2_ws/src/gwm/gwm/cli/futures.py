"""``gwm imagine``, ``gwm replay`` and ``gwm eval world``: futures seen and measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from gwm.cli import options
from gwm.tools.terminal import DeferredProgressBar, note, positive, shipped, verb, writable
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json


def add(verbs) -> None:
    """Declare ``gwm imagine`` and ``gwm replay``."""
    p = verb(
        verbs,
        "imagine",
        "Show what a policy predicts of an episode beside what was seen.",
        "gwm imagine data/held_out/pick_place_nominal_005000 --horizon 16 --out film",
        show,
    )
    p.add_argument("episode", type=options.existing, help="folder of an episode")
    options.model(p)
    options.folders(
        p, "out", "for imagine.png, imagine.mp4 and imagine.json, or imagine.webp", required=True
    )
    options.count(p, "horizon", 16, "steps of 0.1 s")
    p.add_argument("--camera", help="default: the first of the episode")
    p.add_argument(
        "--start",
        type=float,
        metavar="SECONDS",
        help="time of the last observation (default: half-way)",
    )
    p.add_argument(
        "--throughout",
        action="store_true",
        help="the whole episode as imagine.webp: the camera, beside what was predicted of each"
        " instant the longest lookahead within the horizon before",
    )

    p = verb(
        verbs,
        "replay",
        "A recorded run as one page that plays: seen, imagined, joints, divergence, decisions",
        "gwm replay runs/20261124-230205 --html replay.html",
        replay,
    )
    p.add_argument("folder", type=options.existing, help="folder of a run, or of an episode")
    p.add_argument("--html", metavar="FILE", help="default: replay.html in that folder")
    p.add_argument(
        "--rrd",
        metavar="DIR",
        help="instead of a page, write each episode as a file of the Rerun viewer",
    )
    p.add_argument("--failures", action="store_true", help="only episodes that failed")


def add_eval(kinds) -> None:
    """Declare ``gwm eval world``."""
    p = verb(
        kinds,
        "world",
        "Compare predicted futures with recorded ones, beside simpler predictions.",
        "gwm eval world --data data/held_out --json world.json",
        evaluate_world,
    )
    options.folders(
        p, "data", "episodes of seeds 5000 up, which no network was trained on", required=True
    )
    options.model(p)
    options.folders(p, "image-model", "compare with this one of `gwm train image`")
    options.count(p, "horizon", 8, "steps of 0.1 s")
    options.count(p, "stride", 5, "steps between two windows")
    p.add_argument(
        "--actions",
        action="store_true",
        help="also measure whether the gripper follows its commands",
    )
    options.folders(p, "probe-data", "training episodes, for --actions")
    options.processes(p, "for lifting the images")
    options.json_file(p)


def evaluate_world(args) -> int:
    from gwm_core.evaluation.future_predictor import load_predictor
    from gwm_core.evaluation.gripper_probe import action_test
    from gwm_core.evaluation.world_model_eval import evaluate
    from gwm_core.model.checkpoint import load_image_model, load_vae
    from gwm_core.training.datasets.clips import load_clips
    from gwm_core.training.datasets.policy_samples import refuse_reserved
    from gwm_core.training.vae_reconstruction import evaluate_vae

    writable(args.json)
    if args.actions != bool(args.probe_data):
        raise InputError(
            "--actions needs --probe-data, episodes the probe learns from, and nothing else does"
        )
    horizon, stride = positive("horizon", args.horizon), positive("stride", args.stride)
    positive("processes", args.processes)
    args.model = args.model or shipped()
    world, vae = load_predictor(Path(args.model), horizon), load_vae(Path(args.model))
    refuse_seen_by(Path(args.model), Path(args.data))
    image_model = None
    if args.image_model:
        image_model = load_image_model(Path(args.image_model))
        refuse_seen_by(Path(args.image_model), Path(args.data), ("image",))
    load = partial(load_clips, config=vae.config.lift, processes=args.processes)
    clips = load([Path(args.data)], progress=DeferredProgressBar("lift"))
    figures = evaluate(world, clips, stride, image_model, DeferredProgressBar("imagine"))
    figures["vae"] = evaluate_vae(vae, clips, range(0, len(clips), stride))
    if args.actions:
        refuse_reserved([Path(args.probe_data)])
        known = load([Path(args.probe_data)], progress=DeferredProgressBar("lift"))
        figures["actions"] = action_test(
            world, vae, clips, known, stride, DeferredProgressBar("actions")
        )
    if args.json:
        write_json(
            args.json,
            {"data": args.data, "model": args.model, "image_model": args.image_model} | figures,
        )
    print(_table(figures))
    return 0


def refuse_seen_by(model: Path, data: Path, kinds: tuple[str, ...] = ("policy", "vae")) -> None:
    """Raise InputError where the networks in ``model`` were trained on episodes of ``data``.

    Args:
        kinds: of network.
    """
    from gwm_core.data.episode_info import list_episodes, read_infos, start_names
    from gwm_core.model.weights_file import refuse_seen

    starts = start_names(read_infos(list_episodes(data)))
    for kind in kinds:
        refuse_seen(model, kind, starts, note)


def show(args) -> int:
    from gwm_core.evaluation.future_predictor import load_predictor
    from gwm_core.evaluation.rollout_video import (
        camera_index,
        choose_start,
        make_rollout_video,
        read_clips,
        write_rollout_video,
    )

    args.model = args.model or shipped()
    horizon, out = positive("horizon", args.horizon), Path(args.out)
    if args.throughout and args.start is not None:
        raise InputError("--throughout shows the whole episode: leave out --start")
    world = load_predictor(Path(args.model), horizon)
    if args.throughout:
        return _show_throughout(args, world, out)
    clips, cameras = read_clips(Path(args.episode), world.lift_config)
    camera = camera_index(cameras, args.camera)
    start = choose_start(clips, world.steps[-1], args.start)
    made = make_rollout_video(world, clips, start, camera)
    _make_folder(out)
    sheet, video = write_rollout_video(made, out)
    write_json(
        out / "imagine.json",
        {"episode": args.episode, "model": args.model, "camera": cameras[camera]} | made.figures,
    )
    print(f"{cameras[camera]}, from {made.figures['start_s']:.1f} s on")
    print(_table(made.figures))
    print(f"{sheet}, {video}, {out / 'imagine.json'}")
    return 0


def _show_throughout(args, world, out: Path) -> int:
    from gwm_core.evaluation.rollout_video import lookahead_frames, write_webp

    progress = DeferredProgressBar("imagine")
    frames = list(lookahead_frames(world, Path(args.episode), args.camera, progress))
    _make_folder(out)
    write_webp(frames, out / "imagine.webp")
    print(out / "imagine.webp")
    return 0


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another --out") from None


def replay(args) -> int:
    from gwm.tools.replay import write_page, write_rerun_files

    run = Path(args.folder)
    if args.rrd:
        if args.html:
            raise InputError("--html and --rrd: give one of them")
        _make_folder(Path(args.rrd))
        count = write_rerun_files(run, Path(args.rrd), args.failures, DeferredProgressBar("write"))
        print(f"{count} episodes; open them: rerun {Path(args.rrd) / '*.rrd'}")
        return 0
    out = Path(args.html or run / "replay.html")
    writable(str(out))
    count = write_page(run, out, args.failures, DeferredProgressBar("read"))
    print(
        f"{count} episodes, {out.stat().st_size / 1e6:.1f} MB; open it in a browser:"
        f" {out.resolve().as_uri()}"
    )
    return 0


def _table(figures: dict) -> str:
    """A line for each method and region, a column for each step."""
    names = {
        "": "predicted",
        "_image_model": "image model",
        "_repeat_last": "last repeated",
        "_round_trip": "VAE alone",
    }
    lines = [f"{'':36}" + "".join(f"{0.1 * step:7.1f} s" for step in figures["steps"])]

    def row(label: str, values: list[float], digits: int) -> None:
        lines.append(f"{label:36}" + "".join(f"{value:9.{digits}f}" for value in values))

    for region, what in (("whole", "workspace"), ("moving", "what moves")):
        for kind, unit, digits in (("psnr", "PSNR [dB]", 2), ("ssim", "SSIM", 3)):
            for ending, name in names.items():
                if kind + ending in figures[region]:
                    row(f"{what}, {unit}, {name}", figures[region][kind + ending], digits)
    row("Chamfer [mm]", figures["chamfer_mm"], 2)
    if "vae" in figures:
        lines.append(
            "observed scenes through the VAE: {psnr:.1f} dB, cube and robot {psnr_parts:.1f} dB,"
            " Chamfer {chamfer_mm:.1f} mm, cube {cube_mm:.1f} mm".format(**figures["vae"])
        )
    for name, what in (
        ("imagined", "imagined"),
        ("excess", "over the probe's own"),
        ("shuffled", "other actions"),
    ):
        if "actions" in figures:
            row(f"gripper [mm], {what}", figures["actions"][f"{name}_mm"], 1)
    for name, what in (("repeat_last", "the last repeated"), ("image_model", "the image model")):
        if f"gain_{name}_ci95" in figures:
            low, high = figures[f"gain_{name}_ci95"]
            lines.append(
                f"gain where things move over {what}, last step: 95 % [{low:.2f}, {high:.2f}] dB"
            )
    return "\n".join(lines)
