import tracemalloc

import numpy as np
import pytest

from gwm_core.errors import InputError
from gwm_core.scene.files import load_scene, save_scene


def scene(count=50):
    rng = np.random.default_rng(0)
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    parts = [rng.normal(size=(count, 3)), rng.uniform(1e-3, 0.1, (count, 3)), quats, rng.uniform(0, 1, (count, 4))]
    return np.concatenate(parts, axis=1).astype(np.float32)


@pytest.mark.parametrize("ending", ["ply", "safetensors"])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_scene_survives_the_disk(tmp_path, ending, count):
    path = tmp_path / f"scene.{ending}"
    save_scene(path, scene(count))
    np.testing.assert_allclose(load_scene(path), scene(count), atol=2e-6)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_ply_is_the_one_viewers_expect(tmp_path):
    """Property names and encodings of the 3DGS reference implementation."""
    path = tmp_path / "scene.ply"
    one = np.float32([[1, 2, 3, 0.1, 0.2, 0.3, 1, 0, 0, 0, 0.5, 1.0, 0.0, 0.5]])
    save_scene(path, one)
    head, _, body = path.read_bytes().partition(b"end_header\n")
    names = [line.split()[2] for line in head.decode().splitlines() if line.startswith("property float")]
    values = dict(zip(names, np.frombuffer(body, "<f4")))
    assert values["x"] == 1 and values["rot_0"] == 1 and values["opacity"] == pytest.approx(0, abs=1e-6)
    assert values["f_dc_0"] == pytest.approx(0, abs=1e-6)
    assert values["f_dc_1"] == pytest.approx(0.5 / 0.28209479, rel=1e-5)
    assert values["scale_2"] == pytest.approx(np.log(0.3), rel=1e-5)


def header(*lines):
    return "\n".join(["ply", *lines, "end_header", ""]).encode()


def full(path):
    save_scene(path, scene())
    return path.read_bytes()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda p: full(p)[:-1], "promises 50 rows"),
        (lambda p: full(p).replace(b"vertex 50", b"vertex 4000000000"), "promises 4000000000 rows"),
        (lambda p: full(p).replace(b"binary_little_endian", b"ascii"), "wanted binary_little_endian"),
        (lambda p: full(p).replace(b"float opacity", b"float transparency"), "opacity"),
        (lambda p: full(p)[:-4] + np.float32(np.nan).tobytes(), "not finite"),
        (lambda p: b"nothing", "no PLY header"),
        (lambda p: b"ply\n" + b"comment " * 20000, "no PLY header"),
        (lambda p: header("format binary_little_endian 1.0"), "one element 'vertex'"),
        (lambda p: header("element vertex 1", "property list uchar int x"), "not a plain number"),
    ],
)
def test_bad_files_are_refused_in_one_line_with_little_memory(tmp_path, make, named):
    path = tmp_path / "scene.ply"
    path.write_bytes(make(path))
    tracemalloc.start()
    with pytest.raises(InputError, match=named) as error:
        load_scene(path)
    assert "\n" not in str(error.value) and tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_other_endings_and_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"\.ply or \.safetensors"):
        load_scene(tmp_path / "scene.obj")
    with pytest.raises(InputError, match="cannot read"):
        load_scene(tmp_path / "none.ply")
    with pytest.raises(InputError, match="cannot write"):
        save_scene("/proc/nothing/scene.ply", scene())
