from __future__ import annotations

from mllm.pipeline.provenance import of_data
from mllm.pipeline.train_data import EvalItems
from mllm.registry import DATASETS
from tests.pipeline.tiny import SCENES


def test_of_data_says_how_items_were_drawn() -> None:
    scenes = dict(SCENES, count=8)
    part = dict(type="Subset", dataset=scenes, fraction=0.5, seed=3)
    items = EvalItems(DATASETS.make(dict(type="ConcatDataset", datasets=[part, scenes])))
    found = of_data(items)
    assert found["items"] == 12
    assert found["drawn"] == [{"fraction": 0.5, "seed": 3, "of": 8}]
    assert "drawn" not in of_data(DATASETS.make(dict(type="Subset", dataset=scenes, first=2)))
