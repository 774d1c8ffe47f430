"""Model FLOPs: what the arithmetic of a step asks for, however it is computed; and what devices can do.

A weight matrix takes 2 FLOPs a weight for each row that passes through it; backward 2 more where the weight is
trained, and 2 more where the gradient goes on to what it read. So a row costs 6 a weight in a part that is trained, 4
in a frozen one that gradients pass through (the base of LoRA), 2 in a frozen one that none reach (a vision tower).
Attention takes 4 a layer and unit of width for each pair of tokens, 12 where gradients pass through; all pairs of a
segment of text count, those that causality hides too (Chowdhery et al. 2022, PaLM, appendix B). Padding, what runs
again under activation checkpointing, norms, the scans of state spaces, and attention inside connectors do not count,
nor are sliding windows of the text subtracted. Of experts those count that a token is sent to. In a vision tower whose
stages become smaller (Swin, ConvNeXt) all products count that it makes.

The matrices are found by watching one batch on its way through the model; of all others only tokens, labels, pixels and
pairs are counted, on the CPU.

Shape suffixes: M images, P patches, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from mllm.compat.hqq import LINEAR
from mllm.models.language_models import attending_layers
from mllm.models.parts import part_of
from mllm.models.vision.encoder import VisionTower

PRODUCTS = (torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")
"""What activation checkpointing and compilation put into the names of modules."""

PEAKS = {
    "B200": 2250,
    "H200 NVL": 835,
    "H200": 989,
    "GH200": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H100": 989,
    "H20": 148,
    "A100": 312,
    "A40": 149.7,
    "A30": 165,
    "A10": 125,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "MI300X": 1307,
}
"""Dense bf16 TFLOP/s by words of the device's name, the first that fits. Sources: the data sheets of NVIDIA's Tensor
Core GPUs (where figures "with sparsity" are halved) and of AMD's Instinct MI300X."""


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of a device; None where it is not known."""
    return known_peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def known_peak(name: str) -> float | None:
    words = name.replace("-", " ").split()
    if "MIG" in words:  # a slice of a device
        return None
    return next((1e12 * peak for known, peak in PEAKS.items() if set(known.split()) <= set(words)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopCounts:
    """How much of what costs FLOPs there is in a batch, or the FLOPs of one of each."""

    tokens: float = 0
    """Of the rows of text, without padding."""
    labels: float = 0
    """Tokens that the head predicts."""
    pixels: float = 0
    """Values that the vision tower reads, in all colours."""
    pairs: float = 0
    """Of tokens of which one may see the other."""
    patch_pairs: float = 0
    """Of patches of the same image, for vision towers that take images of any size."""

    def __mul__(self, other: FlopCounts) -> float:
        return sum(getattr(self, name) * getattr(other, name) for name in KINDS)

    def __str__(self) -> str:
        terms = [f"{getattr(self, name):.4g} x {name.replace('_', ' ')}" for name in KINDS if getattr(self, name)]
        return " + ".join(terms)


KINDS = tuple(each.name for each in fields(FlopCounts))


class ModelFlops:
    """Watches a model until it knows what one token, label, pixel and pair cost, forward and backward.

    Attributes:
        done: no further batch needs watching. One with images is needed by a model that sees, and none helps with an
            encoder-decoder model, of which the cost is not known.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.text: Any = model.config.get_text_config()
        self._widths = _widths(self.text)
        self._staged = [tower for tower in model.modules() if isinstance(tower, VisionTower) and not tower.uniform]
        self._staged_modules = {module for tower in self._staged for module in tower.modules()}
        self.done: bool = model.config.is_encoder_decoder or self.text.is_encoder_decoder
        self._flops: dict[str, float] = {}
        self._batch = FlopCounts()

    @property
    def cost(self) -> FlopCounts:
        """FLOPs of one of each; known after the backward pass of a batch that was watched, before that zeros."""
        counts = {name: getattr(self._batch, name) for name in KINDS}
        return FlopCounts(**{name: flops / counts[name] for name, flops in self._flops.items() if counts[name]})

    @contextmanager
    def watching(self, batch: FlopCounts, rows: int) -> Iterator[None]:
        """While the model computes the loss of a batch, which has `rows` tokens with padding."""
        self._flops, self._batch = {}, replace(batch, tokens=rows)  # its matrices read padding as well
        hooks = [(module, self._hook(_plain(name), module)) for name, module in self.model.named_modules()]
        handles = [module.register_forward_hook(hook, with_kwargs=True) for module, hook in hooks if hook]
        with ExitStack() as stack:
            for handle in handles:  # what runs again in the backward pass does not count
                stack.callback(handle.remove)
            for tower in self._staged:
                stack.enter_context(_products(tower, partial(self._add, "pixels")))
            yield
        sees = any(part_of(name) == "vision_tower" for name, _ in self.model.named_modules())
        self.done = batch.pixels > 0 or not sees

    def _hook(self, name: str, module: nn.Module) -> Callable[..., None] | None:
        part = part_of(name)

        def matrix(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> None:
            read: Tensor = args[0] if args else next(iter(kwargs.values()))
            output = _first(output)  # a router gives more than its product
            forward, rows = _product(module, read, output)
            if part in ("vision_tower", "connector") or (part == "cross_attention" and rows != self._batch.tokens):
                kind = "pixels"
            else:
                kind = "tokens" if rows == self._batch.tokens else "labels"
            self._add(kind, forward, forward * (_is_trained(module) + read.requires_grad), output)

        def experts(module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object], output: object) -> None:
            read, *rest = (each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
            chosen = next((each for each in rest if not each.is_floating_point()), None)
            rows = read.numel() // read.shape[-1] if chosen is None else chosen.numel()
            forward = 2.0 * rows * sum(weight.numel() // len(weight) for weight in _expert_weights(module))
            trained = any(weight.requires_grad for weight in _expert_weights(module))
            self._add("tokens", forward, forward * (trained + read.requires_grad), _first(output))

        def attention(module: nn.Module, args: object, kwargs: object, output: object) -> None:
            hidden = _first(output)
            if part == "language_model":
                kind, forward = "pairs", 4.0 * self._width(name) * self._batch.pairs
            else:
                kind, forward = self._patches(name, hidden)
            self._add(kind, forward, 2 * forward, hidden)

        if isinstance(module, (nn.Linear, Conv1D, *CONVOLUTIONS)) or type(module).__name__ == LINEAR:
            return matrix
        if part == "language_model" and _expert_weights(module):
            return experts
        layer = isinstance(module, GradientCheckpointingLayer) and part in ("language_model", "vision_tower")
        return attention if layer and module not in self._staged_modules else None

    def _width(self, name: str) -> int:
        """Of all heads of a layer together; 0 where it has no attention."""
        number = next(int(part) for part in reversed(name.split(".")) if part.isdecimal())
        return self._widths[number % len(self._widths)]

    def _patches(self, name: str, hidden: Tensor) -> tuple[str, float]:
        """Attention over [M, P, D], images of one size; over [P, D], any sizes, or windows of them (Qwen2.5-VL)."""
        if hidden.dim() == 3:
            return "pixels", 4.0 * hidden.numel() * hidden.shape[1]
        config: Any = self.model.config.vision_config
        whole = getattr(config, "fullatt_block_indexes", None)
        if whole is None or int(name.rpartition(".")[2]) in whole:
            return "patch_pairs", 4.0 * hidden.shape[-1] * self._batch.patch_pairs
        return "pixels", 4.0 * hidden.numel() * (config.window_size // config.patch_size) ** 2

    def _add(self, kind: str, forward: float, backward: float, output: Tensor) -> None:
        flops = self._flops
        flops[kind] = flops.get(kind, 0.0) + forward

        def reached(_: Tensor) -> None:
            flops[kind] += backward

        if backward and output.requires_grad:
            output.register_hook(reached)  # of some layers of a vision tower no loss depends


def _plain(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _product(module: nn.Module, read: Tensor, output: Tensor) -> tuple[float, int]:
    """FLOPs of a matrix forward, and its rows; from shapes, as weights may be sharded or in few bits."""
    if isinstance(module, CONVOLUTIONS):
        fan_in = module.in_channels // module.groups * prod(module.kernel_size)
        return 2.0 * output.numel() * fan_in, output.numel() // module.out_channels
    return 2.0 * output.numel() * read.shape[-1], output.numel() // output.shape[-1]


def _is_trained(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.requires_grad


@contextmanager
def _products(tower: nn.Module, add: Callable[[float, float, Tensor], None]) -> Iterator[None]:
    """Count the products of activations in a vision tower that attends in its own way in each stage, or not at all."""
    modes: list[_Products] = []

    def enter(*_: object) -> None:
        modes.append(_Products(add))
        modes[-1].__enter__()

    def leave(*_: object) -> None:
        modes.pop().__exit__(None, None, None)

    with ExitStack() as stack:
        stack.callback(tower.register_forward_pre_hook(enter).remove)
        stack.callback(tower.register_forward_hook(leave, always_call=True).remove)
        yield


class _Products(TorchFunctionMode):
    def __init__(self, add: Callable[[float, float, Tensor], None]) -> None:
        super().__init__()
        self.add = add

    def __torch_function__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is scaled_dot_product_attention:
            query, key = args[:2]
            forward = 2.0 * key.shape[-2] * (query.numel() + output.numel())
        elif func in PRODUCTS:
            forward = 2.0 * output.numel() * args[0].shape[-1]
        else:
            return output
        self.add(forward, 2 * forward, output)
        return output


def _first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else _first(output[0])


def _expert_weights(module: nn.Module) -> list[nn.Parameter]:
    """The matrices of experts that lie in one tensor."""
    if "Experts" not in type(module).__name__:
        return []
    return [weight for weight in module.parameters(recurse=False) if weight.dim() == 3]


def _widths(config: PreTrainedConfig) -> list[int]:
    """Of each layer of a language model: the width of its attention, 0 where it has none (state spaces)."""
    return [
        _width(layer) if attends else 0
        for layer, attends in zip(config.per_layer_config, attending_layers(config), strict=False)
    ]


def _width(config: PreTrainedConfig) -> int:
    """Of all heads together; where keys and values differ (multi-head latent attention), of their mean."""
    heads = getattr(config, "num_attention_heads", 0)
    if not heads:
        return 0
    if getattr(config, "qk_head_dim", None) and getattr(config, "v_head_dim", None):
        return heads * (config.qk_head_dim + config.v_head_dim) // 2
    return heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
