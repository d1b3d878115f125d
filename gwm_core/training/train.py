"""What is trained on what: the policy on samples, the VAE on scenes, the world model on the VAE's
latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.checkpoint import load_vae, load_world, save_policy, save_vae, save_world
from gwm_core.model.config import PolicyConfig, TrainConfig, VAEConfig, WorldModelConfig
from gwm_core.model.flow_matching import sample_times
from gwm_core.model.policy import ACTION, Policy
from gwm_core.model.vae import VAE
from gwm_core.model.weights_file import digest
from gwm_core.model.world_model import WorldModel
from gwm_core.scene.token_tracking import find_gripper_tokens
from gwm_core.training import vae_reconstruction
from gwm_core.training.datasets.clips import SceneClips
from gwm_core.training.datasets.latents import LatentSequences, tracked
from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.training_loop import Batch, finish, fit

Progress = Callable[[int, int, dict], None]
# moments that the VAE's tokens are followed for: as long as the world model is trained to imagine
TRACKED = 9
_STRIDE = 7  # of the moments that tell where the hand is seen
JITTER = 0.1  # of the history of the world model, in spreads of a change
IMAGINED = 3  # moments before the target that are imagined in training, at most


def silent(*_) -> None:
    """Reports nothing."""


def held_out(episode: np.ndarray, share: float) -> np.ndarray:
    """Which samples (S,) are for validation: every so many-th episode, of fewer the last.

    Raises InputError where that leaves none, or none to train on.
    """
    there = int(episode.max(initial=-1)) + 1
    if there < 2:
        raise InputError("one episode is too few: two are needed, one of them for validation")
    every = min(there, max(2, round(1 / share)))
    held = episode % every == every - 1
    if held.all() or not held.any():
        which = "nothing is left to train on" if held.all() else "nothing is held out"
        raise InputError(
            f"{which}: only {len(np.unique(episode))} of {there} episodes are long enough; record"
            " more"
        )
    return held


class Batches:
    """All samples on one device, drawn at random and augmented."""

    def __init__(
        self, samples: PolicySamples, device: torch.device, config: TrainConfig, rows: int
    ):
        self.device, self._draws, self._rows = device, config.draws, rows
        arrays = {name: getattr(samples, name) for name in samples.__annotations__}
        self._arrays = {
            name: torch.from_numpy(a).to(device) for name, a in arrays.items() if a is not None
        }
        held = torch.from_numpy(held_out(samples.episode, config.held_out)).to(device)
        self.training, self.validation = (~held).nonzero()[:, 0], held.nonzero()[:, 0]
        for name, index in (("to train on", self.training), ("held out", self.validation)):
            if not self._arrays["valid"][index].any():
                raise InputError(
                    f"nothing is {name}: in none of these episodes did the arm follow the task;"
                    " `gwm data verify` says which ones are fit to train on"
                )

    def take(self, index: Tensor) -> Batch:
        """Samples by number, as the policy wants them."""
        a = {name: array[index] for name, array in self._arrays.items() if name != "episode"}
        return a | {"points": a["points"].float(), "colors": a["colors"].float() / 255}

    def draw(self, count: int) -> Batch:
        """An augmented training batch: jittered points, shifted clouds, other lighting, noisy
        proprioception.
        """
        batch = self.take(
            self.training[torch.randint(len(self.training), (count,), device=self.device)]
        )

        def normal(*shape, scale=1.0):
            return torch.randn(*shape, device=self.device) * scale

        points = batch["points"]
        points = points + normal(*points.shape, scale=0.0015) + normal(count, 1, 3, scale=0.003)
        gain = 1 + normal(count, 1, 1, scale=0.10) + normal(count, 1, 3, scale=0.05)
        batch["points"], batch["colors"] = points, (batch["colors"] * gain).clamp(0, 1)
        spread = torch.tensor([0.002] * 3 + [0.01] * 6 + [0.001, 0.0], device=self.device)
        batch["proprio"] = batch["proprio"] + normal(count, 11) * spread  # the rows stay absolute
        batch["noise"] = normal(count, self._draws, self._rows, ACTION)
        batch["times"] = sample_times((count, self._draws, 1, 1), self.device)
        return batch


@torch.no_grad()
def validate_policy(policy: Policy, batches: Batches, limit: int = 1024) -> dict[str, float]:
    """Mean position error [mm] over valid rows of held-out episodes, sampled as at run time."""
    errors = []
    index = batches.validation[:: max(1, len(batches.validation) // limit)]
    for part in index.split(128):
        b = batches.take(part)
        rows = policy(
            b["points"], b["colors"], b["proprio"], b["task"], b.get("features"), b.get("places")
        )
        errors.append((rows[..., :3] - b["rows"][..., :3]).norm(dim=-1)[b["valid"]])
    return {"position_mm": 1000 * float(torch.cat(errors).mean())}


def train_policy(
    samples: PolicySamples,
    policy_config: PolicyConfig,
    config: TrainConfig,
    out: Path,
    provenance: dict,
    device: str = "cpu",
    progress: Progress = silent,
    record: Callable = silent,
    world: Path | None = None,
) -> dict:
    """Train a policy into ``out``; the figures have its validation error [mm]. ``world``: where
    features came from.
    """
    torch.manual_seed(config.seed)
    batches = Batches(samples, torch.device(device), config, policy_config.rows)
    policy = Policy(policy_config).to(device)
    every = batches.take(batches.training[:: max(1, len(batches.training) // 20000)])
    relative = torch.cat(
        [every["rows"][..., :3] - every["proprio"][:, None, :3], every["rows"][..., 3:]], dim=-1
    )
    policy.set_normalization(relative)
    key = settings_key(policy_config, config, len(samples))
    average, figures = fit(
        policy,
        Policy.loss,
        batches.draw,
        lambda p: validate_policy(p, batches),
        config,
        Path(out),
        key,
        progress,
        record,
    )
    about = provenance | about_run(config, len(samples), device) | figures
    finish(out, lambda: save_policy(Path(out), average, about, world))
    return figures


def train_vae(
    clips: SceneClips,
    vae_config: VAEConfig,
    config: TrainConfig,
    out: Path,
    provenance: dict,
    device: str = "cpu",
    progress: Progress = silent,
    record: Callable = silent,
    follow: Callable = silent,
) -> dict:
    """Train a VAE into ``out``; the figures are those of ``reconstruction.judge_vae`` on held-out
    episodes.

    Args:
        follow: progress of following tokens through the clips, which comes first.
    """
    torch.manual_seed(config.seed)
    vae = VAE(vae_config).to(device)
    held = held_out(clips.episode, config.held_out)
    some = np.flatnonzero(~held)[::_STRIDE]
    riders = find_gripper_tokens(
        clips.scenes[some].astype(np.float32), from_rows(clips.poses[some]), vae_config.riders
    )
    vae.riders.copy_(torch.from_numpy(riders))
    moments, places = tracked(clips, riders, vae_config.tokens, TRACKED, follow)
    moments, places = moments[~held[moments]], places[~held[moments]]
    validation = np.flatnonzero(held)
    validation = validation[:: max(1, len(validation) // 48)]

    def draw(count: int) -> Batch:
        chosen = torch.randint(len(moments), (count,)).numpy()
        index = moments[chosen]
        images, regions = clips.images[index] / np.float32(255), clips.regions[index]
        behind = np.stack(
            [
                [vae_reconstruction.background(*view) for view in zip(*both)]
                for both in zip(images, regions)
            ]
        )
        arrays = images, behind, regions, clips.viewmats[index], clips.Ks[index]
        batch = dict(
            zip(("images", "behind", "regions", "viewmats", "Ks"), map(torch.from_numpy, arrays))
        )
        batch["scenes"] = torch.from_numpy(clips.scenes[index].astype(np.float32))
        batch["centers"] = torch.from_numpy(places[chosen])
        batch["noise"] = torch.randn(count, vae_config.tokens, vae_config.latent)
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def show(done: int, vae: VAE, figures: dict) -> None:
        record(
            done,
            vae,
            figures
            | {"observed | rebuilt": vae_reconstruction.side_by_side(vae, clips, validation[:4])},
        )

    average, figures = fit(
        vae,
        vae_reconstruction.loss,
        draw,
        lambda v: vae_reconstruction.evaluate_vae(v, clips, validation),
        config,
        Path(out),
        settings_key(vae_config, config, len(clips)),
        progress,
        show,
    )
    about = provenance | about_run(config, len(clips), device) | figures
    finish(out, lambda: save_vae(Path(out), average, about))
    return figures


def train_world(
    sequences: LatentSequences,
    episode: np.ndarray,
    vae_folder: Path,
    world_config: WorldModelConfig,
    config: TrainConfig,
    out: Path,
    provenance: dict,
    device: str = "cpu",
    progress: Progress = silent,
    record: Callable = silent,
    begin: Path | None = None,
) -> dict:
    """Train a world model on latents of the VAE in ``vae_folder``; the figures are errors on
    held-out sequences.

    Args:
        episode: (S,) of every sequence.
        begin: folder of a world model of the same VAE whose weights and normalisation are begun
            with.
    """
    torch.manual_seed(config.seed)
    world = WorldModel(world_config, load_vae(vae_folder).config).to(device)
    held, context = held_out(episode, config.held_out), world_config.context
    training = sequences.windows(context + 1 + IMAGINED, np.flatnonzero(~held))
    pairs = sequences.windows(world_config.ahead + 1, np.flatnonzero(~held))
    known = sequences.latents[~held].float()
    ahead = world_config.ahead
    world.set_normalization(
        known, known[:, 1:] - known[:, :-1], known[:, ahead:] - known[:, :-ahead] if ahead else None
    )
    key = (
        settings_key(world_config, config, len(episode))
        + (Path(vae_folder) / "vae.json").read_text()
    )
    if begin:
        world.load_state_dict(world.state_dict() | _begun(begin, vae_folder, world_config))
        provenance, key = (
            provenance | {"begun_from": digest(begin / "world.safetensors")},
            key + str(begin),
        )

    def draw(count: int) -> Batch:
        index = torch.randint(len(training[0]), (count,)).numpy()
        length = context + 1 + int(torch.randint(IMAGINED + 1, ()))
        latents, actions, done = sequences.take(training[0][index], training[1][index], length)
        batch = {
            "latents": latents,
            "actions": actions[:, context - 1 :],
            "done": done[:, -1],
        } | world.draw(count)
        if ahead:
            index = torch.randint(len(pairs[0]), (count,)).numpy()
            latents, _, _ = sequences.take(pairs[0][index], pairs[1][index], ahead + 1)
            batch |= {"now": latents[:, 0], "later": latents[:, -1]}
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def loss(model: WorldModel, **batch) -> Tensor:
        return model.loss(**batch, jitter=JITTER)

    average, figures = fit(
        world,
        loss,
        draw,
        lambda w: evaluate_world_model(w, sequences, np.flatnonzero(held)),
        config,
        Path(out),
        key,
        progress,
        record,
    )
    about = provenance | about_run(config, len(episode), device) | figures
    finish(out, lambda: save_world(Path(out), average, Path(vae_folder), about))
    return figures


def _begun(folder: Path, vae_folder: Path, config: WorldModelConfig) -> dict[str, Tensor]:
    """What a world model of ``config`` can take over from the one in ``folder``."""
    world, _ = load_world(folder, vae_folder)
    if replace(world.config, steps=config.steps, ahead=config.ahead) != config:
        raise InputError(
            f"the world model in {folder} is of another configuration: begin from one of the same"
            " --config"
        )
    anew = () if world.config.ahead == config.ahead else ("glance", "ahead_std")
    return {name: tensor for name, tensor in world.state_dict().items() if name not in anew}


@torch.no_grad()
def evaluate_world_model(
    world: WorldModel, sequences: LatentSequences, which: np.ndarray
) -> dict[str, float]:
    """Error of rollouts over the sequences ``which``, in spreads of one step's change, at the first
    and last step.

    ``still`` is the same of a world in which nothing moves, ``done`` the share of moments judged
    rightly. ``foresight`` is the share of the change over ``ahead`` steps that features miss, if
    they look ahead.
    """
    device, context = world.middle.device, world.config.context
    parts = []
    for part in np.array_split(which, max(1, len(which) // 32)):
        z, actions, done = (
            x[part].float().to(device)
            for x in (sequences.latents, sequences.actions, sequences.done)
        )
        futures, heads = world.rollout(z[:, :context], actions[:, context - 1 :])
        truth, spread = z[:, context:], world.change_std
        error = ((futures - truth) / spread).square().mean((0, 2, 3))
        still = ((z[:, context - 1 : context] - truth) / spread).square().mean((0, 2, 3))
        right = ((heads[..., 1] > 0.5) == (done[:, context:] > 0.5)).float().mean()
        parts.append([error[0], error[-1], still[0], still[-1], right])
        if ahead := world.config.ahead:
            came = (z[:, ahead] - z[:, 0]) / world.ahead_std
            parts[-1].append(world.foresight_loss(z[:, 0], z[:, ahead]) / came.square().mean())
    names = ("error_first", "error_last", "still_first", "still_last", "done", "foresight")
    return dict(zip(names, torch.tensor(parts).mean(0).tolist()))


def settings_key(network, config: TrainConfig, samples: int) -> str:
    """What an interrupted run must share with the one that takes it up."""
    return to_json([asdict(network), asdict(config), samples])


def about_run(config: TrainConfig, samples: int, device: str) -> dict:
    """What a checkpoint says of its training."""
    return {"train": asdict(config), "samples": samples, "device": device}


def parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in network.parameters())
