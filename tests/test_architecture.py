"""Rules of the repository that a reader could otherwise only hope for."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "gwm_core").rglob("*.py"))
PACKAGE = ROOT / "ros2_ws/src/gwm/gwm"
NODES = sorted((PACKAGE / "nodes").glob("*_node.py"))
ALL = [*CORE, *sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def test_imports_point_one_way():
    """The contracts are in pyproject.toml."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_a_folder_has_at_most_twelve_modules():
    folders = {path.parent for path in ALL}
    many = {
        folder: sorted(p.name for p in folder.glob("*.py") if p.name != "__init__.py")
        for folder in folders
    }
    assert not {str(folder): names for folder, names in many.items() if len(names) > 12}
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


LONG = {  # functions of more than 60 lines, and why
    "scenarios": "a table",
    "project": "a kernel",
    "backward": "a kernel",
}


def test_functions_can_be_read_at_once():
    long = {
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in ALL
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= 60
        and node.name not in LONG
    }
    assert not long


def test_the_gates_process_loads_neither_torch_nor_images():
    code = (
        "import sys, gwm.nodes.gate_node; print(sorted(m for m in ('torch', 'cv2', 'mujoco',"
        " 'numba') if m in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_robots_processes_and_a_trained_policy_need_no_simulation():
    """Neither of the two wheels that only the simulation needs is there."""
    nodes = ("policy", "imagination", "camera", "recorder", "console", "viewer", "teleop", "gate")
    code = "import sys; sys.modules |= dict.fromkeys(('mujoco', 'fast_simplification'))\n"
    code += "".join(f"import gwm.nodes.{name}_node\n" for name in nodes)
    code += (
        "from gwm_core.runtime.planner import trained_planner; from gwm_core.site import site_of\n"
    )
    code += (
        f"site_of('sim', ''); print(trained_planner({str(ROOT / 'models/demo')!r}).policy.tasks)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "'lift'" in out.stdout, out.stderr


def test_the_policys_process_loads_neither_simulation_nor_training():
    absent = ("mujoco", "fast_simplification", "onnx", "onnxscript", "tensorboardX", "skimage")
    code = f"import sys; sys.modules |= dict.fromkeys({absent})\nimport gwm.nodes.policy_node\n"
    rooms = ("gwm_core.sim", "gwm_core.training", "gwm_core.evaluation")
    code += f"print([name for name in sys.modules if name.startswith({rooms})])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.strip() == "[]", out.stderr


def test_the_graph_is_standard_library_only():
    allowed = {"gwm", "gwm_core", *sys.stdlib_module_names}
    for path in [*(PACKAGE / "graph").glob("*.py"), ROOT / "gwm_core/errors.py"]:
        assert not roots(path) - allowed, path


def test_ros_own_python_without_our_packages_can_read_the_graph():
    """``ros2 launch`` runs under the system's Python: no numpy there, and gwm_core not on its
    path.
    """
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'ros2_ws/src/gwm')!r})\n"
        "from gwm.graph.config import GraphConfig\n"
        "from gwm.graph.process_list import processes\n"
        "print(len(processes(GraphConfig(policy='expert'))), 'numpy' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["6", "False"]


def test_nothing_reads_a_clock_in_the_core_but_training():
    for path in CORE:
        if path.name != "training_loop.py":
            assert not re.search(r"\btime\.(time|monotonic|perf_counter)\(", path.read_text()), path


@pytest.mark.parametrize("path", ALL, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_at_run_time_can_execute_data(path):
    text = path.read_text()
    words = (
        r"\bpickle\b",
        r"\bmarshal\b",
        r"yaml\.load\(",
        r"torch\.load\(",
        r"(?<![.\w])(eval|exec)\(",
        r"shell\s*=\s*True",
        r"allow_pickle\s*=\s*True",
    )
    assert not [word for word in words if re.search(word, text)]


def test_one_file_writes_json():
    """``json.dumps`` writes NaN and Infinity, which are no JSON; what makes hostile data may."""
    writers = {p.name for p in ALL if re.search(r"\bjson\.dumps?\b", p.read_text())}
    assert writers <= {
        "json_files.py",
        "hostile_attacks.py",
        "hostile_data.py",
        "hostile_lerobot.py",
    }


def test_one_file_lists_the_processes_and_both_starters_use_it():
    from gwm.graph.config import GraphConfig
    from gwm.graph.process_list import processes

    nodes = [
        *processes(GraphConfig()),
        *processes(GraphConfig(robot="fr3", start_cameras=True)),
        *processes(GraphConfig(mode="teleop")),
        *processes(GraphConfig(controller="fci")),
    ]
    modules = {node.module for node in nodes}
    assert modules == {p.stem for p in NODES if p.stem.endswith("_node")}
    launch = (ROOT / "launch/bringup.launch.py").read_text()
    assert "process_list.processes(" in launch and not any(module in launch for module in modules)


def test_lint():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
