from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mllm.errors import DataError
from mllm.images import FileImage
from mllm.registry import DATASETS

# as the records of the public OCRBench.json
SIGN = {
    "dataset_name": "IIIT5K",
    "type": "Regular Text Recognition",
    "question": "what is written in the image?",
    "answers": "CENTRE",
    "image_path": "IIIT5K/test_1.png",
}
MENU = {**SIGN, "dataset_name": "docVQA", "type": "Doc-oriented VQA", "answers": ["$5", "5 dollars"]}


@pytest.fixture
def read(tmp_path: Path, pool: Callable[[Sequence[Any]], str]) -> Callable[..., Any]:
    def make(*records: Any) -> Any:
        path = tmp_path / "OCRBench.json"
        path.write_text(json.dumps(records, indent=4))
        cfg = {"type": "OCRBench", "filename": str(path), "image_folder": "ocr"}
        return DATASETS.make(cfg, questions=pool(["<image>\n<question>"]))

    return make


def test_ocrbench_reads_the_public_layout(read: Callable[..., Any]) -> None:
    sign, menu = (read(SIGN, MENU)[n] for n in range(2))
    assert sign.images == (FileImage("ocr/IIIT5K/test_1.png"),)
    assert [turn.text for turn in sign.turns] == ["<image>\nwhat is written in the image?", "CENTRE"]
    assert sign.truth.texts == ("CENTRE",)
    assert sign.group == {"type": "Regular Text Recognition", "dataset": "IIIT5K"}
    assert menu.truth.texts == ("$5", "5 dollars")
    assert menu.turns[1].text == "$5"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": 5}, "answers: expected a text, found int '5'"),
        ({"answers": []}, "answers: expected a list of texts, found []"),
        ({"type": None}, "type: expected a text"),
    ],
)
def test_ocrbench_names_a_bad_field(read: Callable[..., Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read({**SIGN, **change})[0]
    assert f"OCRBench.json[0]: {message}" in str(caught.value)


def test_ocrbench_names_a_missing_field(read: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"OCRBench\.json\[0\]: answers: expected a value"):
        read({name: value for name, value in SIGN.items() if name != "answers"})[0]
