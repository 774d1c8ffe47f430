"""Weights that are nan or infinite are refused wherever weights are read or written, and named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mllm.errors import ModelError
from mllm.models.checkpoints.lazy import Lazy, Weights
from mllm.models.parts import is_quantized

MAX_NAMED_TENSORS = 3
"""Tensors that a message names; of more it says how many."""


def non_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the floating-point tensors with an element that is nan or infinite; of sharded ones this rank's part.

    Empty tensors, those without storage and quantised ones are passed over.
    """
    names: list[str] = []
    extremes: list[Tensor] = []
    for name, tensor in tensors:
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()
        if is_quantized(local) or local.is_meta or not local.numel():
            continue
        if local.dtype.itemsize == 1:  # float8 has no extremes of its own
            local = local.bfloat16()
        names.append(name)
        extremes.append(torch.stack(torch.aminmax(local)).double())  # nan is both extremes of what holds it
    if not names:
        return []
    finite = torch.stack(extremes).isfinite().all(1).tolist()  # one copy from the device
    return [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]


def non_finite_weights(model: nn.Module) -> list[str]:
    """Names of the parameters that are not finite, and of saved buffers that hold nan: an infinity is a mask there."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    state = model.state_dict()
    found = non_finite((name, tensor) for name, tensor in state.items() if isinstance(tensor, Tensor))
    return [name for name in found if name in parameters or bool(state[name].isnan().any())]


def require_finite_model(model: nn.Module, where: str) -> None:
    """Raises:
    ModelError: weights of the model, which were read from `where`, are nan or infinite.
    """
    _refuse(non_finite_weights(model), where)


def require_finite(tensors: Mapping[str, Tensor], where: str) -> Mapping[str, Tensor]:
    """The tensors, which were read from `where`.

    Raises:
        ModelError: one is nan or infinite.
    """
    _refuse(non_finite(tensors.items()), where)
    return tensors


def require_finite_files(weights: Weights) -> None:
    """Read tensors of files, one at a time.

    Raises:
        ModelError: one is nan or infinite.
    """
    for lazy in finite(weights).values():
        if lazy.dtype.is_floating_point:
            lazy.read()


def finite(weights: Weights) -> Weights:
    """Weights that raise ModelError when one that is nan or infinite is read."""

    def checked(lazy: Lazy) -> Lazy:
        def read() -> Tensor:
            tensor = lazy.read()
            if non_finite([("", tensor)]):
                _refuse([lazy.origin], "")
            return tensor

        return replace(lazy, read=read)

    return {name: checked(lazy) for name, lazy in weights.items()}


def _refuse(names: list[str], where: str) -> None:
    if names:
        more = f" and {len(names) - MAX_NAMED_TENSORS} more" if len(names) > MAX_NAMED_TENSORS else ""
        raise ModelError(
            "the run diverged, or the dtype is too narrow",
            kind="non-finite",
            where=where,
            expected="finite weights",
            found=f"nan or infinity in {', '.join(names[:MAX_NAMED_TENSORS])}{more}",
        )
