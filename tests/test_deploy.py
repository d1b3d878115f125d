"""What runs next to the robot is the trained network, and nothing else is taken for it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from gwm.cli.main import main
from safetensors import SafetensorError
from safetensors.numpy import load, load_file, save_file

from benchmarks.data.damaged_bundles import damaged
from gwm_core.errors import InputError
from gwm_core.files import checksums
from gwm_core.geometry.kinematics import HOME_Q, fk, to_rows
from gwm_core.model.checkpoint import load_policy, save_policy, save_vae
from gwm_core.model.config import VAES, named_config
from gwm_core.model.vae import VAE
from gwm_core.model.weights_file import read_weights
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.bundle import GOLDEN, drift, make_bundle, open_bundle
from gwm_core.runtime.graphs import backends, compile, engine_cache
from gwm_core.runtime.graphs.onnx_export import FUTURE_GRAPHS, POLICY, VAE_GRAPHS, torch_graph
from gwm_core.runtime.policy_runner import PolicyRunner
from gwm_core.scene.patches import patches

GRAPHS = (*POLICY, "chunk", *VAE_GRAPHS, *FUTURE_GRAPHS)


def shaken(network):
    """Random weights everywhere, also where training begins at zero."""
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network.eval()


def scene(seed):
    rng = np.random.default_rng(seed)
    low, high = (
        [0.3, -0.3, 0.0, *[0.003] * 3, 1, 0, 0, 0, 0, 0, 0, 0.9],
        [0.7, 0.3, 0.2, *[0.01] * 3, 1, 0, 0, 0, 1, 1, 1, 1],
    )
    return rng.uniform(low, high, (128, 14)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A policy that predicts and its VAE, as training leaves them."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    vae = shaken(VAE(VAES["tiny"][0]))
    save_vae(folder, vae, {})
    config = replace(named_config("tiny")[0], vae=vae.config)
    save_policy(folder, shaken(WorldActionModel(config)), {"command": "none"}, folder)
    return folder


@pytest.fixture(scope="module")
def bundle(checkpoint, tmp_path_factory):
    actor = PolicyRunner(checkpoint)
    T = fk(HOME_Q)
    moments = [
        (scene(k), np.append(to_rows(T, 0.08), 0.08).astype(np.float32), k % 3) for k in range(4)
    ]
    golden = dict(zip(("scene", "proprio", "task"), map(np.stack, zip(*moments))))
    golden["rows"] = np.stack([actor.rows(*moment) for moment in moments])
    golden["spread"] = load(read_weights(checkpoint, "policy").data)["plan_decoder.std"]
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    make_bundle(checkpoint, folder, golden, 2)
    return folder


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_its_network_for_any_batch_in_standard_operators(checkpoint, name):
    file = compile.onnx_file(checkpoint, name)
    model = onnx.load(file)
    assert {node.domain for node in model.graph.node} == {""}
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    graph = torch_graph(checkpoint, name)
    torch.manual_seed(1)
    for batch in (1, 3):
        inputs = {
            k: torch.rand(batch, *v.shape[1:]) if v.is_floating_point() else v[:1].expand(batch)
            for k, v in graph.inputs.items()
        }
        with torch.no_grad():
            known = graph.module(*inputs.values())
        made = session.run(list(graph.outputs), {k: v.numpy() for k, v in inputs.items()})
        for a, b in zip(known if isinstance(known, tuple) else (known,), made):
            np.testing.assert_allclose(b, a.numpy(), atol=2e-4, rtol=2e-4)


def test_a_plan_in_one_call_is_the_sampler_of_the_trained_policy(checkpoint):
    policy = load_policy(checkpoint)
    points, colors = torch.rand(2, 128, 3), torch.rand(2, 128, 3)
    inputs = torch_graph(checkpoint, "chunk").inputs
    rest = [inputs[name] for name in ("proprio", "task")]
    with torch.no_grad():
        known = policy(points, colors, *rest)
        made = torch_graph(checkpoint, "chunk").module(policy.gather(points, colors), *rest)
    torch.testing.assert_close(made, known, atol=1e-5, rtol=1e-5)


def test_patches_are_those_the_policy_was_trained_on(checkpoint):
    policy, found = load_policy(checkpoint), scene(3)
    c = policy.config
    known = policy.gather(
        torch.from_numpy(found[None, :, :3]), torch.from_numpy(found[None, :, 10:13])
    )[0].numpy()
    np.testing.assert_array_equal(patches(found, c.centers, c.neighbors), known)


@pytest.mark.parametrize(
    "backend", [name for name in backends.PRECISIONS if not backends.why_not(name)]
)
def test_every_runtime_gives_the_golden_rows(bundle, backend):
    for precision in backends.PRECISIONS[backend]:
        if precision != "bf16":  # which is up to the weights
            actor = PolicyRunner(bundle, 1, backend, precision)
            assert actor.drift.normalized < (1e-4 if precision == "fp32" else 2e-2)


def test_an_actor_needs_no_torch_once_its_graphs_are_there(bundle):
    import subprocess
    import sys

    PolicyRunner(bundle, backend="onnxruntime")
    code = (
        "import sys; from pathlib import Path; from gwm_core.runtime.policy_runner import"
        " PolicyRunner;"
    )
    code += (
        f"PolicyRunner(Path({str(bundle)!r}), backend='onnxruntime'); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "place, said",
    [
        ("", "lies in"),
        ("bundle", "lies in"),
        ("../other", "exists"),
        ("../other/thesis.tex", "exists"),
    ],
)
def test_a_bundle_never_replaces_what_it_is_made_of_or_anything_else(
    checkpoint, tmp_path, monkeypatch, capsys, place, said
):
    source = shutil.copytree(checkpoint, tmp_path / "mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("years of work")
    before = content(tmp_path)
    monkeypatch.setattr("sys.argv", ["gwm", "compile", str(source), "--out", str(source / place)])
    assert main() == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and content(tmp_path) == before
    load_policy(source)
    with pytest.raises(InputError, match=said):
        make_bundle(source, source / place, {}, 2)
    assert content(tmp_path) == before


def test_a_bundle_appears_whole_or_not_at_all(checkpoint, bundle, tmp_path):
    with pytest.raises(SafetensorError):
        # once the weights are copied
        make_bundle(checkpoint, tmp_path / "bundle", {"rows": np.array([object()])}, 2)
    assert list(tmp_path.iterdir()) == []
    make_bundle(checkpoint, tmp_path / "bundle", open_bundle(bundle).golden(), 2)
    assert content(tmp_path / "bundle") == content(bundle)


def test_rows_that_drift_are_refused(copy):
    golden = load_file(copy / GOLDEN)
    golden["rows"] = golden["rows"] + np.float32(2e-3)
    save_file(golden, copy / GOLDEN)
    checksums.write_checksums(copy)
    with pytest.raises(
        InputError, match=r"is not the trained policy.*choose another runtime or precision"
    ):
        PolicyRunner(copy)


def test_drift_is_that_of_the_worst_row():
    rows = np.tile(to_rows(fk(HOME_Q), 0.04), (2, 16, 1))
    other = rows.copy()
    turned = fk(HOME_Q)
    angle = np.radians(3.0)
    turned[:3, :3] = turned[:3, :3] @ np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    other[1, 7] = to_rows(turned, 0.04)
    other[0, 2, 1] += 0.004
    far = drift(other, rows, np.full(10, 0.1))
    assert far.mm == pytest.approx(4.0) and far.degrees == pytest.approx(3.0)
    assert far.normalized == pytest.approx(np.abs(other - rows).max() / 0.1)


def test_one_bit_or_a_missing_end_is_refused(copy):
    report = damaged(copy, 200, 40, seed=0)
    assert not report["taken"] and report["flips_refused"] == 200 and report["cuts_refused"] == 40
    open_bundle(copy)  # each damage was undone


def resealed(folder, lines):
    (folder / checksums.SUMS).write_text(lines)


CANARY = b"cposix\nsystem\n(S'touch canary'\ntR."  # a pickle that makes a file where it is loaded


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda f: (f / "extra.bin").write_bytes(b"x"), "is not in SHA256SUMS"),
        (lambda f: (f / "folder").mkdir(), "no plain file"),
        (
            lambda f: (
                (f / "vae.json").rename(f.parent / "v"),
                (f / "vae.json").symlink_to(f.parent / "v"),
            ),
            "is a link",
        ),
        (lambda f: (f.parent / "hard").hardlink_to(f / "vae.json"), "is a link"),
        (lambda f: (f / "vae.json").unlink(), "cannot be read"),
        (lambda f: (f / checksums.SUMS).unlink(), "no readable SHA256SUMS"),
        (lambda f: resealed(f, "0" * 64 + "  ../../etc/passwd\n"), "is damaged"),
        (lambda f: resealed(f, "0" * 64 + "  /etc/passwd\n"), "is damaged"),
        (lambda f: resealed(f, ""), "is damaged"),
        (lambda f: resealed(f, (f / checksums.SUMS).read_text().upper()), "is damaged"),
        (
            lambda f: resealed(
                f, "".join(reversed((f / checksums.SUMS).read_text().splitlines(True)))
            ),
            "is damaged",
        ),
        (
            lambda f: ((f / "a.pkl").write_bytes(CANARY), checksums.write_checksums(f)),
            "no file of ours",
        ),
        (
            lambda f: (
                (f / "policy.safetensors").write_bytes(CANARY),
                checksums.write_checksums(f),
            ),
            "does not match its manifest",
        ),
        (lambda f: open(f / "policy.safetensors", "r+b").truncate(9 << 30), "are not read"),
        (
            lambda f: ((f / "bundle.json").write_text("[]"), checksums.write_checksums(f)),
            "cannot be read",
        ),
        (
            lambda f: (
                (f / "bundle.json").write_text('{"format": 0, "tolerance": {}}'),
                checksums.write_checksums(f),
            ),
            "another format",
        ),
        (lambda f: ((f / GOLDEN).unlink(), checksums.write_checksums(f)), "lacks golden"),
        (
            lambda f: ((f / GOLDEN).write_bytes(b"\xff" * 64), checksums.write_checksums(f)),
            "cannot be read",
        ),
    ],
)
def test_what_is_not_the_bundle_is_refused_in_one_line(copy, harm, named, monkeypatch):
    monkeypatch.chdir(copy.parent)
    harm(copy)
    with pytest.raises(InputError, match=named) as error:
        PolicyRunner(copy)
    assert "\n" not in str(error.value) and not (copy.parent / "canary").exists()


def test_a_huge_header_is_refused_without_reading_it(copy):
    """The length of a safetensors header is under an attacker's control, who may also seal the
    folder again.
    """
    data = (copy / "policy.safetensors").read_bytes()
    (copy / "policy.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + data[8:])
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["sha256"]["policy.safetensors"] = checksums.sha256(copy / "policy.safetensors")
    (copy / "manifest.json").write_text(json.dumps(manifest))
    checksums.write_checksums(copy)
    with pytest.raises(InputError, match="is not a policy of this version"):
        PolicyRunner(copy)


def compiled_file(bundle):
    return compile.onnx_file(bundle, "chunk")


def test_a_damaged_or_foreign_graph_in_the_cache_is_refused_with_the_remedy(bundle):
    file = compiled_file(bundle)
    whole, folder = file.read_bytes(), file.parent
    file.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"does not match SHA256SUMS.*rm -r"):
        PolicyRunner(bundle, backend="openvino")
    file.write_bytes(whole)
    key = json.loads((folder / engine_cache.KEY).read_text())
    (folder / engine_cache.KEY).write_text(json.dumps(key | {"torch": "1.0"}))
    checksums.write_checksums(folder)
    with pytest.raises(InputError, match=r"was built for torch '1.0'.*rm -r"):
        PolicyRunner(bundle, backend="openvino")
    shutil.rmtree(folder)
    assert not compile.compiled(bundle, "chunk", "openvino", "fp32")
    PolicyRunner(bundle, backend="openvino")
    assert (
        compile.compiled(bundle, "chunk", "openvino", "fp32")
        and compiled_file(bundle).read_bytes() == whole
    )


def test_another_graph_of_the_right_name_is_refused_by_its_golden_inputs(bundle, checkpoint):
    file = compiled_file(bundle)
    whole = file.read_bytes()
    try:
        shutil.copyfile(compile.onnx_file(checkpoint, "encode"), file)
        checksums.write_checksums(file.parent)
        with pytest.raises(InputError, match="not this policy"):
            PolicyRunner(bundle, backend="onnxruntime")
    finally:
        file.write_bytes(whole)
        checksums.write_checksums(file.parent)


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/hostname"])
def test_a_graph_with_weights_elsewhere_is_refused(checkpoint, tmp_path, location):
    model = onnx.load(compile.onnx_file(checkpoint, "decode"))
    weight = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(weight, location)
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.ClearField("raw_data")
    file = tmp_path / "graph.onnx"
    file.write_bytes(model.SerializeToString())
    for take in (lambda: backends.OnnxRuntime(file, 1), lambda: backends.OpenVino(file, "fp32", 1)):
        with pytest.raises(InputError, match="from other files"):
            take()
    file.write_bytes(b"junk")
    with pytest.raises(InputError, match="is no ONNX"):
        backends.OnnxRuntime(file, 1)


def test_a_build_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(file):
        file.write_bytes(b"half")
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        engine_cache.cached("x", "graph.onnx", {}, fail)
    assert not list(engine_cache.cache_folder().iterdir())


def test_halved_graphs_keep_their_inputs_and_stay_close(checkpoint):
    for name in ("chunk", "decode"):
        half = onnx.load(compile.onnx_file(checkpoint, name, "fp16"))
        whole = onnx.load(compile.onnx_file(checkpoint, name))
        kinds = [
            [(v.name, v.type.tensor_type.elem_type) for v in m.graph.input] for m in (half, whole)
        ]
        assert kinds[0] == kinds[1]
        assert sum(w.data_type == onnx.TensorProto.FLOAT16 for w in half.graph.initializer) > 5


@pytest.mark.parametrize(
    ("backend", "precision", "named"),
    [
        ("magic", "auto", "valid are onnxruntime, openvino"),
        ("openvino", "fp16", "valid are bf16, fp32"),
        ("torch", "int8", "fp32"),
    ],
)
def test_unknown_runtimes_and_precisions_are_named(bundle, backend, precision, named):
    with pytest.raises(InputError, match=named):
        PolicyRunner(bundle, 1, backend, precision)


def test_a_checkpoint_runs_by_torch_alone(checkpoint):
    assert PolicyRunner(checkpoint).backend == "torch"
    with pytest.raises(InputError, match="gwm compile"):
        PolicyRunner(checkpoint, backend="onnxruntime")


def test_a_site_with_other_cameras_is_refused(bundle):
    open_bundle(bundle).check_site(2)
    with pytest.raises(InputError, match="trained with 2 cameras, the site has 1"):
        open_bundle(bundle).check_site(1)


def test_tensorrt_parses_and_builds_our_graphs(checkpoint, tmp_path):
    """Needs no GPU with tensorrt-rtx; running the engine does."""
    pytest.importorskip("tensorrt_rtx")
    for name, precision in (
        ("encode", "fp16"),
        ("denoise", "fp16"),
        ("chunk", "fp16"),
        ("future", "fp32"),
    ):
        assert len(compile.build_engine(compile.onnx_file(checkpoint, name, precision))) > 10_000
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\x08\x08 not onnx")
    with pytest.raises(InputError, match="is no ONNX"):
        compile.build_engine(junk)


@pytest.mark.skipif(
    bool(backends.why_not("tensorrt")), reason=backends.why_not("tensorrt") or "runs"
)
def test_tensorrt_runs_our_graphs(bundle):
    actor = PolicyRunner(bundle, backend="tensorrt")
    assert actor.drift.normalized < 2e-2
    engine = compile.engine_file(bundle, "chunk", "fp16")
    engine.write_bytes(engine.read_bytes()[:1000])
    checksums.write_checksums(engine.parent)
    with pytest.raises(InputError, match="TensorRT does not take"):
        PolicyRunner(bundle, backend="tensorrt")
