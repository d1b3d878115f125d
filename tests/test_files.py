import json
import tracemalloc

import numpy as np
import pytest

from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json, write_json
from gwm_core.scene.ply_io import load_scene, save_scene


def scene(count=50):
    rng = np.random.default_rng(0)
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    parts = [
        rng.normal(size=(count, 3)),
        rng.uniform(1e-3, 0.1, (count, 3)),
        quats,
        rng.uniform(0, 1, (count, 4)),
    ]
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
    names = [
        line.split()[2] for line in head.decode().splitlines() if line.startswith("property float")
    ]
    values = dict(zip(names, np.frombuffer(body, "<f4")))
    assert (
        values["x"] == 1
        and values["rot_0"] == 1
        and values["opacity"] == pytest.approx(0, abs=1e-6)
    )
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
        (
            lambda p: full(p).replace(b"binary_little_endian", b"ascii"),
            "wanted binary_little_endian",
        ),
        (lambda p: full(p).replace(b"float opacity", b"float transparency"), "opacity"),
        (
            lambda p: full(p)[:-4] + np.float32(np.nan).tobytes(),
            r"1 of 50 Gaussians .*not finite.* at most 1%",
        ),
        (lambda p: b"nothing", "no PLY header"),
        (lambda p: b"ply\n" + b"comment " * 20000, "no PLY header"),
        (lambda p: header("format binary_little_endian 1.0"), "an element 'vertex'"),
        (
            lambda p: header("element vertex many", "property float x"),
            "no element with a name and a count",
        ),
        (lambda p: header("property float x", "element vertex 1"), "not a plain number"),
        (
            lambda p: header(
                "element face 2",
                "property list uchar int i",
                "element vertex 1",
                "property float x",
            ),
            "'i'",
        ),
        (lambda p: header("element vertex 0", "property uint packed_position"), "compressed"),
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


def written(path, end="\n", before=(), after=(), tail=b"", leave_out=()):
    """The scene as another tool writes it, without properties ``leave_out``."""
    save_scene(path, scene())
    head, _, body = path.read_bytes().partition(b"end_header\n")
    names = [line.split()[2] for line in head.decode().splitlines() if line.startswith("property")]
    rows = np.frombuffer(body, [(name, "<f4") for name in names])
    kept = [name for name in names if name not in leave_out]
    lines = ["ply", "format binary_little_endian 1.0", *before, f"element vertex {len(rows)}"]
    lines += [*(f"property float {name}" for name in kept), *after, "end_header", ""]
    packed = np.zeros(len(rows), [(name, "<f4") for name in kept])
    for name in kept:
        packed[name] = rows[name]
    path.write_bytes(end.join(lines).encode() + packed.tobytes() + tail)


@pytest.mark.parametrize(
    "way",
    [
        {"end": "\r\n"},
        {"before": ["comment Büro, 3. Stock"]},
        {"leave_out": ("nx", "ny", "nz")},
        {"tail": b"\n"},
        # SHARP of Apple
        {"after": ["element intrinsic 9", "property float intrinsic"], "tail": bytes(36)},
        {"after": ["element face 0", "property list uchar int vertex_indices"]},
        {"before": ["element face 0", "property list uchar int vertex_indices"]},
    ],
)
def test_what_other_tools_write_is_read(tmp_path, way):
    written(tmp_path / "scene.ply", **way)
    np.testing.assert_allclose(load_scene(tmp_path / "scene.ply"), scene(), atol=2e-6)


def test_elements_before_the_vertices_are_skipped(tmp_path):
    written(
        tmp_path / "scene.ply",
        before=["element extrinsic 4", "property float a", "property uchar b"],
    )
    head, end, body = (tmp_path / "scene.ply").read_bytes().partition(b"end_header\n")
    (tmp_path / "scene.ply").write_bytes(head + end + b"\xff" * 20 + body)
    np.testing.assert_allclose(load_scene(tmp_path / "scene.ply"), scene(), atol=2e-6)


def test_surfels_of_2dgs_are_given_a_thickness(tmp_path):
    written(tmp_path / "scene.ply", leave_out=("scale_2",))
    found = load_scene(tmp_path / "scene.ply")
    np.testing.assert_allclose(found[:, :5], scene()[:, :5], atol=2e-6)
    np.testing.assert_allclose(found[:, 5], 0.01 * scene()[:, 3:5].min(1), rtol=1e-5)


def restored(path, change, kinds=()):
    """The scene written as PLY, its columns changed by name."""
    written(path)
    head, _, body = path.read_bytes().partition(b"end_header\n")
    names = [line.split()[2] for line in head.decode().splitlines() if line.startswith("property")]
    rows = np.frombuffer(body, [(name, "<f4") for name in names])
    columns = change({name: rows[name] for name in names})
    made = np.zeros(len(rows), [(name, "u1" if name in kinds else "<f4") for name in columns])
    for name, values in columns.items():
        made[name] = values
    lines = [f"property {'uchar' if name in kinds else 'float'} {name}" for name in columns]
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(rows)}",
        *lines,
        "end_header",
        "",
    ]
    path.write_bytes("\n".join(lines).encode() + made.tobytes())
    return path


def linear_scales(columns):
    return columns | {name: np.exp(columns[name]) for name in columns if name.startswith("scale")}


def linear_opacities(columns):
    return columns | {"opacity": 1 / (1 + np.exp(-columns["opacity"]))}


@pytest.mark.parametrize(
    "change, said",
    [
        (linear_scales, "all scales are above 1 m"),
        (linear_opacities, "all opacities are from 0.5 to 0.73"),
    ],
)
def test_scales_and_opacities_that_were_stored_themselves_are_named(tmp_path, change, said):
    """supersplat #264, pixelsplat #115: such a file is read without an error and drawn as a fog."""
    told = []
    load_scene(restored(tmp_path / "scene.ply", change), told.append)
    assert len(told) == 1 and said in told[0]
    load_scene(restored(tmp_path / "scene.ply", lambda columns: columns), told.append)
    assert len(told) == 1


def test_plain_colours_are_read_where_there_are_no_harmonics(tmp_path):
    def bare(columns, extra=()):
        kept = {name: values for name, values in columns.items() if not name.startswith("f_dc")}
        plain = np.rint(255 * scene()[:, 10:13]).T
        return (
            kept
            | dict(zip(("red", "green", "blue"), plain))
            | {name: columns[name] for name in extra}
        )

    path, rgb = tmp_path / "scene.ply", ("red", "green", "blue")
    np.testing.assert_allclose(
        load_scene(restored(path, bare, rgb)), scene(), atol=0.5 / 255 + 1e-6
    )
    with pytest.raises(InputError, match="properties f_dc_0, f_dc_1, f_dc_2 are missing"):
        load_scene(restored(path, bare))  # floats: of which range?
    both = restored(path, lambda columns: bare(columns, ("f_dc_0", "f_dc_1", "f_dc_2")), rgb)
    np.testing.assert_allclose(load_scene(both), scene(), atol=2e-6)


@pytest.mark.parametrize("ending", ["ply", "safetensors"])
def test_a_few_gaussians_that_cannot_be_drawn_are_left_out_and_counted(tmp_path, ending):
    many, path, said = scene(1000), tmp_path / f"scene.{ending}", []
    many[3, 0], many[5, 6:10], many[7, 4] = np.inf, 0, np.inf
    save_scene(path, many)
    found = load_scene(path, said.append)
    np.testing.assert_allclose(found, np.delete(many, [3, 5, 7], axis=0), atol=2e-6)
    assert (
        len(said) == 1
        and "3 of 1000 Gaussians" in said[0]
        and "quaternions of no length" in said[0]
    )
    many[:11, 0] = np.nan
    save_scene(path, many)
    with pytest.raises(InputError, match=r"11 of 1000 Gaussians .* at most 1%"):
        load_scene(path)


def test_what_has_hardly_any_thickness_is_not_lost(tmp_path):
    thin = scene()
    thin[:, 5] = 1e-45  # below the smallest normal number
    save_scene(tmp_path / "scene.ply", thin)
    head, end, body = (tmp_path / "scene.ply").read_bytes().partition(b"end_header\n")
    rows = np.frombuffer(body, [("rest", "<f4", 12), ("scale_2", "<f4"), ("rot", "<f4", 4)]).copy()
    rows["scale_2"] = -110
    (tmp_path / "scene.ply").write_bytes(head + end + rows.tobytes())
    assert (load_scene(tmp_path / "scene.ply")[:, 5] == np.float32(1e-12)).all()


def test_what_is_undefined_is_null_in_json(tmp_path):
    figures = {"a": [np.float64(np.nan), {"b": -np.inf}], "c": (1.5, 2, True, None, "NaN")}
    write_json(tmp_path / "figures.json", figures)
    found = json.loads((tmp_path / "figures.json").read_text(), parse_constant=pytest.fail)
    assert found == {"a": [None, {"b": None}], "c": [1.5, 2, True, None, "NaN"]}
    assert (
        to_json({"b": 1, "a": np.nan}, sort_keys=True, separators=(",", ":")) == '{"a":null,"b":1}'
    )


def test_other_endings_and_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"\.ply or \.safetensors"):
        load_scene(tmp_path / "scene.obj")
    with pytest.raises(InputError, match="cannot read"):
        load_scene(tmp_path / "none.ply")
    with pytest.raises(InputError, match="cannot write"):
        save_scene("/proc/nothing/scene.ply", scene())
