"""Train the policy: plans on demonstrations, futures and success on all episodes.

Plans and futures train at once; success is fitted last, on what the trained encoder sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.model.checkpoint import load_policy, load_vae, save_policy
from gwm_core.model.config import WorldActionConfig, WorldActionTraining
from gwm_core.model.future_decoder import Tokens
from gwm_core.model.weights_file import MANIFESTS, digest, read_weights
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.training.datasets.future_samples import FutureSamples
from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.future_batches import FutureBatches, future_losses
from gwm_core.training.policy_batches import PolicyBatches, fingerprint, validate_policy
from gwm_core.training.success.fit_success import fit_success
from gwm_core.training.training_loop import Batch
from gwm_core.training.training_run import TrainingRun

PLAN, FUTURE = "plan_", "future_"  # begin the names of a batch's tensors


def world_action_loss(
    model: WorldActionModel, config: WorldActionTraining, **batch: Tensor
) -> Tensor:
    """Loss of the plans and futures of a batch, whose names begin by what they are of."""
    plan, future = (
        {name[len(kind) :]: value for name, value in batch.items() if name.startswith(kind)}
        for kind in (PLAN, FUTURE)
    )
    seen = (plan.pop(name) for name in ("points", "colors"))
    tokens = model.training_tokens(*seen, plan["proprio"])
    loss = model.plan_loss(tokens, **plan)
    if future:
        seen = (future.pop(name) for name in ("points", "colors"))
        tokens = model.training_tokens(*seen, future["proprio"])
        loss = loss + config.future_weight * future_losses(model, tokens, **future).mean()
    return loss


def train_world_action_model(
    demonstrations: PolicySamples,
    config: WorldActionConfig,
    run: TrainingRun,
    futures: FutureSamples | None = None,
    vae_folder: Path | None = None,
    begin: Path | None = None,
    practised: PolicySamples | None = None,
) -> dict:
    """Train a policy and save it in ``run.out``. Returns its figures: those of
    ``validate`` and ``fit_success``.

    Args:
        futures: samples of any episodes; without them it only learns to plan.
        vae_folder: of the VAE that made their latents.
        begin: folder of a policy of the same configuration, whose weights and
            normalisation training starts from.
        practised: plans to imitate beside the demonstrations, which are ``real_fraction`` of a
            batch.
    """
    settings = _settings(config, demonstrations, futures, vae_folder, begin, practised)
    run = replace(run, provenance=run.provenance | _seen(demonstrations, futures, begin))
    samples = len(demonstrations) + (len(futures) if futures else 0)
    if figures := run.finished(Path(run.out) / MANIFESTS["policy"], settings, samples):
        return figures
    torch.manual_seed(run.config.seed)
    plans, worlds = _batches(demonstrations, futures, config, run)
    model = _begun(config, plans, worlds, begin, torch.device(run.device))

    sample_plans = _plan_sampler(plans, practised, config, run.config)

    def sample_batch(count: int) -> Batch:
        batch = {PLAN + name: value for name, value in sample_plans(count).items()}
        if worlds:
            future = worlds.sample_batch(run.config.future_batch, model)
            batch |= {FUTURE + name: value for name, value in future.items()}
        return batch

    success: dict[str, float] = {}

    def save(average: WorldActionModel, provenance: dict) -> None:
        if worlds:
            vae = load_vae(vae_folder).to(run.device)
            success.update(fit_success(average, vae, futures, worlds.held, run.config))
        save_policy(run.out, average, provenance | success, vae_folder)

    figures = run.train(
        model,
        lambda network, **batch: world_action_loss(network, run.config, **batch),
        sample_batch,
        lambda average: validate(average, plans, worlds),
        settings,
        samples,
        save,
    )
    return figures | success


def _settings(
    config: WorldActionConfig,
    demonstrations: PolicySamples,
    futures: FutureSamples | None,
    vae_folder: Path | None,
    begin: Path | None,
    practised: PolicySamples | None,
) -> str:
    """What a resumed run must share."""
    settings = [asdict(config), fingerprint(demonstrations), demonstrations.starts]
    if futures:
        settings += [fingerprint(futures), futures.starts, digest(vae_folder / "vae.safetensors")]
    settings += [fingerprint(practised)] if practised else []
    return to_json([*settings, digest(begin / "policy.safetensors") if begin else ""])


def _seen(
    demonstrations: PolicySamples, futures: FutureSamples | None, begin: Path | None
) -> dict[str, object]:
    """What the network has seen, for its provenance."""
    starts = {*demonstrations.starts, *(futures.starts if futures else ())}
    if not begin:
        return {"trained_on": sorted(starts)}
    before = read_weights(begin, "policy").manifest.get("provenance", {})
    starts |= set(before.get("trained_on", ()))
    return {"trained_on": sorted(starts), "begun_from": digest(begin / "policy.safetensors")}


def _batches(
    demonstrations: PolicySamples,
    futures: FutureSamples | None,
    config: WorldActionConfig,
    run: TrainingRun,
) -> tuple[PolicyBatches, FutureBatches | None]:
    device = torch.device(run.device)
    plans = PolicyBatches(demonstrations, device, run.config, config.rows)
    if not futures:
        return plans, None
    held = {demonstrations.starts[k] for k in plans.held_episodes()}
    trained = set(demonstrations.starts) - held
    return plans, FutureBatches(futures, device, run.config, held, trained)


def _plan_sampler(
    plans: PolicyBatches,
    practised: PolicySamples | None,
    config: WorldActionConfig,
    training: WorldActionTraining,
) -> Callable[[int], Batch]:
    """Samples batches of plans: of demonstrations, and of practice where there is some."""
    if practised is None:
        return plans.sample_batch
    own = PolicyBatches(practised, plans.device, training, config.rows, held=False)

    def sample_plans(count: int) -> Batch:
        real = round(count * training.real_fraction)
        parts = plans.sample_batch(real), own.sample_batch(count - real)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    return sample_plans


def _begun(
    config: WorldActionConfig,
    plans: PolicyBatches,
    worlds: FutureBatches | None,
    begin: Path | None,
    device: torch.device,
) -> WorldActionModel:
    """The network that training starts from."""
    model = WorldActionModel(config).to(device)
    if begin:
        model.load_state_dict(_initial_weights(begin, config))
        return model
    model.set_normalization(plans.relative_rows())
    if worlds:
        model.future_decoder.set_normalization(worlds.tokens())
    return model


def _initial_weights(folder: Path, config: WorldActionConfig) -> dict[str, Tensor]:
    """The weights of the model in ``folder``. Raises InputError where it is another kind."""
    begun = load_policy(folder)
    if begun.config != config:
        raise InputError(
            f"the policy in {folder} is of another configuration: begin from one of the same"
            " --config, tasks and VAE"
        )
    return begun.state_dict()


def validate(
    model: WorldActionModel, plans: PolicyBatches, worlds: FutureBatches | None, limit: int = 512
) -> dict[str, float]:
    """Figures of held-out episodes; one of which nothing is held out is left out.

    Returns:
        position_mm: mean position error of plans, as of ``validate_policy``.
        missed_N: fraction of the change over N rows that the predicted future misses.
    """
    figures = validate_policy(model, plans)
    if not worlds or not len(worlds.validation):
        return figures
    index = worlds.validation[:: max(1, len(worlds.validation) // limit)]
    parts = [future_errors(model, worlds.take(part)) for part in index.split(128)]
    errors, changes = (torch.cat(values) for values in zip(*parts))
    for number, jump in enumerate(model.config.jumps):
        if (there := changes[:, number] >= 0).any():
            missed = errors[there, number].sum() / changes[there, number].sum()
            figures[f"missed_{jump}"] = float(missed)
    return figures


@torch.no_grad()
def future_errors(
    model: WorldActionModel, b: Batch, spread: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Squared errors and changes (B, jumps) of futures, -1 where there is none.

    Args:
        spread: (jumps, D) that errors and changes are divided by; by default that of the changes in
            the model's training. Models are compared by one spread.
    """
    tokens = model.encoder(model.gather(b["points"], b["colors"]), b["proprio"])
    now, count = Tokens(b["latents"][:, 0], b["anchors"][:, 0]), len(b["points"])
    std = model.future_decoder.change_std if spread is None else spread
    errors, changes = [], []
    for number in range(len(model.config.jumps)):
        numbers = torch.full((count,), number, device=now.latent.device)
        predicted = model.future(tokens, b["proprio"], now, b["rows"], numbers).tokens.latent
        truth = b["latents"][:, number + 1]
        for found, difference in ((errors, predicted - truth), (changes, truth - now.latent)):
            squared = (difference / std[number, : truth.shape[-1]]).square().mean((1, 2))
            found.append(torch.where(b["valid"][:, number], squared, -1.0))
    return torch.stack(errors, dim=1), torch.stack(changes, dim=1)
