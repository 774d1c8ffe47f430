"""What was written is read back before anybody is told that it is done: each tensor, and the logits of a probe.

A probe is a text with an image. Of the model that was written only hashes of its tensors and the probe's logits are
kept, so that one model at a time is in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaNextConfig, PreTrainedModel, PreTrainedTokenizerBase

from mllm.errors import ModelError, one_line
from mllm.models.checkpoints.lazy import Weights
from mllm.models.composite import Composite
from mllm.models.native.model import Native
from mllm.models.text_only import TextOnlyModel
from mllm.models.vision.encoders import REFUSALS

SIDE = 64
"""Height in pixels of a probe's image, for models that take any."""
PROBE_TOKENS = 12
"""Tokens of a probe's text, half of them before the image."""
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
"""By which logits may differ, as a share of the largest, where two libraries compute them."""
COARSE = 2e-2
"""The same of dtypes of fewer bits."""

Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenModel:
    """A model as it was written.

    Attributes:
        tensors: name -> hash of its dtype, shape and bytes.
        probe: what `logits` were computed from; both are None of a model without a probe.
    """

    tensors: Mapping[str, bytes]
    probe: Batch | None = None
    logits: Tensor | None = None

    @classmethod
    def of(cls, model: Any, tokenizer: PreTrainedTokenizerBase) -> WrittenModel:
        tensors = {name: hashed(tensor) for name, tensor in model.state_dict().items()}
        if not isinstance(model, (Composite, TextOnlyModel, Native)):
            return cls(tensors=tensors)
        probe = make_probe(model, tokenizer)
        return cls(tensors=tensors, probe=probe, logits=own_logits(model, probe))

    def check_tensors(self, found: Weights, names: Iterable[str] | None = None) -> None:
        """Compare the tensors that a folder holds, one at a time; of `names` (default: all) none may be missing.

        Raises:
            ModelError: a tensor is missing, was not there, or is another one.
        """
        hashes = {name: hashed(lazy.read()) for name, lazy in found.items()}
        held = set(hashes.values())  # of tied tensors a file holds one
        wanted = self.tensors.keys() if names is None else set(names)
        wrong = [name for name in wanted if name not in hashes and self.tensors[name] not in held]
        ours = set(self.tensors.values())  # `mlp1x_gelu` is written as `linear`, under its names
        wrong += [
            name
            for name, number in hashes.items()
            if (number != self.tensors[name] if name in self.tensors else number not in ours)
        ]
        if wrong:
            raise ModelError(
                f"what was written does not hold the model's {', '.join(sorted(wrong)[:5])} ({len(wrong)} tensors); "
                "the output was deleted"
            )

    def check_model(self, read: Callable[[], object]) -> None:
        """Compare the model that `read` gives from the folder.

        Raises:
            ModelError: it cannot be read, or its tensors or its logits are others.
        """
        model = _tried(read)
        names = {name: hashed(tensor) for name, tensor in model.state_dict().items()}
        wrong = sorted(name for name in names.keys() | self.tensors.keys() if names.get(name) != self.tensors.get(name))
        if wrong:
            raise ModelError(f"read back, {', '.join(wrong[:5])} ({len(wrong)} tensors) differ; the output was deleted")
        if self.probe is not None:
            self.check_logits(lambda probe: own_logits(model, probe))

    def check_logits(self, compute: Callable[[Batch], Tensor]) -> None:
        """Compare the logits that another library, or the model that was read back, computes for the probe.

        Raises:
            ModelError: it cannot, or they differ.
        """
        assert self.probe is not None
        assert self.logits is not None
        probe, expected = self.probe, self.logits.float()
        found = _tried(lambda: compute(probe)).float()
        largest = float(expected.abs().max())
        if found.shape != expected.shape:
            raise ModelError(
                field="read back", expected=f"logits of {list(expected.shape)}", found=f"{list(found.shape)}"
            )
        difference = float((found - expected).abs().max())
        if not difference <= TOLERANCE.get(self.logits.dtype, COARSE) * largest:  # nan differs
            raise ModelError(
                f"read back, its logits differ by up to {difference:.3g}, of up to {largest:.3g}: the format cannot "
                "hold this model; the output was deleted"
            )


def make_probe(model: Any, tokenizer: PreTrainedTokenizerBase) -> Batch:
    """A text, with an image in it where the model sees; the same for every call.

    They are arguments of the model, or of transformers' own where it has none of ours around its forward pass.
    """
    rows = model.get_input_embeddings().num_embeddings
    words = torch.linspace(0, rows - 1, PROBE_TOKENS).long().tolist()
    if isinstance(model, TextOnlyModel):
        ids_1T = torch.tensor([words])
        more = {"decoder_input_ids": ids_1T.flip(1)} if model.config.is_encoder_decoder else {}
        return {"input_ids": ids_1T, "attention_mask": torch.ones_like(ids_1T), **more}
    view = model.image_preprocessor()
    side = SIDE if isinstance(model, Native) else model.vision_tower.size
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (side, side + side // 2, 3), dtype=np.uint8))
    pixels: Batch = dict(view(image))
    placeholder = view.placeholder_tokens(image.size)
    if isinstance(model, Native):
        special = set(tokenizer.all_special_ids)  # as those of other images
        slot = tokenizer(placeholder, add_special_tokens=False)["input_ids"]
    else:
        slot = [model.config.image_token_id] * placeholder.count(view.token)
        special = set(slot)
        pixels = {name: tensor if tensor.dim() != 3 else tensor[None] for name, tensor in pixels.items()}
    words = [number for number in words if number not in special]
    ids_1T = torch.tensor([[*words[: PROBE_TOKENS // 2], *slot, *words[PROBE_TOKENS // 2 :]]])
    mask_1T = torch.ones_like(ids_1T)
    if isinstance(model, Native):
        return {**model.own_inputs(ids_1T, pixels), "attention_mask": mask_1T}
    return {"input_ids": ids_1T, "attention_mask": mask_1T, **pixels}


@torch.no_grad()
def transformers_logits(model: Any, probe: Batch) -> Tensor:
    """Of a model of transformers, or of PEFT's model around it."""
    if "pixels" not in probe:
        return model.eval()(**probe).logits
    inputs = {name: probe[name] for name in ("input_ids", "attention_mask")}
    inputs["pixel_values"] = probe["pixels"].to(model.dtype)
    if isinstance(model.config, LlavaNextConfig):
        inputs["image_sizes"] = probe["image_sizes"].flip(1)
    return model.eval()(**inputs).logits


def hashed(tensor: Tensor) -> bytes:
    """Of its dtype, shape and bytes."""
    whole = tensor.detach().cpu().contiguous()
    found = hashlib.blake2b(f"{whole.dtype} {tuple(whole.shape)}".encode(), digest_size=16)
    data: Any = whole.reshape(-1).view(torch.uint8).numpy()
    found.update(data)
    return found.digest()


@torch.no_grad()
def own_logits(model: PreTrainedModel, probe: Batch) -> Tensor:
    """Of a model of ours."""
    return (model.language_model if isinstance(model, TextOnlyModel) else model).eval()(**probe).logits


def _tried(read: Callable[[], object]) -> Any:
    try:
        return read()
    except REFUSALS as error:
        raise ModelError(f"it cannot be read back: {type(error).__name__}: {one_line(error)}") from error
