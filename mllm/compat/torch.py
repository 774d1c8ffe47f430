"""PyTorch: identity of storages, learning rates that are logged, weights that DDP leaves alone, fake tensors, and
shards that are read without running what they may hold."""

from __future__ import annotations

import os
import pickle
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from mllm.compat.names import member

FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""Environment variable by which `torch.load` reads data only, whatever its caller says."""
METADATA = ".metadata"
"""A pickle beside the shards of a checkpoint of torch.distributed."""
_OF_SHARDS = "torch.distributed.checkpoint.metadata"
_NAMED = {
    *((_OF_SHARDS, name) for name in ("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex")),
    *((_OF_SHARDS, name) for name in ("StorageMeta", "TensorProperties", "TensorStorageMetadata")),
    *((_OF_SHARDS, "_MEM_FORMAT_ENCODING"), ("torch.distributed.checkpoint.filesystem", "_StorageInfo")),
    *(("pathlib", "PosixPath"), ("pathlib._local", "PosixPath"), ("collections", "OrderedDict")),
    *(("torch", "Size"), ("torch.serialization", "_get_layout")),
}
"""What PyTorch itself writes into one."""


class _Metadata(pickle.Unpickler):
    """Reads what PyTorch wrote; raises UnpicklingError for a name of anything else, before it is called."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) in _NAMED:
            return super().find_class(module_name, global_name)
        dtype = getattr(torch, global_name, None) if module_name == "torch" else None
        if isinstance(dtype, torch.dtype):
            return dtype
        raise pickle.UnpicklingError(f"{METADATA} names {module_name}.{global_name}, which no checkpoint needs")


@contextmanager
def only_data(folder: Path) -> Generator[None, None, None]:
    """Within this, a sharded checkpoint in the folder is read as data: nothing that its pickles hold is run.

    Raises:
        UnpicklingError: one holds something else than PyTorch writes.
    """
    for path in sorted(folder.glob(f"*/{METADATA}")):
        with path.open("rb") as file:
            _Metadata(file).load()
    before = os.environ.get(FORCED)
    os.environ[FORCED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCED]
        else:
            os.environ[FORCED] = before


def storage_id(tensor: Tensor) -> int:
    """Equal for tensors that share a storage, as long as it lives; of fake tensors too, which have no address."""
    return member(tensor.untyped_storage(), "_cdata")


def set_last_rates(scheduler: LRScheduler, rates: Sequence[float]) -> None:
    """Say what `scheduler.get_last_lr()` gives until its next step."""
    member(scheduler, "_last_lr")
    scheduler._last_lr = list(rates)


def keep_out_of_ddp(model: nn.Module, names: Collection[str]) -> None:
    """Have DDP neither send nor reduce these parameters of a model that it will wrap."""
    member(DistributedDataParallel, "_set_params_and_buffers_to_ignore_for_model")(model, list(names))
