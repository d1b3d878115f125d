"""Each part of ``gwm bench gpu`` may fail alone, and what it measured until then is kept."""

import json

import pytest
from gwm.cli.main import main

from benchmarks.gpu import machine, parts, report
from benchmarks.gpu.figures import Figure, remark
from benchmarks.gpu.parts import PARTS, Result, run_part
from benchmarks.speed import training as scale
from gwm_core.errors import InputError


@pytest.fixture
def part(tmp_path, monkeypatch):
    """Runs a part whose module has the given body."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(parts, "ROOT", tmp_path)  # where it is imported from
    folder = tmp_path / "benchmarks" / "gpu"
    folder.mkdir(parents=True)
    for name in ("__init__", "figures", "parts"):
        source = (parts.__file__).replace("parts.py", f"{name}.py")
        (folder / f"{name}.py").write_text(open(source).read())
    (tmp_path / "benchmarks/__init__.py").write_text("")

    def run(body, limit=60.0):
        (folder / "made_up.py").write_text(
            "from benchmarks.gpu.figures import Figure, NotHereError\n"
            f"def measure(device, quick):\n    yield Figure('first', 1.0)\n    {body}\n"
        )
        return run_part("made_up", "cpu", True, limit)

    return run


@pytest.mark.parametrize(
    ("body", "trouble", "skipped"),
    [
        ("raise NotHereError('no such GPU')", "no such GPU", True),
        ("raise ValueError('bad')", "ValueError: bad", False),
        ("import torch; raise torch.OutOfMemoryError('CUDA')", "out of GPU memory", False),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9", False),
        ("import os; os._exit(7)", "exit status 7", False),
    ],
)
def test_a_part_that_ends_early_says_why_and_keeps_its_figures(part, body, trouble, skipped):
    result = part(body)
    assert result.figures == (Figure("first", 1.0),)
    assert trouble in result.trouble and result.skipped == skipped == result.passed


def test_a_part_that_hangs_is_killed(part):
    result = part("import time; time.sleep(60)", limit=8.0)
    assert result.trouble == "not done after 8 s" and result.seconds < 30


def test_what_a_hanging_part_started_ends_with_it(part, tmp_path):
    child = "import subprocess, time; subprocess.Popen(['sleep', '60'])"
    result = part(f"{child}; open({str(tmp_path / 'on')!r}, 'w'); time.sleep(60)", limit=10.0)
    assert (tmp_path / "on").exists() and result.seconds < 30


def test_a_value_beyond_its_limit_or_not_a_number_fails():
    def passed(value, limit):
        return Result("a", (Figure("x", value, limit=limit),), 1.0).passed

    assert passed(1.0, 1.0) and passed(5.0, None)
    assert not passed(1.1, 1.0) and not passed(float("nan"), 1.0) and not passed(None, 1.0)


def test_a_gpu_older_than_this_torch_is_refused():
    supported = ["sm_75", "sm_90", "sm_120a", "compute_90"]
    machine.refuse_too_old((7, 5), supported)
    machine.refuse_too_old((12, 1), supported)
    machine.refuse_too_old((6, 1), [])
    with pytest.raises(InputError, match=r"capability 6.1, and this torch begins at 7.5"):
        machine.refuse_too_old((6, 1), supported)


def test_the_page_says_what_was_measured_missed_and_not_run():
    results = [
        Result("machine", (remark("GPU", "A <b>GPU</b>, sm_90"),), 1.0),
        Result("rendering", (Figure("difference", 2.0, "mm", 1.0),), 1.0),
        Result("runtimes", (), 1.0, "no TensorRT", True),
        Result("training", (), 1.0, "ended by signal 9"),
    ]
    figures = report.as_figures(results, "cuda", False)
    page = report.page(results, figures)
    for text in ("A &lt;b&gt;GPU&lt;/b&gt;", "2 mm", "A limit was missed", "Not run: no TensorRT"):
        assert text in page
    assert "Failed: ended by signal 9" in page and "Not all parts passed" in page
    data = page.partition('type="application/json">')[2].partition("</script>")[0]
    assert json.loads(data) == json.loads(json.dumps(figures))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_everything_runs_on_a_machine_without_a_gpu(tmp_path, monkeypatch, capsys):
    """Small networks, once; TensorRT alone is left out."""
    words = ["gwm", "bench", "gpu", "--quick", "--json", tmp_path / "gpu.json", "--report"]
    monkeypatch.setattr("sys.argv", [str(word) for word in (*words, tmp_path / "gpu.html")])
    assert main() == 0
    done = {part["part"]: part for part in json.loads((tmp_path / "gpu.json").read_text())["parts"]}
    assert list(done) == list(PARTS)
    for name, found in done.items():
        assert found["skipped"] == (name in ("gsplat", "runtimes")), found
        assert len(found["figures"]) > 4 or name == "gsplat", found
    names = {figure["name"] for figure in done["training"]["figures"]}
    assert {"policy", "policy and world model", "VAE", "image model"} <= names
    assert "TensorRT" in done["runtimes"]["trouble"]
    assert "All parts passed" in (tmp_path / "gpu.html").read_text()
    assert "training: passed" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(300)
def test_training_takes_no_more_memory_on_more_episodes(tmp_path):
    """Two processes share the same files."""
    assert scale.bench_train([4, 40], 4, "tiny", str(tmp_path / "train.json")) == 0
    rows = json.loads((tmp_path / "train.json").read_text())["rows"]
    assert [(row["episodes"], row["processes"]) for row in rows] == [
        (4, 1),
        (4, 2),
        (40, 1),
        (40, 2),
    ]
    few, many = rows[0], rows[2]
    assert many["disk_mb"] > 9 * few["disk_mb"] and few["samples_per_s"] > 0
    assert many["memory_mb"] < 1.1 * few["memory_mb"]
