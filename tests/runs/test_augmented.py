"""Augmented images on their way into a batch: what is painted lies where the tokens say, and is held once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from mllm.conversation.collator import Collator
from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.conversation.processor import Processor
from mllm.images import FileImage
from mllm.images.image_transforms import FlippedImage, PlacedImage
from mllm.images.names import name_of
from mllm.pipeline.train_data import TrainDataset
from mllm.registry import CODECS, DATASETS, TEMPLATES
from mllm.types import Batch
from tests.conftest import make_tokenizer

COUNT, SIDE = 6, 224


@pytest.fixture
def processor() -> Processor:
    return Processor(
        tokenizer=make_tokenizer(),
        template=TEMPLATES.make("vicuna_v1"),
        codec=CODECS.make("shikra"),
        view=SquarePreprocessor(size=SIDE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), tokens=4),
    )


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """COUNT lines about a photo with a red box."""
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    image = Image.new("RGB", (120, 80))
    image.paste((255, 0, 0), (6, 10, 46, 60))
    image.save(tmp_path / "photo.png")
    line = {"img_path": "photo.png", "expression": "the box on the left", "bbox": [6, 10, 46, 60]}
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for _ in range(COUNT)))
    pool = tmp_path / "pool.json"
    pool.write_text(json.dumps(["<image>\nWhere is <expr>?"]))
    return {
        "type": "REC",
        "filename": str(file),
        "image_folder": str(tmp_path),
        "questions": str(pool),
        "answer": "<boxes>",
    }


def test_the_tokens_say_where_the_pixels_are(lines: dict[str, Any], processor: Processor) -> None:
    cfg = {
        "type": "Augmented",
        "dataset": lines,
        "flip": 0.5,
        "scale": [0.6, 1.4],
        "pad": 0.5,
        "background": [0, 0, 255],
    }
    dataset = DATASETS.make(cfg)
    seen: set[str] = set()
    for epoch in range(4):
        dataset.set_epoch(epoch)
        for index in range(COUNT):
            item = dataset[index]
            example = processor.encode(item, index)
            assert example.labels is not None
            answer = processor.decode(example.labels[example.labels >= 0].tolist(), item, index)
            placement = processor.view.placement(item.images[0].size)
            pixels = example.pixels[0]["pixels"][0].numpy()
            rows, columns = np.nonzero((pixels[0] > 0.1) & (pixels[2] < -0.1))
            found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert placement.move_box(answer.boxes[0]).xyxy == pytest.approx(found, abs=2)
            seen.add(name_of(item.images[0]))
    assert len(seen) > 12


@pytest.mark.parametrize("packing", ["none", "shared"])
def test_a_batch_holds_a_changed_image_once(lines: dict[str, Any], processor: Processor, packing: Any) -> None:
    same = {"type": "SamePicture", "dataset": lines, "max_turns": COUNT // 2}
    dataset = TrainDataset(
        DATASETS.make({"type": "Augmented", "dataset": same, "flip": 1.0}), processor, split=packing == "shared"
    )
    loader = DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=Collator(pad_token_id=0, packing=packing))
    batches: list[Batch] = list(loader)
    (batch,) = batches
    assert batch["pixels"].shape == (1, 3, SIDE, SIDE)
    red = np.nonzero(batch["pixels"][0, 0].numpy() > 0.5)[1]
    assert red.min() > SIDE / 2


def test_what_people_call_them() -> None:
    flipped = FlippedImage(FileImage("a/b.jpg"))
    assert name_of(flipped) == "a/b.jpg, flipped"
    placed = PlacedImage(ref=flipped, extent=(30, 20), canvas=(60, 40), offset=(5, 9), colour=(0, 0, 0))
    assert name_of(placed) == "a/b.jpg, flipped, 30 x 20 at (5, 9)"
