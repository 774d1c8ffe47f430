"""Models without storage: shapes and dtypes on the device `meta`, to count and to estimate by.

Inside `with torch.device("meta")` the loading functions read config.json of a folder and no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import PreTrainedModel

from mllm.compat.transformers_models import from_config, kept_in_float32
from mllm.errors import ConfigError, ModelError, nearest
from mllm.fields import show
from mllm.model_files import CONFIG, bytes_of_weights
from mllm.models.auto import build, read_config

MOST_PER_BYTE = 4
"""Numbers of a model for a byte of its files: two bits for each are the fewest that anybody stores."""
SMALL = 1 << 26
"""Numbers that no folder needs to hold: tables that a model computes itself."""
_NO_MODEL = (
    *(RuntimeError, ValueError, ArithmeticError, TypeError, LookupError, AttributeError, AssertionError),
    *(NotImplementedError, MemoryError, StrictDataclassError),
)
"""What transformers' classes raise for settings that fit no model."""


def without_storage() -> bool:
    """Whether models are to be built without weights here."""
    return torch.get_default_device().type == "meta"


def from_config_on_meta(
    model_class: Any, folder: str, *, config: Any = None, dtype: Any = "auto", **chosen: Any
) -> Any:
    """What `model_class.from_pretrained(folder)` would be, without its weights, in evaluation mode.

    `model_class`: one of transformers' models, or of its auto classes.
    """
    if config is None:
        config = read_config(folder)
    given = {name: value for name, value in {"dtype": dtype, **chosen}.items() if value not in (None, "auto")}
    if hasattr(model_class, "from_config"):
        return build(model_class, config, **given).eval()
    return from_config(model_class, config, **given).eval()


def check_described(folder: str, describe: Callable[[], Any]) -> None:
    """Refuse a config that describes a far larger model than its folder holds, before memory is taken for it.

    `describe` builds the model; it is called where tensors have no storage.

    Raises:
        ModelError: that, or no model can be made of the config.
    """
    path = Path(folder, CONFIG)
    try:
        with torch.device("meta"):
            model = describe()
    except _NO_MODEL as error:
        reason = " ".join(str(error).split())[:400]
        raise ModelError(f"no model can be built from it: {type(error).__name__}: {reason}", where=str(path)) from error
    numbers = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    held = bytes_of_weights(folder)
    if numbers > MOST_PER_BYTE * held + SMALL:
        raise ModelError(
            where=str(path),
            expected=f"a model of at most {MOST_PER_BYTE * held + SMALL:,} numbers, as the folder holds {held:,} bytes",
            found=f"one of {numbers:,}",
        )


class QuantizedLinearStub(nn.Linear):
    """Stands for a quantised layer: computes nothing, knows its `stored` bytes.

    `keeps_input`: the input is held for the backward pass, as by bitsandbytes in 8 bits.
    """

    def __init__(self, layer: nn.Linear, *, stored: int, keeps_input: bool) -> None:
        super().__init__(1, 1, bias=False)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight = torch.empty(layer.weight.shape, dtype=torch.int8, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = layer.bias
        self.stored = stored
        self.keeps_input = keeps_input

    def forward(self, input: Tensor) -> Tensor:
        output: Any = _Product.apply(input, self.out_features, self.keeps_input)
        return output if self.bias is None else output + self.bias


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, width: int, keeps_input: bool) -> Tensor:
        if keeps_input:
            ctx.save_for_backward(input)
        return input.new_empty(*input.shape[:-1], width)


def quantize_skeleton(language_model: PreTrainedModel, quantization: Mapping[str, object]) -> None:
    """Put stand-ins for the linear layers that loading would quantise: all but the head and what stays in 32 bits.

    Raises:
        ConfigError: a scheme whose bytes are not known here.
    """
    rest = {name: value for name, value in quantization.items() if name != "type"}
    kind = str(quantization["type"])
    head = language_model.get_output_embeddings()
    # of bitsandbytes, transformers leaves out what it keeps in 32 bits
    kept = kept_in_float32(language_model) if kind == "bitsandbytes" else set()
    for name, layer in list(language_model.named_modules()):
        if isinstance(layer, nn.Linear) and layer is not head and not kept & set(name.split(".")):
            parent, _, child = name.rpartition(".")
            stored = _BYTES[kind](layer.weight, **rest)
            keeps_input = kind == "bitsandbytes" and rest.get("bits") == 8
            new = QuantizedLinearStub(layer, stored=stored, keeps_input=keeps_input)
            setattr(language_model.get_submodule(parent), child, new)


def _bitsandbytes_bytes(weight: Tensor, *, bits: int = 4, double_quant: bool = True, **_: object) -> int:
    """Weights and scales: a row shares one in 8 bits, a block of 64 in 4 bits, whose scales are quantised again."""
    count = weight.numel()
    if bits == 8:
        return count + 4 * weight.shape[0]
    blocks = -(-count // 64)
    scales = blocks + 4 * -(-blocks // 256) + 4 + 4 * 256 if double_quant else 4 * blocks
    return -(-count // 2) + 4 * 16 + scales


def _hqq_bytes(weight: Tensor, *, bits: int = 4, group_size: int = 64, **_: object) -> int:
    """Weights, and a scale and a zero point for each group; three bits lie ten to an int32."""
    count = weight.numel()
    packed = 4 * -(-count // 10) if bits == 3 else count * bits // 8
    return packed + 2 * (count // group_size) * weight.element_size()


def _torchao_bytes(weight: Tensor, *, scheme: str = "Int8WeightOnlyConfig", **_: object) -> int:
    """A byte a weight, and a scale and a zero point for each row."""
    if scheme != "Int8WeightOnlyConfig":
        hint = nearest(scheme, _KNOWN)
        expected = "one whose memory can be estimated"
        raise ConfigError(hint, field="quantization.scheme", expected=expected, found=show(scheme))
    return weight.numel() + weight.shape[0] * (weight.element_size() + 1)


_KNOWN = ("Int8WeightOnlyConfig",)
_BYTES: dict[str, Callable[..., int]] = {
    "bitsandbytes": _bitsandbytes_bytes,
    "hqq": _hqq_bytes,
    "torchao": _torchao_bytes,
}
