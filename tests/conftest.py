"""Fixtures that are real implementations: the simulator, the expert, the gate."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import settings

from benchmarks.gate.simulated_arm import SimulatedArm

# The same examples every time. `pytest --hypothesis-profile=search` looks for others.
settings.register_profile("search", derandomize=False, max_examples=1000)
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


@pytest.fixture
def arm() -> SimulatedArm:
    arm = SimulatedArm()
    arm.start()
    return arm


@pytest.fixture(scope="session")
def simulator():
    from gwm_core.sim.simulator import Simulator

    return Simulator()


@pytest.fixture(scope="session")
def renderer() -> str:
    from gwm_core.sim.cameras import choose_renderer

    return choose_renderer()


@pytest.fixture(scope="session")
def episodes(tmp_path_factory, renderer) -> Path:
    """Folder of four episodes of the expert lifting the cube."""
    from gwm_core.training.collection.collect import CollectConfig, collect

    folder = tmp_path_factory.mktemp("episodes")
    config = CollectConfig("lift", folder, 4, seed=10, renderer=renderer)
    assert collect(config, processes=2) == {"success": 4}
    return folder


@pytest.fixture(scope="session")
def tiny_vae(tmp_path_factory) -> Path:
    """Folder of an untrained VAE, whose latents begin with the anchors."""
    import torch

    from gwm_core.model.checkpoint import save_vae
    from gwm_core.model.config import VAES
    from gwm_core.model.vae import VAE

    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    vae = VAE(VAES["tiny"][0]).eval()
    vae.gripper_tokens.copy_(0.03 * torch.randn_like(vae.gripper_tokens))
    for tensor in (vae.posterior[1].weight, vae.posterior[1].bias):
        tensor.data[:3] = 0.0
    save_vae(folder, vae, {})
    return folder


@pytest.fixture(scope="session")
def tiny_policy(tiny_vae, tmp_path_factory) -> Path:
    """Folder of a policy that predicts, with random weights everywhere."""
    from dataclasses import replace

    import torch

    from gwm_core.model.checkpoint import save_policy
    from gwm_core.model.config import VAES, named_config
    from gwm_core.model.world_action_model import WorldActionModel

    folder = tmp_path_factory.mktemp("policy")
    torch.manual_seed(0)
    model = WorldActionModel(replace(named_config("tiny")[0], vae=VAES["tiny"][0])).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_policy(folder, model, {}, tiny_vae)
    return folder


@pytest.fixture(scope="session")
def plain_policy(tmp_path_factory) -> Path:
    """Folder of a policy that only plans."""
    from gwm_core.model.checkpoint import save_policy
    from gwm_core.model.config import named_config
    from gwm_core.model.world_action_model import WorldActionModel

    folder = tmp_path_factory.mktemp("plain")
    save_policy(folder, WorldActionModel(named_config("tiny")[0]), {})
    return folder


@pytest.fixture
def domain(monkeypatch):
    """A ROS domain of its own."""
    from gwm.graph.environment import process_environment

    monkeypatch.setenv("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 100)))
    for name, value in process_environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def operator(domain):
    """A node in that domain that stands where a person would."""
    rclpy = pytest.importorskip("rclpy")
    from gwm.ros.operator_client import OperatorClient

    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    operator = OperatorClient()
    yield operator
    operator.destroy_node()
    rclpy.try_shutdown()
