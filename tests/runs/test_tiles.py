"""Tiles from a config to answers: images of several sizes in one batch, shared by several questions or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from mllm.conversation.collator import Collator
from mllm.pipeline.evaluate import Loader, predict
from mllm.pipeline.finetune import main
from mllm.records import read_item
from mllm.types import Item
from tests.pipeline.packed import build
from tests.pipeline.tiny import Items, write_config

NEXT: dict[str, Any] = dict(type="any_resolution", pinpoints=[[32, 64], [64, 32], [64, 64]])
CROPS: dict[str, Any] = dict(type="crops", rows=1, columns=2)


def items() -> Items:
    """Two questions about each of three images, of different sizes."""
    found: list[Item] = []
    for number, size in enumerate([(50, 30), (20, 70), (40, 40)]):
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        first: Item | None = None
        for word in ("red", "blue"):
            turns = [{"from": "human", "value": f"<image> where is {word}?"}, {"from": "gpt", "value": "There."}]
            item = read_item({"image": image, "conversations": turns}, key=f"{number} {word}")
            first = first or item
            found.append(replace(item, images=first.images))
    return Items(found)


@pytest.mark.parametrize("tiling", [NEXT, CROPS], ids=lambda tiling: tiling["type"])
def test_answers_are_those_of_the_questions_one_by_one(tiling: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    _, processor, model = build(tiling=tiling)
    assert model.supports_prefix_sharing
    model.eval()
    loader = Loader(collator=Collator(pad_token_id=processor.tokenizer.pad_token_id), batch_size=4)

    def answers() -> list[str]:
        found = predict(
            model,
            items(),
            processor,
            loader,
            Accelerator(cpu=True),
            generation=dict(max_new_tokens=6, repetition_penalty=1.5),
            description="test",
        )
        return [prediction.text for prediction in found]

    together = answers()
    assert len(together) == 6
    assert len(set(together)) > 1
    monkeypatch.setattr(type(model), "supports_prefix_sharing", False)
    assert answers() == together


def test_a_run_in_tiles_is_continued_by_its_folder(tmp_path: Path) -> None:
    run = write_config(tmp_path, model_args=dict(tiling=NEXT), training_args=dict(max_steps=1, use_cpu=True, seed=0))
    assert main([str(run), "--output_dir", str(tmp_path / "first"), "--do_train", "True", "--do_predict", "True"]) == 0
    again = [str(run), "--output_dir", str(tmp_path / "again"), "--do_train", "False", "--do_predict", "True"]
    assert main([*again, "--cfg-options", f"model_args.model_name_or_path={tmp_path / 'first'}"]) == 0
    names = sorted(path.name for path in (tmp_path / "first").glob("*_extra_prediction.jsonl"))
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "first" / name).read_text() == (tmp_path / "again" / name).read_text()
