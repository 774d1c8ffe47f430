"""Features of images that a frozen vision side made, kept on disk across batches, epochs and runs.

An image is known by what the model sees of it, behind decoding, augmentation, placement and resizing. Its features are
known by the image, the weights and settings of all that makes them, and the arithmetic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from transformers import PreTrainedConfig

from mllm.errors import ModelError
from mllm.images.cache import DiskCache
from mllm.models.parts import part_of

if TYPE_CHECKING:
    from mllm.models.base import VisionLanguageModel

KEYS = "image_keys"
VISION_SIDE = ("vision_tower", "connector", "rest")
"""Parts that features may come from."""
Make = Callable[[list[int]], Sequence[Mapping[str, Tensor]]]
"""Numbers of images of a batch -> the features of each, by name."""


def keyed(image: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An image's tensors with `image_keys`, int64 [N, 2]: a hash of each row of `pixels` (a tile, a frame), or of all
    tensors where the model calls them otherwise.
    """
    rows = [{"pixels": row} for row in image["pixels"]] if "pixels" in image else [image]
    return {**image, KEYS: torch.from_numpy(np.stack([_key(row) for row in rows]))}


class KeptFeatures:
    """Of one model, in a cache that others may share."""

    def __init__(self, cache: DiskCache, model: Any) -> None:
        self.cache = cache
        self._asked = self._found = 0
        self._keys: list[tuple[int, ...]] | None = None
        self._fingerprint = ""
        self._model = model

    @property
    def active(self) -> bool:
        """Whether the images that the model sees now have keys."""
        return self._keys is not None

    @property
    def parts(self) -> list[str]:
        """The parts of the model that features are kept behind."""
        there = {part_of(name) for name, _ in self._model.named_parameters()}
        return [part for part in VISION_SIDE if part in there - self._model.trained_parts]

    @contextmanager
    def known(self, keys: Tensor | None) -> Generator[None, None, None]:
        """Within this the model sees the images of these keys, in their order."""
        self._keys = None if keys is None else [tuple(key) for key in keys.tolist()]
        try:
            yield
        finally:
            self._keys = None

    def of(self, make: Make, device: torch.device) -> list[Mapping[str, Tensor]]:
        """The features of each image of the batch, from the cache or made and put there."""
        assert self._keys is not None, "asked for where keys are known"
        about = f"{self._weights()} {device.type} {_autocast(device)}"
        names = [f"{about} {key}" for key in self._keys]
        first = {name: number for number, name in reversed(list(enumerate(names)))}
        found = {name: tensors for name in first if (tensors := self._read(name, device)) is not None}
        missing = sorted(number for name, number in first.items() if name not in found)
        self._asked, self._found = self._asked + len(first), self._found + len(found)
        if missing:
            with torch.no_grad():
                made = make(missing)
            for number, tensors in zip(missing, made, strict=True):
                found[names[number]] = tensors
                plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
                self.cache.put(names[number], save(plain))
        return [found[name] for name in names]

    def read(self) -> tuple[int, int]:
        """Images of the batches since the last call, each once a batch, and those of them whose features were there."""
        counts = self._asked, self._found
        self._asked = self._found = 0
        return counts

    def _read(self, name: str, device: torch.device) -> Mapping[str, Tensor] | None:
        data = self.cache.get(name)
        if data is None:
            return None
        try:
            return {key: tensor.to(device, non_blocking=True) for key, tensor in load(data).items()}
        except SafetensorError:  # a disk that failed, or was full
            self.cache.drop(name)
            return None

    def _weights(self) -> str:
        """A hash of all that makes features; at the first use, when checkpoints and adapters have been read."""
        if not self._fingerprint:
            model, parts = self._model, self.parts
            digest = hashlib.blake2b(digest_size=16)
            digest.update(f"1 {transformers.__version__} {parts} {_described(model.config)}".encode())
            for name, tensor in model.state_dict().items():
                if part_of(name) in parts:
                    if type(tensor) not in (Tensor, torch.nn.Parameter):
                        raise ModelError(f"features cannot be cached: {name} is stored as {type(tensor).__name__}")
                    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                    digest.update(_bytes(tensor))
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


@contextmanager
def knowing(model: VisionLanguageModel, keys: Tensor | None) -> Iterator[None]:
    """Within this the model keeps the features of the images of these keys, if it keeps any."""
    if model.kept is None:
        yield
        return
    with model.kept.known(keys):
        yield


def _key(tensors: Mapping[str, Tensor]) -> Any:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return np.frombuffer(digest.digest(), np.int64)


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _autocast(device: torch.device) -> str:
    return str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else ""


def _described(config: Any) -> str:
    """All settings, with the kind of attention, without where they were read."""
    kinds = {name: getattr(part, "_attn_implementation", None) for name, part in _configs(config).items()}
    known = {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}
    return json.dumps([known, kinds], sort_keys=True, default=str)


def _configs(config: PreTrainedConfig) -> dict[str, object]:
    inner = {name: getattr(config, name, None) for name in config.sub_configs}
    return {"": config, **{name: part for name, part in inner.items() if part is not None}}
