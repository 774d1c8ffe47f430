"""`model_args.quantization`: the language model's weights in few bits.

bitsandbytes and torchao go through transformers' config classes. transformers 5 quantises no weights by HQQ while it
loads them, so those layers are replaced afterwards.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedConfig, TorchAoConfig

from mllm.compat.bitsandbytes import PARAMS_4BIT, keep_layout
from mllm.compat.hqq import Quantizer
from mllm.compat.torch import keep_out_of_ddp
from mllm.compat.torchao import schemes
from mllm.errors import ConfigError, nearest
from mllm.fields import OneOf, PositiveInt, Reads, check, check_arguments, in_field, show
from mllm.models.meta_device import quantize_skeleton, without_storage
from mllm.models.parts import is_plain_linear, is_quantized, part_of

HqqBits = Literal[1, 2, 3, 4, 8]
DtypeName = Literal["float32", "float16", "bfloat16", "uint8", "int8"]
QUANTIZATION_STATE = ("hf_quantizer", "quantization_method", "is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit")
"""What transformers leaves on a model that it quantised."""


def quantized_loading(quantization: Mapping[str, object], skeleton: Callable[[], nn.Module]) -> dict[str, Any]:
    """Arguments of `from_pretrained` that quantise the linear layers of the language model, without its head.

    Args:
        quantization: `type` "bitsandbytes" (bits 4 or 8, quant_type, double_quant, storage_dtype, compute_dtype),
            "hqq" (bits, group_size, axis) or "torchao" (scheme, and the arguments of torchao's config of that name).
        skeleton: makes the model that is loaded; it is called without storage.

    Raises:
        ConfigError: an unknown name, or a package that is not installed.
    """
    kind, rest = check_quantization(quantization)
    make = _MAKERS[kind]
    if kind == "hqq":
        return {}
    with torch.device("meta"):
        skip = _kept_layers(skeleton())
    try:
        return {"quantization_config": make(skip=skip, **rest)}
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise ConfigError(str(error), field="model_args.quantization") from error


def check_quantization(quantization: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The type, and its checked settings.

    Raises:
        ConfigError: an unknown name, a value that is not among those, or a package that is not installed.
    """
    check(quantization, Mapping)
    rest = dict(quantization)
    kind = rest.pop("type", None)
    in_field("type", check, kind, Annotated[str, OneOf(tuple(_MAKERS))])
    if importlib.util.find_spec(kind) is None:
        raise ConfigError(f"{kind!r} needs a package that is missing: pip install {kind}", field="type")
    if kind == "torchao":  # whose settings are those of the scheme
        in_field("scheme", check, rest.get("scheme", ""), str)
    else:
        check_arguments(rest, _MAKERS[kind], also=("skip", "language_model"))
    return kind, rest


def finalise_quantization(outer: Any, language_model: Any, quantization: Mapping[str, Any] | None) -> None:
    """After loading: quantise what was not yet, and say so of the language model instead of the model around it."""
    if quantization and without_storage():
        quantize_skeleton(language_model, quantization)
    elif quantization and quantization["type"] == "hqq":
        _replace_layers(language_model, **{name: value for name, value in quantization.items() if name != "type"})
    keep_layout(language_model)
    if outer is language_model:
        return
    for name in QUANTIZATION_STATE:
        if name in vars(outer):
            setattr(language_model, name, vars(outer).pop(name))
    config: PreTrainedConfig = outer.config
    if "quantization_config" in vars(config):
        language_model.config.quantization_config = vars(config).pop("quantization_config")


def check_shardable(model: nn.Module, gathered_dtype: torch.dtype | None) -> None:
    """
    Args:
        gathered_dtype: what FSDP casts weights to when it gathers them; None: they keep theirs.

    Raises:
        ConfigError: weights in few bits that FSDP cannot split, or would cast.
    """
    for name, parameter in model.named_parameters():
        kind = type(parameter).__name__
        if kind == PARAMS_4BIT:
            if parameter.is_floating_point() and parameter.dtype != (gathered_dtype or parameter.dtype):
                wanted, found = str(gathered_dtype).removeprefix("torch."), str(parameter.dtype).removeprefix("torch.")
                raise ConfigError(
                    f"FSDP computes in {wanted} here and would cast the packed bits to it",
                    field="quantization.storage_dtype",
                    expected=repr(wanted),
                    found=repr(found),
                )
        elif is_quantized(parameter) and kind != "Parameter":
            raise ConfigError(
                f"quantization: FSDP cannot shard weights of {kind} ({name}); use bitsandbytes with bits=4 and "
                "storage_dtype, or launch with accelerate_config/ddp.yaml"
            )


def keep_quantized_apart(model: nn.Module) -> None:
    """Tell DDP that every rank has read these weights itself: torchao's cannot be sent."""
    names = [name for name, parameter in model.named_parameters() if is_quantized(parameter)]
    keep_out_of_ddp(model, names)


def _kept_layers(model: nn.Module) -> list[str]:
    """Linear layers that keep their precision: all but those of the language model's own layers."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # pyright: ignore
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    inside = {name for name, module in linear if module is not head and part_of(name) == "language_model"}
    return [
        name
        for name, module in linear
        if module is head
        or part_of(name) == "cross_attention"
        or not is_plain_linear(name, module)
        or (inside and name not in inside)
    ]


def _replace_layers(
    language_model: Any, *, bits: HqqBits = 4, group_size: PositiveInt = 64, axis: Literal[0, 1] = 1
) -> None:
    try:
        quantize = Quantizer(bits=bits, group_size=group_size, axis=axis)
    except ValueError as error:
        raise ConfigError(f"quantization: {error}") from error
    head = language_model.get_output_embeddings()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, layer in list(language_model.named_modules()):
        kept = layer is head or part_of(name) == "cross_attention" or not is_plain_linear(name, layer)
        if isinstance(layer, nn.Linear) and not kept:
            if layer.weight.numel() % group_size:
                raise ConfigError(
                    field="quantization.group_size",
                    expected=f"a divisor of the {layer.weight.numel()} weights of {name}",
                    found=str(group_size),
                )
            parent, _, child = name.rpartition(".")
            setattr(language_model.get_submodule(parent), child, quantize(layer, device))


def _bitsandbytes(
    *,
    skip: list[str],
    bits: Literal[4, 8] = 4,
    quant_type: Literal["nf4", "fp4"] = "nf4",
    double_quant: bool = True,
    storage_dtype: DtypeName | None = None,
    compute_dtype: DtypeName | None = None,
) -> BitsAndBytesConfig:
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quant_type,
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_quant_storage=storage_dtype,  # pyright: ignore[reportArgumentType]  # a name or None, too
        bnb_4bit_compute_dtype=compute_dtype,  # pyright: ignore[reportArgumentType]
        llm_int8_skip_modules=skip,  # pyright: ignore[reportArgumentType]
    )


def _torchao(*, skip: list[str], scheme: str = "Int8WeightOnlyConfig", **options: Any) -> TorchAoConfig:
    known = schemes()
    if scheme not in known:
        hint = nearest(scheme, known)
        raise ConfigError(hint, field="quantization.scheme", expected="a config of torchao", found=show(scheme))
    return TorchAoConfig(known[scheme](**options), modules_to_not_convert=skip)


_MAKERS: dict[str, Callable[..., object]] = {"bitsandbytes": _bitsandbytes, "hqq": _replace_layers, "torchao": _torchao}
QuantizationConfig = Annotated[Mapping[str, Any], Reads("a quantization, dict(type=...)", check_quantization)]
