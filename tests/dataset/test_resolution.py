"""Datasets whose images are seen in a resolution of their own."""

from __future__ import annotations

from typing import Any

import pytest

from mllm.dataset.resolution import resolutions_in
from mllm.errors import ConfigError
from mllm.images.resolution import Resolution, resolution_of
from mllm.registry import DATASETS

SCENES: dict[str, Any] = dict(type="Scenes", size=32, objects=[2, 3], count=2)


def test_at_resolution_bounds_every_image_and_changes_nothing_else() -> None:
    plain = DATASETS.make(SCENES)
    made = DATASETS.make(dict(type="AtResolution", max_pixels=100, dataset=SCENES))
    assert len(made) == 2
    for index in range(2):
        assert [resolution_of(ref) for ref in made[index].images] == [Resolution(max_pixels=100)]
        assert made[index].images[0].ref == plain[index].images[0]
        assert (made[index].turns, made[index].boxes) == (plain[index].turns, plain[index].boxes)
    made.set_epoch(3)
    assert made.part(1) == (made.dataset, 1)


def test_resolutions_in_looks_into_datasets_of_datasets() -> None:
    low, high = (dict(type="AtResolution", max_tiles=count, dataset=SCENES) for count in (1, 4))
    both = DATASETS.make(dict(type="ConcatDataset", datasets=[low, high, SCENES, low]))
    assert resolutions_in(both) == [Resolution(max_tiles=1), Resolution(max_tiles=4)]
    assert resolutions_in(DATASETS.make(SCENES)) == resolutions_in(None) == []


@pytest.mark.parametrize(
    ("bounds", "message"),
    [({}, "expected one of min_pixels"), ({"max_pixels": 0}, "max_pixels: expected a whole number of at least 1")],
)
def test_at_resolution_needs_a_bound(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DATASETS.make(dict(type="AtResolution", dataset=SCENES, **bounds))
