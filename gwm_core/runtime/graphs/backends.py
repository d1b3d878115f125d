"""Inference runtimes: each turns a graph into a function of named arrays.

All classes have the same call: named arrays in, named arrays out, the batch first. Precision and
threads are always set. A library is imported only when its runtime is used.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gwm_core.errors import InputError, one_of
from gwm_core.runtime.graphs.engine_cache import gpu

if TYPE_CHECKING:
    from gwm_core.runtime.graphs.onnx_export import ExportableGraph

Arrays = dict[str, np.ndarray]
Call = Callable[[Mapping[str, np.ndarray]], Arrays]
PRECISIONS = {  # the first is the default
    "torch": ("fp32",),
    "onnxruntime": ("fp32", "fp16"),
    "openvino": ("fp32", "bf16"),
    "tensorrt": ("fp16", "fp32"),
}
LARGEST_BATCH = {"torch": 64, "onnxruntime": 64, "openvino": 1, "tensorrt": 8}
_PACKAGES = {name: (name,) for name in PRECISIONS} | {"tensorrt": ("tensorrt", "tensorrt_rtx")}


class Torch:
    """The trained network itself: the reference."""

    def __init__(self, graph: ExportableGraph, threads: int = 0):
        import torch

        if threads:
            torch.set_num_threads(threads)
        self._torch, self._graph = torch, graph
        self._device = next(graph.module.parameters()).device

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run it."""
        with self._torch.inference_mode():
            tensors = [
                self._torch.from_numpy(np.ascontiguousarray(inputs[name])).to(self._device)
                for name in self._graph.inputs
            ]
            out = self._graph.module(*tensors)
        return dict(
            zip(
                self._graph.outputs,
                (part.cpu().numpy() for part in (out if isinstance(out, tuple) else (out,))),
            )
        )


class OnnxRuntime:
    """ONNX Runtime, on the GPU where its CUDA provider is installed."""

    def __init__(self, file: Path, threads: int):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        self._session = onnxruntime.InferenceSession(
            whole_graph(file), options, providers=providers
        )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._invalid = onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run it."""
        try:
            return dict(zip(self._outputs, self._session.run(None, dict(inputs))))
        except self._invalid as error:
            raise ValueError(str(error)) from None


class OpenVino:
    """OpenVINO on the CPU, for a batch of one."""

    def __init__(self, file: Path, precision: str, threads: int):
        import openvino

        core = openvino.Core()
        model = core.read_model(whole_graph(file))
        model.reshape({port: [1, *list(port.partial_shape)[1:]] for port in model.inputs})
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        options["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[precision]
        self._request = core.compile_model(model, "CPU", options).create_infer_request()
        self._outputs = [port.get_any_name() for port in model.outputs]

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run it."""
        self._request.infer(dict(inputs), share_inputs=True)
        return {name: self._request.get_tensor(name).data.copy() for name in self._outputs}


class TensorRT:
    """A TensorRT engine on the first GPU, captured once for each shape as a CUDA graph.

    Args:
        captured: False runs the engine without a CUDA graph, to compare with.
    """

    def __init__(self, file: Path, captured: bool = True):
        import torch

        if not torch.cuda.is_available():
            raise InputError("TensorRT engines run on an NVIDIA GPU, and torch sees none")
        trt = tensorrt()
        engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(
            file.read_bytes()
        )
        context = engine and engine.create_execution_context()
        if not context:  # both are None, without an exception, where this machine cannot run it
            raise InputError(
                f"TensorRT does not take {file}: remove it, and `gwm compile` builds it anew"
            )
        self._torch, self._engine, self._context = torch, engine, context
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._inputs = [
            name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        ]
        self._outputs = [name for name in names if name not in self._inputs]
        self._stream, self._graph, self._buffers = torch.cuda.Stream(), None, {}
        self._captured = captured

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run it."""
        torch = self._torch
        given = {
            name: torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._inputs
        }
        with torch.cuda.stream(self._stream):
            if any(
                name not in self._buffers or self._buffers[name].shape != given[name].shape
                for name in given
            ):
                self._capture(given)
            for name, value in given.items():
                self._buffers[name].copy_(value, non_blocking=True)
            self._graph.replay() if self._captured else self._run()
            out = {name: self._buffers[name].cpu().numpy() for name in self._outputs}
        self._stream.synchronize()
        return out

    def _capture(self, given: dict) -> None:
        """Make buffers for these shapes, and capture the engine's work as a CUDA graph."""
        torch, context = self._torch, self._context
        self._buffers = {name: value.to("cuda") for name, value in given.items()}
        for name, value in given.items():
            context.set_input_shape(name, tuple(value.shape))
        for name in self._outputs:
            self._buffers[name] = torch.empty(tuple(context.get_tensor_shape(name)), device="cuda")
        for name, buffer in self._buffers.items():
            context.set_tensor_address(name, buffer.data_ptr())
        self._run()  # TensorRT may allocate in its first run, which a capture does not allow
        self._stream.synchronize()
        if not self._captured:
            return
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._stream):
            self._run()

    def _run(self) -> None:
        if not self._context.execute_async_v3(self._torch.cuda.current_stream().cuda_stream):
            raise InputError("TensorRT could not run its engine")


def whole_graph(file: Path) -> bytes:
    """An ONNX file that holds all its weights. Raises InputError where some are in other files."""
    import onnx

    data = file.read_bytes()
    try:
        graph = onnx.load_model_from_string(data).graph
    except Exception as error:  # protobuf's, which is not the same class in all versions
        raise InputError(f"{file} is no ONNX: {error}") from None
    tensors = [
        *graph.initializer,
        *(a.t for node in graph.node for a in node.attribute if a.HasField("t")),
    ]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise InputError(
            f"{file} wants weights from other files, which are not taken: remove it, and it is"
            " built anew"
        )
    return data


def tensorrt():
    """The installed TensorRT module. Raises InputError where none loads."""
    for name in _PACKAGES["tensorrt"]:
        if importlib.util.find_spec(name):
            try:
                return importlib.import_module(name)
            except (ImportError, OSError) as error:
                raise InputError(f"{name} is installed but does not load: {error}") from None
    raise InputError("TensorRT is not installed: pip install tensorrt, beside an NVIDIA GPU")


def version(backend: str) -> str:
    """Name and version of a runtime's library; "" where it is not installed."""
    for name in _PACKAGES[one_of("runtime", backend, PRECISIONS)]:
        if importlib.util.find_spec(name):
            return f"{name} {importlib.metadata.version(name.replace('_', '-'))}"
    return ""


def why_not(backend: str) -> str:
    """Why a runtime cannot run here; "" where it can."""
    if not version(backend):
        return f"not installed: pip install {backend}"
    if backend == "tensorrt" and not gpu():
        return (
            "no NVIDIA GPU (libcuda finds none); engines can be built for another machine with"
            " tensorrt-rtx"
        )
    return ""


def choose(backend: str, precision: str) -> tuple[str, str]:
    """Choose runtime and precision. Raises InputError for a runtime that does not work here.

    Args:
        backend: "auto" is the fastest that works here.
        precision: "auto" is the runtime's default. "coarse" is the lowest that the CPU supports,
            for images that are only displayed.
    """
    if backend == "auto":
        backend = next(
            name for name in ("tensorrt", "openvino", "onnxruntime", "torch") if not why_not(name)
        )
    elif reason := why_not(backend):
        raise InputError(f"runtime {backend} does not run here: {reason}")
    choices = PRECISIONS[backend]
    if precision == "coarse":
        precision = "bf16" if backend == "openvino" and _bfloat16() else "auto"
    return backend, (
        choices[0]
        if precision == "auto"
        else one_of(f"precision for {backend}", precision, choices)
    )


def fastest_on_cpu() -> str:
    """The runtime that many processes at once run in 32 bits, each by one thread."""
    return next(name for name in ("openvino", "onnxruntime", "torch") if not why_not(name))


def _bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively, according to OpenVINO."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
