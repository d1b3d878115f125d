"""Whatever is done to a dataset, its reader says in one line what is wrong, or gives what was
stored.
"""

import shutil
import subprocess
import sys

import pytest

from benchmarks.data import hostile_attacks as attacks
from benchmarks.data import hostile_lerobot as lerobot
from benchmarks.data.hostile_data import Reader, fuzz, prepare
from benchmarks.data.hostile_hdf5 import ROBOMIMIC

NAMED = (
    [
        ("v3-images", name, attack)
        for name, attack in (lerobot.LEROBOT | lerobot.V3 | lerobot.IMAGES).items()
    ]
    + [("v3-video", name, attack) for name, attack in lerobot.LEROBOT.items() if "video" in name]
    + [("v2.1", name, attack) for name, attack in (lerobot.LEROBOT | lerobot.V21).items()]
    + [("robomimic", name, attack) for name, attack in ROBOMIMIC.items()]
    + [("episode", name, attack) for name, attack in attacks.EPISODE.items()]
)
HARMLESS = {  # what is stored comes back
    ("v3-images", "images cut"),
    ("v3-images", "video linked to elsewhere"),
    ("v3-images", "video of another size"),
    ("v3-images", "video that ends early"),
    ("episode", "bag linked to elsewhere"),  # an own recording may lie on another disk
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, prepare(folder)


@pytest.fixture(scope="module")
def reader():
    reader = Reader()
    yield reader
    reader.close()


@pytest.mark.parametrize(
    ("kind", "name", "attack"), NAMED, ids=[f"{kind}-{name}" for kind, name, _ in NAMED]
)
def test_attacks_are_refused(whole, reader, tmp_path, kind, name, attack):
    source, path = whole[0] / kind, tmp_path / "data"
    (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
    attack(path)
    if path.is_dir():
        attacks.sign(path)
    answer = reader.ask(kind, path)
    if (kind, name) not in HARMLESS:
        assert "refused" in answer, answer
        assert str(tmp_path.name) in answer["refused"]  # names the file
    assert "crash" not in answer
    assert answer["seconds"] < 5 and answer["rss_mb"] < 1000


def test_damage_is_noticed_or_does_none():
    report = fuzz(60, seed=12)
    assert report.cases == 60 and not report.crashes and not report.altered
    assert report.refused > 35 and report.accepted_unharmed > 0
    assert report.worst_seconds < 5 and report.worst_rss_mb < 1000


def test_without_its_extras_only_exports_are_missing(tmp_path):
    """The modules load, and say what to install."""
    code = (
        "import sys; from pathlib import Path; from gwm_core.errors import InputError\nout ="
        f" Path({str(tmp_path / 'out')!r}); missing = ('pyarrow', 'av', 'h5py')\nsys.modules |="
        " dict.fromkeys(missing)\nfrom gwm_core.interop import lerobot, robomimic\nfor name in"
        " missing:\n    try: (robomimic.export_robomimic if name == 'h5py' else"
        " lerobot.export_lerobot)([], out)\n    except InputError as error: print(error)\n    del"
        " sys.modules[name]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wanted = [
        f"{name} is not installed: pip install 'gwm[export]'" for name in ("pyarrow", "av", "h5py")
    ]
    assert done.stdout.splitlines() == wanted
    assert not list(tmp_path.iterdir())
