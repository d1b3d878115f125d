"""The examples run, are short, and use what the library exports."""

import subprocess
import sys
from pathlib import Path

import pytest

import gwm_core

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SAYS = {  # the last line that each prints
    "01_render_a_scene.py": "24 Gaussians cover",
    "02_lift_frames.py": "2048 Gaussians from",
    "03_load_a_bundle_and_plan.py": "+1.6 s  tool at",
    "04_gate_in_simulation.py": "DISARMED: stopped by operator; 0 violations in",
    "05_train_tiny.py": "held-out position error",
    "06_serve_a_policy.py": "success True after",
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_an_example_runs(example, tmp_path):
    lines = example.read_text().splitlines()
    assert len(lines) <= 80
    words = [str(tmp_path)] if "[FOLDER]" in example.read_text() else []
    done = subprocess.run(
        [sys.executable, str(example), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert SAYS[example.name] in done.stdout.splitlines()[-1], done.stdout


def test_all_exports_exist():
    for name in gwm_core.__all__:
        assert getattr(gwm_core, name) is not None
    assert set(gwm_core.__all__) <= set(dir(gwm_core))
    with pytest.raises(AttributeError):
        gwm_core.no_such_name  # noqa: B018


def test_importing_the_library_loads_the_standard_library_alone():
    code = "import sys, gwm_core; print({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:]))"
    packages = ("numpy", "torch", "mujoco", "cv2", "scipy", "numba")
    done = subprocess.run(
        [sys.executable, "-c", code, *packages], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
