"""A dataset whose images are seen in a resolution of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mllm.dataset.base import Dataset
from mllm.dataset.mixing import Source, build_datasets
from mllm.fields import PositiveInt
from mllm.images.resolution import Resolution, bound_image
from mllm.registry import DATASETS
from mllm.types import Item


@DATASETS.register_module()
class AtResolution:
    """A dataset with its own bounds on image resolution: documents need more pixels than dogs.

    Args:
        dataset: a config, or a dataset already built. Of two `AtResolution` around it the inner one counts.
        min_pixels, max_pixels, max_tokens, max_tiles, longest_edge: see `mllm.images.resolution.Resolution`. A model of
            type "hf" takes those that its image processor has; others take none.

    Raises:
        ConfigError: nothing is bounded, or `min_pixels` is above `max_pixels`.
    """

    def __init__(
        self,
        *,
        dataset: Source,
        min_pixels: PositiveInt | None = None,
        max_pixels: PositiveInt | None = None,
        max_tokens: PositiveInt | None = None,
        max_tiles: PositiveInt | None = None,
        longest_edge: PositiveInt | None = None,
    ) -> None:
        self.resolution = Resolution(
            min_pixels=min_pixels,
            max_pixels=max_pixels,
            max_tokens=max_tokens,
            max_tiles=max_tiles,
            longest_edge=longest_edge,
        )
        self.dataset = build_datasets(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        item = self.dataset[index]
        return replace(item, images=tuple(bound_image(ref, self.resolution) for ref in item.images))

    def part(self, index: int) -> tuple[Dataset, int]:
        return self.dataset, index

    def set_epoch(self, epoch: int | None) -> None:
        self.dataset.set_epoch(epoch)


def resolutions_in(dataset: Any) -> list[Resolution]:
    """Those of the datasets that a dataset is made of, each once."""
    own = [dataset.resolution] if isinstance(dataset, AtResolution) else []
    inner: list[Any] = list(getattr(dataset, "datasets", None) or ())
    inner += [dataset.dataset] if hasattr(dataset, "dataset") else []
    return list(dict.fromkeys([*own, *(found for each in inner for found in resolutions_in(each))]))
