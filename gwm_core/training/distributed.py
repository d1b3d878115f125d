"""Training of one network by several processes, started by ``torchrun``."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator

import torch
from torch import distributed


@contextlib.contextmanager
def joined(device: str) -> Iterator[int]:
    """Join the process group if ``torchrun`` started this process; yields the rank.

    The backend is gloo on the CPU and nccl on CUDA.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield distributed.get_rank()
        distributed.barrier()  # no process leaves while another still communicates
    finally:
        distributed.destroy_process_group()
        # DDP holds the group in a cycle, and threads that outlive the interpreter abort the process
        gc.collect()
