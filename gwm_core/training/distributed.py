"""Several processes that train one network, started by ``torchrun``."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator

import torch
from torch import distributed


@contextlib.contextmanager
def joined(device: str) -> Iterator[int]:
    """Join the others when ``torchrun`` started this process (gloo on cpu, nccl on cuda); yields
    the rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield distributed.get_rank()
        distributed.barrier()  # nobody leaves while another still listens
    finally:
        distributed.destroy_process_group()
        # DDP holds the group in a cycle, and threads that outlive the interpreter abort the process
        gc.collect()
