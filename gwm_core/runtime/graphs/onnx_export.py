"""The graphs that run on a robot, each a function of named arrays: torch modules, and ONNX.

Policy:
    encode    patches, proprio, task -> x, modulation, keys, values
    denoise   x, proprio, modulation, keys, values -> x_next, rows
    chunk     encode, then all steps of denoise: the rows of a chunk in one call
VAE:
    latent    gaussians, anchors -> latent        its encoder
    decode    latent -> gaussians                 its decoder
Policy that predicts:
    scene     patches, proprio -> tokens
    future    tokens, proprio, latent, anchors, rows, jump -> latent, anchors, motions
    success   tokens, task -> probability, value  that the task is done, that the trial succeeds

Inputs and outputs are metric; normalisation, noise and step sizes are inside. The first axis is the
batch.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from onnx import compose
from torch import Tensor, nn

from gwm_core.model.checkpoint import load_policy, load_vae
from gwm_core.model.config import ACTION
from gwm_core.model.future_decoder import Tokens
from gwm_core.model.vae import VAE
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.imagined_world import FUTURE_GRAPHS, VAE_GRAPHS

OPSET = 20
POLICY = ("encode", "denoise")
_MAX_BATCH = 64  # of an exported graph


class ExportableGraph(NamedTuple):
    """A module, examples of its inputs (batch 2), and the names of its outputs."""

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


class GraphFunction(nn.Module):
    """A function that uses the parameters of ``network``."""

    def __init__(self, network: nn.Module, function: Callable):
        super().__init__()
        self.network, self.function = network, function

    def forward(self, *inputs: Tensor):
        """Call the function."""
        return self.function(*inputs)


def policy_graphs(policy: WorldActionModel) -> dict[str, ExportableGraph]:
    """``encode`` and ``denoise``.

    ``encode`` also makes the keys, the values and the modulation of every step, which are inputs of
    ``denoise``.
    """
    c = policy.config
    times = torch.arange(c.steps)[None, :, None] / c.steps

    def encode(patches, proprio, task):
        condition, kv = policy.encode(patches, proprio, task)
        # (B, steps, blocks, 6 d)
        modulation = torch.stack(policy.modulate(condition, times), dim=2)
        keys, values = (torch.stack(parts, dim=1) for parts in zip(*kv))
        return policy.noise.expand(patches.shape[0], -1, -1), modulation, keys, values

    def denoise(x, proprio, modulation, keys, values):
        kv = list(zip(keys.unbind(1), values.unbind(1)))
        x = x + policy.denoise(x, [m[:, None] for m in modulation.unbind(1)], kv) / c.steps
        return x, policy.absolute(x, proprio)

    inputs = {
        "patches": torch.rand(2, c.centers, c.neighbors, 6),
        "proprio": torch.rand(2, 11),
        "task": torch.zeros(2, dtype=torch.long),
    }
    encoder = ExportableGraph(
        GraphFunction(policy, encode), inputs, ("x", "modulation", "keys", "values")
    )
    with torch.no_grad():
        x, modulation, keys, values = encode(*inputs.values())
    step = {
        "x": x,
        "proprio": inputs["proprio"],
        "modulation": modulation[:, 0],
        "keys": keys,
        "values": values,
    }
    step = {name: value.clone() for name, value in step.items()}
    return {
        "encode": encoder,
        "denoise": ExportableGraph(GraphFunction(policy, denoise), step, ("x_next", "rows")),
    }


def chunk_graph(policy: WorldActionModel) -> ExportableGraph:
    """``chunk``."""
    parts = policy_graphs(policy)
    encode, denoise = (parts[name].module for name in POLICY)

    def chunk(patches, proprio, task):
        x, modulation, keys, values = encode(patches, proprio, task)
        for i in range(policy.config.steps):
            x, rows = denoise(x, proprio, modulation[:, i], keys, values)
        return rows

    return ExportableGraph(GraphFunction(policy, chunk), parts["encode"].inputs, ("rows",))


def vae_graphs(vae: VAE) -> dict[str, ExportableGraph]:
    """``latent`` and ``decode``."""
    c = vae.config
    scene = torch.rand(2, c.lift.count, 14) + 0.01
    return {
        "latent": ExportableGraph(
            GraphFunction(vae, lambda gaussians, anchors: vae.encode(gaussians, anchors)[0]),
            {"gaussians": scene, "anchors": torch.rand(2, c.tokens, 3)},
            ("latent",),
        ),
        "decode": ExportableGraph(
            GraphFunction(vae, vae.decode),
            {"latent": 0.5 * torch.rand(2, c.tokens, c.latent)},
            ("gaussians",),
        ),
    }


def future_graphs(model: WorldActionModel) -> dict[str, ExportableGraph]:
    """``scene``, ``future`` and ``success`` of a policy that predicts."""
    c = model.config
    proprio = torch.rand(2, 11)
    scene = {"patches": torch.rand(2, c.centers, c.neighbors, 6), "proprio": proprio}
    tokens = torch.rand(2, 1 + c.centers, c.width)

    def future(tokens, proprio, latent, anchors, rows, jump):
        after, motions = model.future(tokens, proprio, Tokens(latent, anchors), rows, jump)
        return *after, motions

    def success(tokens, task):
        return model.success(tokens, task), model.value(tokens, task)

    now = {
        "tokens": tokens,
        "proprio": proprio,
        "latent": torch.rand(2, c.vae.tokens, c.vae.latent),
        "anchors": torch.rand(2, c.vae.tokens, 3),
        "rows": torch.rand(2, c.rows, ACTION),
        "jump": torch.tensor([0, 1]),
    }
    outputs = ("later_latent", "later_anchors", "motions")
    task = {"tokens": tokens, "task": torch.zeros(2, dtype=torch.long)}
    return {
        "scene": ExportableGraph(GraphFunction(model, model.encoder), scene, ("tokens",)),
        "future": ExportableGraph(GraphFunction(model, future), now, outputs),
        "success": ExportableGraph(GraphFunction(model, success), task, ("probability", "value")),
    }


def torch_graph(folder: Path, name: str) -> ExportableGraph:
    """A graph of a checkpoint by its name."""
    if name in VAE_GRAPHS:
        return vae_graphs(load_vae(folder))[name]
    policy = load_policy(folder)
    if name in FUTURE_GRAPHS:
        return future_graphs(policy)[name]
    return chunk_graph(policy) if name == "chunk" else policy_graphs(policy)[name]


def export(folder: Path, name: str) -> onnx.ModelProto:
    """A graph of a checkpoint as ONNX: standard operators, batches up to 64, weights inside."""
    if name != "chunk":
        return _export(torch_graph(folder, name))
    policy = load_policy(folder)
    parts = policy_graphs(policy)
    return chain(_export(parts["encode"]), _export(parts["denoise"]), policy.config.steps)


def _export(graph: ExportableGraph) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # torch.onnx warns of every torchvision operator it lacks
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.module.eval(),
                tuple(graph.inputs.values()),
                dynamo=True,
                external_data=False,
                verbose=False,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes={"inputs": ({0: batch},) * len(graph.inputs)},
            )
    finally:
        logging.disable(level)
    return program.model_proto


def chain(encode: onnx.ModelProto, denoise: onnx.ModelProto, steps: int) -> onnx.ModelProto:
    """Chain ``encode`` and ``denoise`` of every step into one graph, whose steps share weights."""
    whole = compose.add_prefix(encode, "e/", rename_inputs=False)
    graph, x = whole.graph, "e/x"
    del graph.output[:]
    graph.initializer.extend(denoise.graph.initializer)
    for i in range(steps):
        index, modulation = f"{i}/index", f"{i}/modulation"
        graph.initializer.append(onnx.helper.make_tensor(index, onnx.TensorProto.INT64, [], [i]))
        graph.node.append(
            onnx.helper.make_node("Gather", ["e/modulation", index], [modulation], axis=1)
        )
        names = {
            "x": x,
            "proprio": "proprio",
            "modulation": modulation,
            "keys": "e/keys",
            "values": "e/values",
        }
        names |= {weight.name: weight.name for weight in denoise.graph.initializer}
        for node in denoise.graph.node:
            copy = graph.node.add()
            copy.CopyFrom(node)
            copy.name = f"{i}/{node.name}"
            copy.input[:] = [names.get(name, f"{i}/{name}") if name else "" for name in node.input]
            copy.output[:] = [f"{i}/{name}" for name in node.output]
        x = f"{i}/x_next"
    rows = next(output for output in denoise.graph.output if output.name == "rows")
    graph.output.add().CopyFrom(rows)
    graph.node.append(onnx.helper.make_node("Identity", [f"{steps - 1}/rows"], ["rows"]))
    del graph.value_info[:]
    onnx.checker.check_model(whole)
    return whole
