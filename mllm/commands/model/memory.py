"""How much memory a training step takes, worked out on a model without storage (see `models.skeleton`).

Weights, gradients and optimizer states are counted. Activations are what autograd saves for the backward pass: the
model itself runs once on fake tensors, which have shapes and no numbers, and a storage that is saved is counted once.
Not counted: buffers that live within one operation, what the allocator wastes, and communication.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel, Seq2SeqTrainingArguments, Trainer
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.training_args import OptimizerNames

from mllm.compat.bitsandbytes import make_states, makes_states
from mllm.compat.torch import FakeTensor, FakeTensorMode, storage_id
from mllm.errors import ConfigError, nearest
from mllm.fields import show
from mllm.models.composite import sharding_units
from mllm.models.meta_device import QuantizedLinearStub

OPTIMIZERS = (
    *("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop"),
    *("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit"),
    *("lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit"),
)
"""Names of training_args.optim whose states are known. Paged states may lie outside the GPU; they are counted all the
same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Bytes that a forward pass saves for the backward pass.

    Attributes:
        total: in all.
        largest_layer: of the layer that saves most, of those that activation checkpointing runs again.
    """

    total: int
    largest_layer: int


def weight_bytes(model: nn.Module, devices: int = 1) -> int:
    """Parameters and buffers; parameters sharded along their first dimension, as FSDP does."""
    few = {id(module.weight): module.stored for module in model.modules() if isinstance(module, QuantizedLinearStub)}
    total = sum(buffer.nbytes for buffer in model.buffers())
    for parameter in model.parameters():
        if id(parameter) in few:
            total += -(-few[id(parameter)] // devices)
        else:
            total += parameter.element_size() * _shard(parameter, devices).numel()
    return total


def gradient_bytes(model: nn.Module, devices: int = 1) -> int:
    return sum(p.element_size() * _shard(p, devices).numel() for p in model.parameters() if p.requires_grad)


def optimizer_bytes(model: nn.Module, args: Seq2SeqTrainingArguments, devices: int = 1) -> int:
    """States of `args.optim`: it is made for parameters without storage, and steps once.

    Raises:
        ConfigError: an optimizer that is not known here.
    """
    name = OptimizerNames(args.optim).value
    if name not in OPTIMIZERS:
        raise ConfigError(
            nearest(name, OPTIMIZERS),
            where="training_args.optim",
            expected="an optimizer whose memory can be estimated",
            found=show(name),
        )
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        return 0
    shards = [nn.Parameter(_shard(parameter, devices)) for parameter in trained]
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(args)
    settings.pop("fused", None)
    if "foreach" in inspect.signature(kind).parameters:
        settings["foreach"] = False
    optimizer: Any = kind(shards, **settings)
    if makes_states(optimizer):
        # the Trainer keeps the states of embeddings in 32 bits
        make_states(optimizer, shards, [id(parameter) in embeddings for parameter in trained])
    else:
        for shard in shards:
            shard.grad = torch.empty_like(shard)
        optimizer.step()
    tensors = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum({storage_id(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def gathered_bytes(model: PreTrainedModel, dtype: torch.dtype | None) -> int:
    """What FSDP holds unsharded at its fullest: what is outside the repeated layers, and two of these.

    While one layer computes the next one is fetched. `dtype`: that of mixed precision; None: that of the weights.
    """
    names = sharding_units(model)
    units = [module for module in model.modules() if type(module).__name__ in names]
    inside = {id(parameter) for unit in units for parameter in unit.parameters()}
    outside = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    sizes = sorted((_whole(list(unit.parameters()), dtype) for unit in units), reverse=True)
    return _whole(outside, dtype) + sum(sizes[:2])


def _whole(parameters: list[nn.Parameter], dtype: torch.dtype | None) -> int:
    size = dtype.itemsize if dtype else 0
    return sum(p.numel() * (size if size and p.is_floating_point() else p.element_size()) for p in parameters)


def saved_bytes(model: Any, batch: Mapping[str, Any], *, autocast: torch.dtype | None = None) -> Saved:
    """Run the model forward in training mode, and count what autograd saves; weights are not counted again.

    The model may be real or fake (`make_fake`). Inside layers under activation checkpointing nothing is seen.
    """
    known = {storage_id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    storages: dict[int, Any] = {}  # held, so that no address is used twice
    began: list[int] = []
    layers: list[int] = [0]

    def pack(tensor: Tensor) -> Tensor:
        if storage_id(tensor) not in known:
            storages[storage_id(tensor)] = tensor.untyped_storage()
        return tensor

    def total() -> int:
        return sum(storage.nbytes() for storage in storages.values())

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                before = module.register_forward_pre_hook(lambda *_: began.append(total()))
                after = module.register_forward_hook(lambda *_: layers.append(total() - began.pop()))
                stack.callback(before.remove)
                stack.callback(after.remove)
        stack.enter_context(saved_tensors_hooks(pack, lambda tensor: tensor))
        stack.enter_context(_RealMasks())
        if autocast:
            stack.enter_context(torch.autocast("cpu", dtype=autocast))
        loss = model.train()(**batch).loss
        assert loss.requires_grad, "a model that trains nothing saves nothing"
    return Saved(total=total(), largest_layer=max(layers))


def make_fake(model: nn.Module, half: torch.dtype | None = None) -> None:
    """Give a model on the device `meta` fake tensors on the CPU instead: it computes with them as if they were real.

    `half`: the dtype of its floating point parameters, as FSDP gathers them in mixed precision; None: their own.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    made: dict[int, Any] = {}
    with mode:
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
                if id(parameter) not in made:
                    dtype = half if half and parameter.is_floating_point() else parameter.dtype
                    new = torch.empty(parameter.shape, dtype=dtype, device="cpu")
                    made[id(parameter)] = nn.Parameter(new, requires_grad=parameter.requires_grad)
                setattr(module, name, made[id(parameter)])
            for name, buffer in list(module.named_buffers(recurse=False, remove_duplicate=False)):
                setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu"))


class _RealMasks(TorchFunctionMode):
    """Indexes fake tensors by the places of a real mask: how many these are cannot be known of a fake one."""

    def __torch_function__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__ and isinstance(args[0], FakeTensor):
            args = (args[0], _places(args[1]))
        return func(*args, **(kwargs or {}))


def _places(index: object) -> Any:
    parts: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, Tensor) and part.dtype == torch.bool and not isinstance(part, FakeTensor):
            parts += part.nonzero(as_tuple=True)
        else:
            parts.append(part)
    return tuple(parts)


@contextmanager
def checkpointed(model: PreTrainedModel) -> Iterator[None]:
    """With activation checkpointing inside."""
    model.activation_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        model.activation_checkpointing_disable()


def _shard(parameter: Tensor, devices: int) -> Tensor:
    """The largest shard of a parameter, on the device `meta`."""
    shape = list(parameter.shape)
    if shape:
        shape[0] = -(-shape[0] // devices)
    return torch.empty(shape, dtype=parameter.dtype, device="meta")
