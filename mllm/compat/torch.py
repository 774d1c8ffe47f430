"""PyTorch: identity of storages, learning rates that are logged, weights that DDP leaves alone, fake tensors."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from mllm.compat.names import member


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
