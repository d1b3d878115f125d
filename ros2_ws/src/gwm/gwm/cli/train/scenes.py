"""``gwm train vae`` and ``gwm train image``, which learn from scenes or images alone."""

from __future__ import annotations

from pathlib import Path

from gwm.cli.train.runs import declare, declare_compile, episode_folders, named_configs, train_all
from gwm.tools.terminal import DeferredProgressBar, verb


def add(kinds) -> None:
    """Declare the kinds."""
    p = verb(
        kinds,
        "vae",
        "Train the 3D VAE on the scenes of recorded episodes; an interrupted run is resumed.",
        "gwm train vae --data data/pick --out models/mine",
        train_vae,
    )
    declare(p, "demo, paper or tiny")
    declare_compile(p)
    p = verb(
        kinds,
        "image",
        "Train the baseline without Gaussians, images to images; an interrupted run is resumed.",
        "gwm train image --data data/pick --out models/image",
        train_image,
    )
    declare(p, "demo or tiny")
    declare_compile(p)


def train_vae(args) -> int:
    from gwm_core.model.config import VAES
    from gwm_core.training.train_vae import train_vae

    network, config = named_configs(args, VAES, "vae")
    clips = _clips(args, network.lift)

    def train(run) -> dict:
        return train_vae(clips, network, run, DeferredProgressBar("follow"))

    figures = _trained(args, config, train)
    print(
        f"{args.out}: held-out scenes {figures['psnr']:.1f} dB, cube and gripper"
        f" {figures['psnr_parts']:.1f} dB, Chamfer {figures['chamfer_mm']:.1f} mm, cube"
        f" {figures['cube_mm']:.1f} mm".replace("nan mm", "not seen").replace("nan dB", "not seen")
    )
    return 0


def train_image(args) -> int:
    from gwm_core.model.config import IMAGE_MODELS, VAES
    from gwm_core.training.train_image_model import train_image_model

    network, config = named_configs(args, IMAGE_MODELS, "image")
    # The clips are cached for the VAE of the same name; their scenes are not used here.
    clips = _clips(args, VAES[args.config][0].lift)
    figures = _trained(args, config, lambda run: train_image_model(clips, network, run))
    print(
        f"{args.out}: next picture of held-out episodes {figures['psnr']:.1f} dB (the last one"
        f" repeated: {figures['psnr_repeat_last']:.1f} dB)"
    )
    return 0


def _clips(args, lift):
    from gwm_core.training.datasets.clips import load_clips

    return load_clips(episode_folders(args), lift, args.processes, DeferredProgressBar("lift"))


def _trained(args, config, train) -> dict:
    """Train as --out says, with what the network will have seen in its provenance."""
    from gwm_core.data.episode_info import list_all_episodes, read_infos, start_names
    from gwm_core.training.training_run import TrainingRun

    folders = list_all_episodes(Path(folder) for folder in args.data)
    starts = start_names(read_infos(path for some in folders.values() for path in some))
    run = TrainingRun(config, Path(args.out), {"trained_on": sorted(set(starts))})
    (figures,) = train_all(args, [run], train)
    return figures
