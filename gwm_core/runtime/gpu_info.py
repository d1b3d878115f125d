"""The GPU that a compiled engine depends on."""

from __future__ import annotations

import ctypes
import functools

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR, cuda.h


@functools.cache
def gpu() -> str:
    """Name, architecture and driver of the first NVIDIA GPU; "" without one. Asks the driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    device, driver, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return ""
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDriverGetVersion(ctypes.byref(driver))
    architecture = "".join(str(_attribute(cuda, which, device)) for which in (_MAJOR, _MINOR))
    return f"{name.value.decode()}, sm_{architecture}, CUDA driver {driver.value}"


def _attribute(cuda: ctypes.CDLL, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return value.value
