"""``gwm train``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from gwm.tools.terminal import (
    DeferredProgressBar,
    ProgressBar,
    cores,
    device,
    note,
    positive,
    verb,
    writable,
    writable_folder,
)
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json

# Steps of 0.1 s between sequences, where features look ahead.
CLOSE_STRIDE = 3
SEQUENCE = 8  # steps of 0.1 s that a sequence of latents has after its context


def add(verbs) -> None:
    """Declare the verbs."""
    kinds = verb(
        verbs,
        "train",
        "Train a network.",
        "gwm train policy --data data/pick --out models/mine",
        None,
    )
    kinds = kinds.add_subparsers(metavar="WHAT", required=True)
    _add_policy(kinds)
    _add_vae(kinds)
    _add_world(kinds)
    _add_image(kinds)
    _add_success(kinds)


def _add_policy(kinds) -> None:
    p = verb(
        kinds,
        "policy",
        "Train a policy on recorded episodes; an interrupted run is resumed.",
        "gwm train policy --data data --config demo --out models/mine",
        train_policy,
    )
    _training(p, "demo, joint (one network that plans and predicts), tiny or tiny_joint")
    p.add_argument(
        "--world", metavar="DIR", help="condition the policy on features of this world model"
    )
    p.add_argument(
        "--futures",
        nargs="+",
        metavar="DIR",
        help="episodes of any outcome and task, on which a joint network also learns to predict",
    )
    p.add_argument("--vae", metavar="DIR", help="of the VAE whose latents --futures predicts")
    p.add_argument("--begin", metavar="DIR", help="start from the weights of this joint network")
    p.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="tasks that a joint network is to know (default: those of --data)",
    )
    p.add_argument(
        "--lengths",
        type=int,
        nargs="+",
        metavar="ITERATIONS",
        help="train policies of several lengths, in folders OUT/ITERATIONS; each goes on from where"
        " the rate of the shorter one began to fall",
    )


def _add_vae(kinds) -> None:
    p = verb(
        kinds,
        "vae",
        "Train the 3D VAE on the scenes of recorded episodes; an interrupted run is resumed.",
        "gwm train vae --data data/pick --out models/mine",
        train_vae,
    )
    _training(p, "demo, paper or tiny")


def _add_world(kinds) -> None:
    p = verb(
        kinds,
        "world",
        "Train the world model on the latents of a VAE; an interrupted run is resumed.",
        "gwm train world --data data/pick --vae models/mine --out models/mine",
        train_world,
    )
    _training(p, "demo, paper or tiny")
    p.add_argument("--vae", help="folder of the VAE (default: --out)")
    p.add_argument(
        "--begin",
        metavar="DIR",
        help="start from the weights of this world model, on other episodes",
    )
    p.add_argument(
        "--ahead",
        type=int,
        default=0,
        metavar="STEPS",
        help=(
            f"its features predict the change so many steps of 0.1 s later, 1-{SEQUENCE}"
            " (default: features of its blocks at the next step)"
        ),
    )


def _add_image(kinds) -> None:
    p = verb(
        kinds,
        "image",
        "Train the baseline without Gaussians, images to images; an interrupted run is resumed.",
        "gwm train image --data data/pick --out models/image",
        train_image,
    )
    _training(p, "demo or tiny")


def _add_success(kinds) -> None:
    p = verb(
        kinds,
        "success",
        "Fit the success head of a joint network to further episodes, and calibrate it on others.",
        "gwm train success --policy models/joint --data runs/first --calibrate runs/second"
        " --out models/with_success",
        train_success,
    )
    p.add_argument("--policy", required=True, metavar="DIR", help="joint network to go on from")
    _training(p, "joint or tiny_joint")
    p.set_defaults(config="joint")
    p.add_argument(
        "--samples",
        type=int,
        help="scenes to fit to at most, each also as predicted (default: the configuration's)",
    )
    p.add_argument(
        "--calibrate",
        nargs="+",
        default=[],
        metavar="DIR",
        help="trials with a verdict that the network has not seen; without them its probabilities"
        " are not calibrated",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE")


def _training(p, configs: str) -> None:
    p.add_argument("--data", nargs="+", required=True, help="folders with episodes")
    p.add_argument("--out", required=True, help="folder for the trained network")
    p.add_argument("--config", default="demo", help=f"{configs} (default: %(default)s)")
    p.add_argument("--iterations", type=int, help="default: the configuration's")
    p.add_argument("--batch", type=int, help="default: the configuration's")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument("--processes", type=int, default=cores(), help="for lifting the images")


def train_policy(args) -> int:
    from gwm_core.model.config import POLICIES, WorldActionConfig
    from gwm_core.training.datasets.policy_samples import load_samples, tasks_of
    from gwm_core.training.train_policy import train_policy

    network, config = _configs(args, POLICIES, "policy")
    runs = _runs(args, config)
    if isinstance(network, WorldActionConfig):
        return _train_joint(args, network, runs)
    if given := [n for n in ("futures", "vae", "begin", "tasks") if getattr(args, n)]:
        raise InputError(f"--{given[0]} is for a network that also predicts: --config joint")
    world = Path(args.world) if args.world else None
    if world:
        from gwm_core.model.checkpoint import refuse_others
        from gwm_core.runtime.world_features import WorldFeatures

        for run in runs:
            refuse_others(world, run.out, "vae", "world")
        features = WorldFeatures(world)
        network = replace(network, world_features=features.channels, lift=features.lift_config)
    folders = _folders(args)
    network = replace(network, tasks=tasks_of(folders, network.tasks))
    samples = load_samples(
        folders, network.tasks, network.lift, args.processes, DeferredProgressBar("lift"), world
    )
    found = _train(args, runs, lambda run: train_policy(samples, network, run, world))
    for run, figures in zip(runs, found):
        print(f"{run.out}: held-out position error {figures['position_mm']:.1f} mm")
    return 0


def _train_joint(args, network, runs: list) -> int:
    """Train a network that plans and predicts."""
    from gwm_core.model.checkpoint import refuse_others
    from gwm_core.training.datasets.joint_samples import load_joint_samples
    from gwm_core.training.train_world_action_model import train_world_action_model

    if args.world:
        raise InputError("--world is for a policy of --config demo: a joint network has its own")
    if bool(args.futures) != bool(args.vae):
        raise InputError("--futures and --vae go together: episodes, and what makes their latents")
    vae, begin = (Path(folder) if folder else None for folder in (args.vae, args.begin))
    for run in runs if vae else ():
        refuse_others(vae, run.out, "vae")
    loaded = load_joint_samples(
        network,
        _folders(args),
        args.processes,
        DeferredProgressBar("lift"),
        DeferredProgressBar("encode"),
        [Path(folder) for folder in args.futures or ()],
        vae,
        begin,
        args.tasks or (),
    )

    def train(run) -> dict:
        return train_world_action_model(
            loaded.demonstrations, loaded.config, run, loaded.futures, vae, begin
        )

    for run, figures in zip(runs, _train(args, runs, train)):
        missed = [
            f"{value:.0%} after {int(name.split('_')[1]) / 10} s"
            for name, value in figures.items()
            if name.startswith("missed_")
        ]
        said = f"; futures miss of the change {', '.join(missed)}" if missed else ""
        print(f"{run.out}: held-out position error {figures['position_mm']:.1f} mm{said}")
    return 0


def _runs(args, config) -> list:
    """Return the run of --out, or one for each of --lengths, shortest first."""
    from gwm_core.training.training_run import TrainingRun, lengths_of

    run = TrainingRun(config, Path(args.out))
    if not args.lengths:
        return [run]
    return lengths_of(run, [positive("lengths", length) for length in args.lengths])


def train_vae(args) -> int:
    from gwm_core.model.config import VAES
    from gwm_core.training.datasets.clips import load_clips
    from gwm_core.training.train_vae import train_vae
    from gwm_core.training.training_run import TrainingRun

    network, config = _configs(args, VAES, "vae")
    clips = load_clips(_folders(args), network.lift, args.processes, DeferredProgressBar("lift"))
    (figures,) = _train(
        args,
        [TrainingRun(config, Path(args.out), _seen(args))],
        lambda run: train_vae(clips, network, run, DeferredProgressBar("follow")),
    )
    print(
        f"{args.out}: held-out scenes {figures['psnr']:.1f} dB, cube and gripper"
        f" {figures['psnr_parts']:.1f} dB, Chamfer {figures['chamfer_mm']:.1f} mm, cube"
        f" {figures['cube_mm']:.1f} mm".replace("nan mm", "not seen").replace("nan dB", "not seen")
    )
    return 0


def train_world(args) -> int:
    from gwm_core.model.checkpoint import load_vae, refuse_others
    from gwm_core.model.config import WORLDS
    from gwm_core.training.datasets.clips import load_clips
    from gwm_core.training.datasets.latents import encode_sequences
    from gwm_core.training.train_world_model import train_world
    from gwm_core.training.training_run import TrainingRun

    network, config = _configs(args, WORLDS, "world")
    if not 0 <= args.ahead <= SEQUENCE:
        raise InputError(
            f"--ahead must lie in 1-{SEQUENCE} (0: features do not look ahead), got {args.ahead}"
        )
    network = replace(network, lookahead=args.ahead)
    folder = Path(args.vae or args.out)
    refuse_others(folder, Path(args.out), "vae")
    vae = load_vae(folder)
    clips = load_clips(_folders(args), vae.config.lift, args.processes, DeferredProgressBar("lift"))
    length = network.context + SEQUENCE
    stride = CLOSE_STRIDE if network.lookahead else SEQUENCE
    sequences = encode_sequences(
        vae.to(args.device), clips, length, stride, DeferredProgressBar("encode")
    )
    episode, begin = clips.episode[sequences.starts], Path(args.begin) if args.begin else None
    (figures,) = _train(
        args,
        [TrainingRun(config, Path(args.out), _seen(args))],
        lambda run: train_world(sequences, episode, folder, network, run, begin),
    )
    print(
        f"{args.out}: held-out error after 0.1 s {figures['error_first']:.2f} (nothing moves: "
        f"{figures['static_first']:.2f}), after {SEQUENCE / 10} s {figures['error_last']:.2f} "
        f"({figures['static_last']:.2f})"
        + (
            f"; features miss {figures['lookahead']:.0%} of what changes in"
            f" {network.lookahead / 10} s"
            if network.lookahead
            else ""
        )
    )
    return 0


def train_image(args) -> int:
    from gwm_core.model.config import IMAGE_MODELS, VAES
    from gwm_core.training.datasets.clips import load_clips
    from gwm_core.training.train_image_model import train_image_model
    from gwm_core.training.training_run import TrainingRun

    network, config = _configs(args, IMAGE_MODELS, "image")
    # The clips are cached for the VAE of the same name; their scenes are not used here.
    lift = VAES[args.config][0].lift
    clips = load_clips(_folders(args), lift, args.processes, DeferredProgressBar("lift"))
    (figures,) = _train(
        args,
        [TrainingRun(config, Path(args.out), _seen(args))],
        lambda run: train_image_model(clips, network, run),
    )
    print(
        f"{args.out}: next picture of held-out episodes {figures['psnr']:.1f} dB (the last one"
        f" repeated: {figures['psnr_repeat_last']:.1f} dB)"
    )
    return 0


def train_success(args) -> int:
    from gwm_core.model.checkpoint import refuse_others
    from gwm_core.model.config import POLICIES, WorldActionConfig
    from gwm_core.training.success.train_success import load_success_samples, train_success
    from gwm_core.training.training_run import TrainingRun

    writable(args.json)
    joint = {name: c for name, c in POLICIES.items() if isinstance(c[0], WorldActionConfig)}
    _, config = _configs(args, joint, "policy")
    iterations = args.iterations or config.success_iterations
    count = config.success_samples if args.samples is None else args.samples
    config = replace(
        config,
        iterations=iterations,
        success_iterations=iterations,
        success_batch=args.batch or config.success_batch,
        success_samples=positive("samples", count),
    )
    policy, out = Path(args.policy), Path(args.out)
    refuse_others(policy, out, "vae")
    calibrate = [Path(folder) for folder in args.calibrate]
    samples = load_success_samples(
        policy, _folders(args), calibrate, args.processes, DeferredProgressBar("encode"), note
    )
    (figures,) = _train(
        args,
        [TrainingRun(config, out)],
        lambda run: train_success(policy, samples, run, DeferredProgressBar("predict")),
    )
    print(_success_table(out, figures))
    if args.json:
        write_json(args.json, figures)
    return 0


def _success_table(out: Path, figures: dict) -> str:
    """A line for the head, and one for each calibrated question."""
    names = {"done": "done right {:.0%}", "done_missed": "missed {:.0%}", "value_auc": "AUC {:.2f}"}
    said = [
        kind
        + ", ".join(
            text.format(figures[prefix + name])
            for name, text in names.items()
            if prefix + name in figures
        )
        for prefix, kind in (("", "held-out scenes: "), ("predicted_", "as predicted: "))
    ]
    lines = [f"{out}: " + "; ".join(said)]
    for task, questions in figures.get("calibration", {}).items():
        for question, found in questions.items():
            measures = ", ".join(
                f"{label} {found['before'][name]:.3f} -> {found['after'][name]:.3f}"
                for name, label in (("ece", "ECE"), ("brier", "Brier"), ("nll", "NLL"))
            )
            lines.append(f"{task}, {question}: {found['trials']} trials, {measures}")
    return "\n".join(lines)


def _folders(args) -> list[Path]:
    """Return the episodes' folders. Raises InputError for seeds that are kept for reports."""
    from gwm_core.training.datasets.policy_samples import refuse_reserved

    positive("processes", args.processes)
    folders = [Path(folder) for folder in args.data]
    refuse_reserved(folders)
    return folders


def _seen(args) -> dict[str, list[str]]:
    """Return what the network will have seen, for its provenance; {} where --begin does not say."""
    from gwm_core.data.episode_info import list_all_episodes, read_infos, start_names
    from gwm_core.model.weights_file import read_weights

    folders = list_all_episodes(Path(folder) for folder in args.data)
    seen = set(start_names(read_infos(path for some in folders.values() for path in some)))
    if begin := getattr(args, "begin", None):
        before = read_weights(Path(begin), "world").manifest.get("provenance", {})
        if "trained_on" not in before:
            return {}
        seen |= set(before["trained_on"])
    return {"trained_on": sorted(seen)}


def _configs(args, among: dict, kind: str) -> tuple:
    """Return the named configurations with the flags' changes.

    It also checks that the output folder is writable and holds no finished network of ``kind``.
    """
    from gwm_core.model.config import named_config
    from gwm_core.model.weights_file import MANIFESTS
    from gwm_core.training.training_loop import refuse_finished

    device(args.device)
    network, config = named_config(args.config, among)
    lengths = getattr(args, "lengths", None)
    if lengths and args.iterations is not None:
        raise InputError("--iterations and --lengths exclude each other")
    given = {name: getattr(args, name) for name in ("iterations", "batch")}
    changes = {name: positive(name, value) for name, value in given.items() if value is not None}
    if not lengths:
        refuse_finished(Path(args.out), MANIFESTS[kind])
    writable_folder(args.out)
    return network, replace(config, seed=args.seed, **changes)


def _train(args, runs: list, train) -> list[dict]:
    """Train with a bar and a TensorBoard log, also as a process of ``torchrun``.

    Args:
        runs: ``TrainingRun``s, to which device, provenance, bar and log are added.
        train: trains as a run says.

    Returns:
        The figures of every run.
    """
    from gwm_core.training.distributed import joined

    with joined(args.device) as rank:  # once: processes that left do not find each other again
        return [_train_one(args, run, train, rank) for run in runs]


def _train_one(args, run, train, rank: int) -> dict:
    from gwm_core.training.tensorboard_log import TensorBoardLog

    bar = ProgressBar(run.config.iterations, "train")
    bar.begin()

    def learned(done: int, total: int, figures: dict) -> None:
        bar.to(done, " ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    provenance = run.provenance | {"command": "gwm " + " ".join(sys.argv[1:])}
    with TensorBoardLog(run.out / "log" if rank == 0 else None) as log:
        return train(
            replace(run, provenance=provenance, device=args.device, progress=learned, record=log)
        )
