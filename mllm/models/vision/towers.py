"""Vision towers side by side: each sees the same image in its own way, and their features are concatenated.

Tong et al. 2024, Eyes Wide Shut (arXiv 2401.06209), and Lin et al. 2023, SPHINX (arXiv 2311.07575), read CLIP and
DINOv2 together: one knows what, the other where.

Shape suffixes: M images, C channels, H height, W width, P tokens of an image, D width of all towers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import PreTrainedModel

from mllm.errors import ConfigError
from mllm.fields import show
from mllm.models.components import Statistics
from mllm.models.vision.encoder import VisionTower

FeatureLayer = int | Sequence[int | Sequence[int]]
"""A layer, several, or for each of several towers its own."""


class MultiVisionTower(nn.Module):
    """Towers that give as many tokens an image, concatenated on the width; a `VisionTower` to those who use it.

    Pixels come in at the largest of the towers' sizes, with the first tower's `statistics`; each tower gets them scaled
    down to its own size, with its own.

    Raises:
        ConfigError: the towers give different numbers of tokens.
    """

    def __init__(self, towers: Sequence[VisionTower], statistics: Sequence[Statistics]) -> None:
        super().__init__()
        self.towers: Any = nn.ModuleList(towers)
        self.statistics = statistics
        self._check_tokens()

    def resize(self, image_size: int | Sequence[int]) -> None:
        """Take images of so many pixels a side from now on, or each tower of its own.

        Raises:
            ConfigError: a tower takes no other size than its own, or they then give different numbers of tokens.
        """
        for tower, size in zip(self.towers, _sizes(image_size, len(self.towers)), strict=True):
            tower.resize(size)
        self._check_tokens()

    @property
    def encoders(self) -> tuple[PreTrainedModel, ...]:
        return tuple(tower.encoder for tower in self.towers)

    @property
    def width(self) -> int:
        return sum(tower.width for tower in self.towers)

    @property
    def size(self) -> int:
        """Side of the square pixels that come in."""
        return max(tower.size for tower in self.towers)

    @property
    def channels(self) -> int:
        return self.towers[0].channels

    @property
    def tokens(self) -> int:
        """Features of one image."""
        return self.towers[0].tokens

    def forward(self, pixels_MCHW: Tensor) -> Tensor:
        views = [self._view(pixels_MCHW.float(), number) for number in range(len(self.towers))]
        features = [tower(view_MCHW) for tower, view_MCHW in zip(self.towers, views, strict=True)]
        return torch.cat(features, dim=-1)

    def freeze_unused(self) -> None:
        """Freeze what no feature depends on."""
        for tower in self.towers:
            tower.freeze_unused()

    def _view(self, pixels_MCHW: Tensor, number: int) -> Tensor:
        """The pixels as tower `number` wants them."""
        size = self.towers[number].size
        if pixels_MCHW.shape[-2:] == (self.size, self.size) and size != self.size:
            pixels_MCHW = interpolate(pixels_MCHW, (size, size), mode="bicubic", antialias=True)
        if number == 0:
            return pixels_MCHW
        (mean, std), (own_mean, own_std) = (
            [pixels_MCHW.new_tensor(values)[:, None, None] for values in statistics]
            for statistics in (self.statistics[0], self.statistics[number])
        )
        return (pixels_MCHW * std + mean - own_mean) / own_std

    def _check_tokens(self) -> None:
        found = [tower.tokens for tower in self.towers]
        if len(set(found)) > 1:
            each = ", ".join(
                f"{tower.tokens} ({tower.encoder.config.model_type} at {tower.size} pixels)" for tower in self.towers
            )
            raise ConfigError(
                "try another image_size",
                field="vision_tower",
                expected="two that give the same number of tokens",
                found=each,
            )


def vision_towers(
    encoders: Sequence[PreTrainedModel],
    *,
    feature_layer: FeatureLayer,
    keep_cls: bool,
    image_size: int | Sequence[int] | None,
    statistics: Sequence[Statistics],
) -> VisionTower | MultiVisionTower:
    """One tower, or several side by side; a list in `feature_layer`, or a list as `image_size`, gives each its own.

    Raises:
        ConfigError: lists of another length, layers or sizes that an encoder does not have, towers that do not fit.
    """
    layers = _layers(feature_layer, len(encoders))
    sizes = _sizes(image_size, len(encoders))
    towers = [
        VisionTower(encoder, feature_layer=layer, keep_cls=keep_cls, image_size=size)
        for encoder, layer, size in zip(encoders, layers, sizes, strict=True)
    ]
    return towers[0] if len(towers) == 1 else MultiVisionTower(towers, statistics)


def _layers(feature_layer: FeatureLayer, towers: int) -> list[Any]:
    if isinstance(feature_layer, int):
        return [feature_layer] * towers
    if isinstance(feature_layer, (list, tuple)) and all(isinstance(layer, int) for layer in feature_layer):
        if towers > 1:
            raise ConfigError(
                field="feature_layer",
                expected=f"a list of {towers} lists, the layers of each vision tower",
                found=show(list(feature_layer)),
            )
        return [feature_layer]
    return _each("feature_layer", feature_layer, towers)


def _sizes(image_size: int | Sequence[int] | None, towers: int) -> list[int | None]:
    if image_size is None or isinstance(image_size, int):
        return [image_size] * towers
    return _each("image_size", image_size, towers)


def _each(name: str, values: object, towers: int) -> list[Any]:
    if not isinstance(values, (list, tuple)) or len(values) != towers:
        raise ConfigError(
            field=name, expected=f"a number, or one for each of {towers} vision tower(s)", found=show(values)
        )
    return list(values)
