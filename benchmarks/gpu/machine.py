"""What the machine is: GPU, driver, and versions of the libraries that use it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator

import torch

from benchmarks.gpu.figures import Figure, remark
from gwm_core.errors import InputError
from gwm_core.runtime.graphs.backends import tensorrt
from gwm_core.runtime.graphs.engine_cache import gpu


def measure(device: str, _: bool) -> Iterator[Figure]:
    """Remarks about the machine. Raises InputError for a GPU that this torch does not support."""
    yield remark("system", f"{platform.platform()}, Python {platform.python_version()}")
    yield Figure("threads of torch", torch.get_num_threads())
    yield remark("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}")
    yield remark("gsplat", _version("gsplat"))
    try:
        yield remark("TensorRT", tensorrt().__version__)
    except InputError as error:
        yield remark("TensorRT", str(error))
    yield remark("GPU", gpu() or "none: the driver's libcuda.so.1 finds no NVIDIA GPU")
    if device == "cuda":
        yield Figure(
            "memory of the GPU", torch.cuda.get_device_properties(0).total_memory / 2**30, "GiB"
        )
        refuse_too_old(torch.cuda.get_device_capability(), torch.cuda.get_arch_list())


def refuse_too_old(capability: tuple[int, int], supported: list[str]) -> None:
    """Raise InputError where torch was built for later GPUs alone.

    Args:
        capability: of the GPU, major and minor. supported: such as ["sm_75", "sm_90"].
    """
    versions = [int(name[3:].rstrip("af")) for name in supported if name.startswith("sm_")]
    own = 10 * capability[0] + capability[1]
    if versions and own < min(versions):
        raise InputError(
            f"the GPU is of compute capability {capability[0]}.{capability[1]}, and this torch"
            f" begins at {min(versions) / 10:.1f}: install an older torch, or take a later GPU"
        )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"not installed: pip install {package}"
