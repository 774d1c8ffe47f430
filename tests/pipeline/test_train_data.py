"""What the input path opens, how often, and when it may be quick about it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mllm.conversation.collator import Collator
from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.conversation.processor import Processor
from mllm.dataset.sets.instruct import Instruct
from mllm.images import FileImage
from mllm.images.settings import ImageSettings, configure
from mllm.pipeline.train_data import EvalDataset, TrainDataset
from mllm.registry import CODECS, TEMPLATES
from mllm.types import EncodedSample
from tests.conftest import make_tokenizer

QUESTIONS = 3


@pytest.fixture(autouse=True)
def default_settings() -> Any:
    yield
    configure(ImageSettings())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was decoded, by name."""
    counts: Counter[str] = Counter()
    for name in ("open", "open_reduced"):
        method = getattr(FileImage, name)

        def counted(self: FileImage, *args: Any, method: Any = method, name: str = name) -> Image.Image:
            counts[f"{name} {Path(self.path).name}"] += 1
            return method(self, *args)

        monkeypatch.setattr(FileImage, name, counted)
    return counts


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """QUESTIONS about each of two photos."""
    records: list[dict[str, Any]] = []
    for number in range(2):
        path = tmp_path / f"{number}.jpg"
        Image.effect_noise((320, 240), 80).convert("RGB").save(path)
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": f"A dog {number}."}]
        records += [{"image": path.name, "conversations": turns}] * QUESTIONS
    file = tmp_path / "lines.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in records))
    return file


def encoded(lines: Path, **settings: Any) -> TrainDataset:
    configure(ImageSettings(**settings))
    view = SquarePreprocessor(size=28, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), tokens=4)
    processor = Processor(
        tokenizer=make_tokenizer(), template=TEMPLATES.make("vicuna_v1"), codec=CODECS.make("shikra"), view=view
    )
    return TrainDataset(Instruct(filename=str(lines), image_folder=str(lines.parent)), processor)


def pixels(examples: list[EncodedSample]) -> torch.Tensor:
    return examples[0].pixels[0]["pixels"]


def test_a_batch_opens_each_image_once(lines: Path, opened: Counter[str]) -> None:
    dataset = encoded(lines)
    (batch,) = DataLoader(dataset, batch_size=2 * QUESTIONS, collate_fn=Collator(pad_token_id=0))
    assert opened == {"open 0.jpg": 1, "open 1.jpg": 1}
    assert batch["image_index"].tolist() == [0] * QUESTIONS + [1] * QUESTIONS
    alone = torch.cat([pixels(dataset[index]) for index in (0, QUESTIONS)])
    assert torch.equal(batch["pixels"], alone)
    assert opened == {"open 0.jpg": 2, "open 1.jpg": 2}  # batches keep no images for one another


@pytest.mark.parametrize(("asked", "how"), [("exact", "open"), ("close", "open"), ("reduced", "open_reduced")])
def test_training_opens_as_the_settings_say(lines: Path, opened: Counter[str], asked: str, how: str) -> None:
    exact = pixels(encoded(lines)[0])
    opened.clear()
    found = pixels(encoded(lines, pixels=asked)[0])
    assert opened == {f"{how} 0.jpg": 1}
    off = 127.5 * (found - exact).abs().max()
    assert {"exact": off == 0, "close": off < 2.01, "reduced": off > 2.01}[asked]


def test_evaluation_is_exact(lines: Path, opened: Counter[str]) -> None:
    exact = pixels(encoded(lines)[0])
    training = encoded(lines, pixels="reduced")
    opened.clear()
    (example, _) = EvalDataset(training.items, training.processor, [[0, 1]], answer=True)[0]
    assert opened == {"open 0.jpg": 1}
    assert torch.equal(pixels([example]), exact)
