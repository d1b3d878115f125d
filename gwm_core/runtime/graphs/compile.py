"""Load graphs: export them and build engines on this machine once, then take them from a cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from gwm_core import model
from gwm_core.errors import InputError
from gwm_core.model.weights_file import digest
from gwm_core.runtime.graphs.backends import (
    LARGEST_BATCH,
    Call,
    OnnxRuntime,
    OpenVino,
    TensorRT,
    Torch,
    tensorrt,
    version,
    whole_graph,
)
from gwm_core.runtime.graphs.engine_cache import Key, cached, gpu, path_of

_KINDS = ("policy", "vae")
# smallest, best and largest batch of a TensorRT engine
_PROFILE = (1, 1, LARGEST_BATCH["tensorrt"])
_HERE = [Path(__file__).with_name(name) for name in ("onnx_export.py", "onnx_fp16.py")]
_SOURCES = [*sorted(Path(model.__file__).parent.glob("*.py")), *_HERE]


def load(folder: Path, name: str, backend: str, precision: str, threads: int) -> Call:
    """A graph of a checkpoint as a function. ``backend`` and ``precision`` are those of
    ``backends.choose``.
    """
    if backend == "torch":
        from gwm_core.runtime.graphs.onnx_export import torch_graph

        return Torch(torch_graph(folder, name), threads)
    if backend == "tensorrt":
        return TensorRT(engine_file(folder, name, precision))
    file = onnx_file(folder, name, _written(backend, precision))
    return (
        OnnxRuntime(file, threads)
        if backend == "onnxruntime"
        else OpenVino(file, precision, threads)
    )


def compiled(folder: Path, name: str, backend: str, precision: str) -> bool:
    """Whether ``load`` finds everything in the cache."""
    if backend == "torch":
        return True
    if backend == "tensorrt":
        return path_of(f"{name}-engine", _engine_key(folder, precision)).exists()
    return path_of(f"{name}-onnx", _onnx_key(folder, _written(backend, precision))).exists()


def _written(backend: str, precision: str) -> str:
    """Precision of the graph that a runtime reads. OpenVINO lowers it itself."""
    return "fp32" if backend == "openvino" else precision


def onnx_file(folder: Path, name: str, precision: str = "fp32") -> Path:
    """The exported graph. With "fp16" matrix products are in 16 bits, as of ``onnx_fp16``."""

    def write(file: Path) -> None:
        import onnx

        from gwm_core.runtime.graphs.onnx_export import export

        graph = export(folder, name)
        if precision == "fp16":
            from gwm_core.runtime.graphs.onnx_fp16 import to_fp16

            graph = to_fp16(graph)
        onnx.save(graph, file)

    return cached(f"{name}-onnx", "graph.onnx", _onnx_key(folder, precision), write)


def engine_file(folder: Path, name: str, precision: str) -> Path:
    """The TensorRT engine for this machine's GPU; without one, for all GPUs that tensorrt-rtx
    supports.
    """
    source = onnx_file(folder, name, precision)
    key = _engine_key(folder, precision)
    return cached(
        f"{name}-engine", "graph.engine", key, lambda file: file.write_bytes(build_engine(source))
    )


def build_engine(file: Path) -> bytes:
    """Build a strongly typed engine for batches of 1 to 8 from ONNX.

    Raises InputError with the messages of the parser.
    """
    trt = tensorrt()
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse(whole_graph(file)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise InputError(f"TensorRT cannot read {file}: {errors}")
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        profile.set_shape(tensor.name, *((batch, *tuple(tensor.shape)[1:]) for batch in _PROFILE))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:  # TensorRT logs the cause and raises nothing
        raise InputError(f"TensorRT could not build an engine from {file}; its own words are above")
    return bytes(engine)


def _onnx_key(folder: Path, precision: str) -> Key:
    code = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()
    weights = {
        path.name: digest(path)
        for path in sorted(Path(folder).glob("*.safetensors"))
        if path.stem in _KINDS
    }
    exporters = {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript")}
    return {"code": code, "precision": precision, **weights, **exporters}


def _engine_key(folder: Path, precision: str) -> Key:
    return {**_onnx_key(folder, precision), "library": version("tensorrt"), "gpu": gpu() or "none"}
