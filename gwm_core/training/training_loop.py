"""The training loop of all networks: resumable to the same losses, with averaged weights (EMA),
clipped gradients, and a cosine schedule or a constant rate that falls at the end.

With a constant rate a longer run begins as a shorter one does. A ``Trunk`` keeps the state in which
the rate of the shorter one began to fall, and the longer one goes on from it.

Under ``torchrun`` every process takes its part of the same batch and gradients are averaged (DDP),
so that the losses are those of one process.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, distributed, nn

from gwm_core.errors import InputError
from gwm_core.model.checkpoint import write_tensors
from gwm_core.model.config import TrainConfig

STATE = "train_state.safetensors"
_MATRIX = 16  # rows and columns of the smallest matrix that Muon steps
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Trunk:
    """The common beginning of runs of several lengths.

    Attributes:
        file: its state. key: the settings that these runs share.
    """

    file: Path
    key: str


class Loss(nn.Module):
    """A network and its loss as one module, which DDP can wrap."""

    def __init__(self, network: nn.Module, loss: Callable[..., Tensor]):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self.loss(self.network, **batch)


def fit(
    network: nn.Module,
    loss: Callable[..., Tensor],
    sample_batch: Callable[[int], Batch],
    validate: Callable[[nn.Module], dict[str, float]],
    config: TrainConfig,
    out: Path,
    key: str,
    progress: Callable[[int, int, dict], None] = lambda done, total, figures: None,
    record: Callable[[int, nn.Module, dict], None] = lambda done, network, figures: None,
    trunk: Trunk | None = None,
    compiled: bool = False,
) -> tuple[nn.Module, dict]:
    """Train; resume from ``out`` if it holds an unfinished run with the same ``key``.

    Otherwise go on from ``trunk``, if its state is not beyond the begin of this run's decay.

    Args:
        loss: of the network and a batch by name; its randomness comes with the batch.
        sample_batch: makes a training batch of the given size.
        validate: figures of the averaged network.
        record: called after every validation, in the main process. compiled: by torch.compile.

    Returns:
        The averaged network, and the last figures with ``loss`` and ``minutes``.

    Raises:
        FloatingPointError: the loss is not finite. InputError: ``out`` holds a run with other
            settings.
    """
    average = copy.deepcopy(network)
    optimizers = make_optimizers(network, config)
    state, branch = (network, average, optimizers), decay_begin(config)
    start = _resume(out / STATE, key, *state)
    if trunk and not start:
        start = _resume(trunk.file, trunk.key, *state, latest=branch)
    device = next(network.parameters()).device
    step, rank, processes = _shared(Loss(network, loss), compiled)
    figures = validate(average) if start == config.iterations else {}
    start_time = time.monotonic()
    for iteration in range(start, config.iterations):
        if trunk and rank == 0 and iteration == branch:
            _save(trunk.file, trunk.key, iteration, *state)
        # a resumed run samples what the whole run would
        torch.manual_seed(config.seed * 1_000_003 + iteration)
        batch = {n: _part(t, rank, processes) for n, t in sample_batch(config.batch).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=_in_bfloat16(config, device)):
            value = step(batch)
        number = _finite_mean(value.detach(), processes, iteration, out)
        _descend(value, network, optimizers, config, iteration)
        _average(average, network, min(config.ema, (1 + iteration) / (10 + iteration)))
        done = iteration + 1
        if done % config.validate_every == 0 or done == config.iterations:
            figures = {"loss": number} | validate(average.eval())
            if rank == 0:
                _save(out / STATE, key, done, *state)
                record(done, average, figures)
        if rank == 0 and (done % 20 == 0 or done == config.iterations):
            progress(done, config.iterations, figures | {"loss": number})
    return average.eval(), figures | {"minutes": round((time.monotonic() - start_time) / 60, 1)}


def _in_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16 faster, and ``config`` allows it.

    A CPU needs AMX for that: with AVX-512 alone they take twice as long (docs/benchmarks.md).
    """
    fast = device.type != "cpu" or torch.cpu.get_capabilities().get("amx_bf16", False)
    return config.bfloat16 and fast


def _part(tensor: Tensor, rank: int, processes: int) -> Tensor:
    """The samples of a batch that this process takes."""
    if len(tensor) % processes:
        raise InputError(f"a batch of {len(tensor)} does not divide among {processes} processes")
    return tensor[rank::processes]


def _shared(step: nn.Module, compiled: bool) -> tuple[nn.Module, int, int]:
    """The module with gradients averaged over the processes, this one's rank, and their number."""
    step = torch.compile(step) if compiled else step
    processes = distributed.get_world_size() if distributed.is_initialized() else 1
    if processes == 1:
        return step, 0, 1
    # some parts are fitted later, or without futures not at all
    shared = nn.parallel.DistributedDataParallel(step, find_unused_parameters=True)
    return shared, distributed.get_rank(), processes


def make_optimizers(network: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and with ``config.muon`` Muon (Jordan 2024) for the matrices.

    Muon's steps are scaled to those of AdamW (arXiv 2502.16982), so that one rate serves both.
    """
    rate, decay, rest = config.learning_rate, config.weight_decay, list(network.parameters())
    optimizers: list[torch.optim.Optimizer] = []
    if config.muon:
        matrices = [p for p in rest if p.ndim == 2 and min(p.shape) >= _MATRIX]
        rest = [p for p in rest if not (p.ndim == 2 and min(p.shape) >= _MATRIX)]
        optimizers.append(torch.optim.Muon(matrices, rate, decay, adjust_lr_fn="match_rms_adamw"))
    optimizers.append(
        torch.optim.AdamW(rest, rate, betas=(0.9, 0.98), weight_decay=decay, fused=True)
    )
    return optimizers


def schedule(config: TrainConfig, iteration: int) -> float:
    """Fraction of the learning rate: linear warm-up, then a cosine to 2 %.

    With ``config.decay``: constant after the warm-up, at the end down to 2 % by one minus the
    square root of time, as Haegele et al. (arXiv 2405.18392) found best.
    """
    if iteration < config.warmup:
        return (iteration + 1) / config.warmup
    if config.decay:
        begin = decay_begin(config)
        return 1 - 0.98 * math.sqrt(max(0, iteration - begin) / max(1, config.iterations - begin))
    done = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def decay_begin(config: TrainConfig) -> int:
    """The iteration at which the constant rate begins to fall."""
    return config.iterations - round(config.decay * config.iterations)


def refuse_finished(out: Path, manifest: str) -> None:
    """Raise InputError where ``out`` holds a finished network with a manifest of this name."""
    if (Path(out) / manifest).exists() and not (Path(out) / STATE).exists():
        raise InputError(
            f"{out} holds a finished network ({manifest}), which would be lost: choose another"
            " --out or move it away"
        )


def is_main_process() -> bool:
    """Whether this process is the one that writes files."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def finish(out: Path, save: Callable[[], None]) -> None:
    """Save the weights and remove the state of the run, in the main process."""
    if is_main_process():
        save()
        (Path(out) / STATE).unlink(missing_ok=True)


def _descend(
    value: Tensor, network: nn.Module, optimizers: list, config: TrainConfig, iteration: int
) -> None:
    """Take a step of all optimizers down the clipped gradient."""
    network.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(network.parameters(), config.clip)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * schedule(config, iteration)
        optimizer.step()


def _finite_mean(value: Tensor, processes: int, iteration: int, out: Path) -> float:
    """Mean loss over all processes. Raises FloatingPointError if it is not finite."""
    if processes > 1:
        distributed.all_reduce(value)
    number = float(value) / processes
    if not math.isfinite(number):
        raise FloatingPointError(
            f"the loss is {number} at iteration {iteration}: the last good state is in {out}; "
            "a smaller learning rate, or a look at the data, is wanted"
        )
    return number


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Update the moving average of the weights."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


def _save(
    file: Path, key: str, done: int, network: nn.Module, average: nn.Module, optimizers: list
) -> None:
    """Write the state of the run; a crash leaves the state before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{n}": t for n, t in network.state_dict().items()}
    tensors |= {f"average.{n}": t for n, t in average.state_dict().items()}
    states = {
        parameter: state for optimizer in optimizers for parameter, state in optimizer.state.items()
    }
    for i, parameter in enumerate(network.parameters()):
        # a parameter without a gradient was never stepped
        tensors |= {f"step.{i}.{n}": t for n, t in states.get(parameter, {}).items()}
    tensors = {n: t.detach().cpu().clone() for n, t in tensors.items()}
    partial = file.with_name(file.name + ".partial")
    write_tensors(partial, tensors, {"key": key, "done": str(done)})
    partial.rename(file)


def _resume(
    file: Path,
    key: str,
    network: nn.Module,
    average: nn.Module,
    optimizers: list,
    latest: float = math.inf,
) -> int:
    """Load the state of an unfinished run; returns the iterations it has done.

    A state beyond the iteration ``latest`` is left alone.
    """
    if not file.exists():
        return 0
    try:
        with safe_open(file, framework="pt") as content:
            metadata = content.metadata() or {}
    except SafetensorError as error:
        raise InputError(
            f"{file} is damaged ({error}): remove it, and the run begins anew"
        ) from None
    if metadata.get("key") != key:
        raise InputError(
            f"{file.parent} holds an unfinished run with other settings: choose another --out or"
            " remove it"
        )
    if int(metadata["done"]) > latest:
        return 0
    tensors = load_file(file)

    def under(prefix: str) -> dict[str, Tensor]:
        return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}

    network.load_state_dict(under("network."))
    average.load_state_dict(under("average."))
    numbers = {parameter: i for i, parameter in enumerate(network.parameters())}
    for optimizer in optimizers:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            state = under(f"step.{numbers[parameter]}.")
            optimizer.state[parameter] = {
                n: t.to(parameter.device) if n != "step" else t for n, t in state.items()
            }
    return int(metadata["done"])
