"""The pieces of the networks that run, each a function of named arrays: as torch modules, and as
ONNX.

    encode    patches, proprio, task [, features, places] -> x, modulation, keys, values    once for a plan
    denoise   x, proprio, modulation, keys, values -> x_next, rows                          once for a step
    chunk     encode, then every step of denoise: the rows of a plan in one call
    latent    gaussians, centers -> latent                                                  scene encoder
    features  latent -> features, places                                                    the world model's pass
    step      history, actions -> latent, heads                                             one step of imagination
    decode    latent -> gaussians                                                           to look at it

Inputs and outputs are metric; normalisation, noise and step sizes are inside. The first axis is
always the batch.
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

from gwm_core.model.checkpoint import load_policy, load_world
from gwm_core.model.policy import Policy
from gwm_core.model.vae import VAE
from gwm_core.model.weights_file import read_weights
from gwm_core.model.world_model import ACTION, WorldModel

OPSET = 20
POLICY, WORLD = ("encode", "denoise"), ("latent", "features", "step", "decode")
_MOST = 64  # the largest batch an exported graph takes


class ExportableGraph(NamedTuple):
    """A module with examples of its inputs (batch 2) and the names of its outputs."""

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


class GraphFunction(nn.Module):
    """A function with the parameters of ``network``."""

    def __init__(self, network: nn.Module, function: Callable):
        super().__init__()
        self.network, self.function = network, function

    def forward(self, *inputs: Tensor):
        """Whatever the function gives."""
        return self.function(*inputs)


def policy_graphs(policy: Policy, tokens: int = 0) -> dict[str, ExportableGraph]:
    """``encode`` and ``denoise``.

    The scene is encoded once; its keys and values, and what the time of every step does to the
    blocks, are inputs of ``denoise``.

    Args:
        tokens: of the world model, where the policy sees its features.
    """
    c = policy.config
    times = torch.arange(c.steps)[None, :, None] / c.steps

    def encode(patches, proprio, task, *foresight):
        condition, kv = policy.encode(patches, proprio, task, *foresight)
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
    if c.foresight:
        inputs |= {
            "features": torch.rand(2, tokens, c.foresight),
            "places": torch.rand(2, tokens, 3),
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


def chunk_graph(policy: Policy, tokens: int = 0) -> ExportableGraph:
    """All of a plan in one call. Arguments as of ``policy_graphs``."""
    parts = policy_graphs(policy, tokens)
    encode, denoise = (parts[name].module for name in POLICY)

    def chunk(patches, proprio, task, *foresight):
        x, modulation, keys, values = encode(patches, proprio, task, *foresight)
        for i in range(policy.config.steps):
            x, rows = denoise(x, proprio, modulation[:, i], keys, values)
        return rows

    return ExportableGraph(GraphFunction(policy, chunk), parts["encode"].inputs, ("rows",))


def world_graphs(world: WorldModel, vae: VAE) -> dict[str, ExportableGraph]:
    """The scene encoder, the features of a scene, one imagined step, and the decoder."""
    tokens, latent, context = vae.config.tokens, vae.config.latent, world.config.context
    z = 0.5 * torch.rand(2, tokens, latent)
    scene = torch.rand(2, vae.config.lift.count, 14) + 0.01
    both = nn.ModuleList([world, vae])
    return {
        "latent": ExportableGraph(
            GraphFunction(vae, lambda gaussians, centers: vae.encode(gaussians, centers)[0]),
            {"gaussians": scene, "centers": torch.rand(2, tokens, 3)},
            ("latent",),
        ),
        "features": ExportableGraph(
            GraphFunction(both, lambda z: (world.features(z), vae.centers(z))),
            {"latent": z},
            ("features", "places"),
        ),
        "step": ExportableGraph(
            GraphFunction(world, world.step),
            {
                "history": torch.rand(2, context, tokens, latent),
                "actions": torch.rand(2, 2, ACTION),
            },
            ("latent", "heads"),
        ),
        "decode": ExportableGraph(GraphFunction(vae, vae.decode), {"latent": z}, ("gaussians",)),
    }


def torch_graph(folder: Path, name: str) -> ExportableGraph:
    """A graph of a checkpoint by its name."""
    if name in WORLD:
        return world_graphs(*load_world(folder))[name]
    policy, tokens = _policy(folder)
    return chunk_graph(policy, tokens) if name == "chunk" else policy_graphs(policy, tokens)[name]


def _policy(folder: Path) -> tuple[Policy, int]:
    policy = load_policy(folder)
    return policy, read_weights(folder, "vae").config.tokens if policy.config.foresight else 0


def export(folder: Path, name: str) -> onnx.ModelProto:
    """A graph of a checkpoint as ONNX: standard operators, any batch up to 64, weights inside."""
    if name != "chunk":
        return _export(torch_graph(folder, name))
    policy, tokens = _policy(folder)
    parts = policy_graphs(policy, tokens)
    return chain(_export(parts["encode"]), _export(parts["denoise"]), policy.config.steps)


def _export(graph: ExportableGraph) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1, max=_MOST)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # torch.onnx names every torchvision operator it does without
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
    """``encode``, then ``denoise`` for every step; the weights of the steps are there once."""
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
        known = {
            "x": x,
            "proprio": "proprio",
            "modulation": modulation,
            "keys": "e/keys",
            "values": "e/values",
        }
        known |= {weight.name: weight.name for weight in denoise.graph.initializer}
        for node in denoise.graph.node:
            copy = graph.node.add()
            copy.CopyFrom(node)
            copy.name = f"{i}/{node.name}"
            copy.input[:] = [known.get(name, f"{i}/{name}") if name else "" for name in node.input]
            copy.output[:] = [f"{i}/{name}" for name in node.output]
        x = f"{i}/x_next"
    rows = next(output for output in denoise.graph.output if output.name == "rows")
    graph.output.add().CopyFrom(rows)
    graph.node.append(onnx.helper.make_node("Identity", [f"{steps - 1}/rows"], ["rows"]))
    del graph.value_info[:]
    onnx.checker.check_model(whole)
    return whole
