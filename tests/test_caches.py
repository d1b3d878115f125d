"""What is only a cache costs time when it is lost, damaged or cannot be written, and nothing
else.
"""

import os
import subprocess
import sys
import threading
import time

import pytest

from gwm_core.errors import InputError
from gwm_core.render import native
from gwm_core.runtime.graphs.engine_cache import cached

LIFTED = """
import numpy as np
from gwm_core.scene.lift import lift_frame
from gwm_core.types import Frame
depth, color = np.full((24, 32), 0.5, np.float32), np.zeros((24, 32, 3), np.uint8)
K, T = np.array([[42.0, 0, 16], [0, 42, 12], [0, 0, 1]]), np.eye(4)
T[:3, 3] = 0.5, 0, -0.4
print(len(lift_frame(Frame("front", 1, color, depth, K, T))))
"""


def lifted(cache, before=""):
    """What the process says that lifts a frame, with numba's cache in a folder."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", before + LIFTED],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr


def emptied(content):
    return b""


def cut(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(("change", "ending"), [(emptied, "nbi"), (cut, "nbc")])
def test_a_damaged_cache_of_numba_is_compiled_anew(tmp_path, ending, change):
    """A power loss leaves such files, and every process that lifts then ended with EOFError: numba
    #10434.
    """
    wanted = lifted(tmp_path)
    files = {path: path.stat().st_size for path in tmp_path.rglob(f"*.{ending}")}
    assert int(wanted) > 100 and len(files) >= 3
    for path in files:
        path.write_bytes(change(path.read_bytes()))
    assert lifted(tmp_path) == wanted
    # made whole again
    assert {path: path.stat().st_size for path in tmp_path.rglob(f"*.{ending}")} == files


FULL = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"


def test_a_full_disk_and_a_folder_that_cannot_be_made_keep_numba_from_nothing(tmp_path):
    assert int(lifted(tmp_path / "full", FULL)) > 100
    (tmp_path / "file").touch()
    nowhere = (
        "from numba.core import caching\ncaching.CompileResultCacheImpl._locator_classes = []\n"
    )
    assert int(lifted(tmp_path / "none", nowhere)) > 100


@pytest.mark.skipif(native.load() is None, reason="no compiler")
@pytest.mark.parametrize("change", [emptied, cut])
def test_kernels_that_were_cut_are_compiled_anew(tmp_path, monkeypatch, change):
    """Empty they left numba's at work for ever; cut in the middle, loading them killed the
    process.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.load.__wrapped__() is not None
    (path,) = tmp_path.rglob("*.so")
    content = path.read_bytes()
    path.unlink()  # the first is loaded
    path.write_bytes(change(content))
    path.chmod(0o700)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from gwm_core.render import native\nprint(native.load() is not None)",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "True\n" and path.stat().st_size == len(content)


def test_a_cache_of_graphs_that_cannot_be_written_says_what_to_do(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    with pytest.raises(
        InputError,
        match=r"cannot write /proc/nothing/.*: .* name another place with XDG_CACHE_HOME",
    ):
        cached("graph", "graph.onnx", {"made": "here"}, lambda path: None)


def test_two_threads_build_a_graph_once(tmp_path, monkeypatch):
    """torch.export fails where another thread exports too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = []

    def build(file):
        built.append(file)
        time.sleep(0.3)  # the other thread asks meanwhile
        file.write_text("graph")

    def ask():
        found.append(cached("graph", "graph.onnx", {"of": "both"}, build))

    found = []
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(built) == 1 and len(found) == 2 and found[0] == found[1]
