"""Fixtures that are real implementations: the simulator, the expert, the gate."""

from __future__ import annotations

import pytest

from gwm_core.bench.rig import Rig


@pytest.fixture
def arm() -> Rig:
    arm = Rig()
    arm.start()
    return arm


@pytest.fixture(scope="session")
def simulator():
    from gwm_core.sim.simulator import Simulator

    return Simulator()


@pytest.fixture(scope="session")
def renderer() -> str:
    from gwm_core.sim.camera import choose_renderer

    return choose_renderer()
