from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mllm.dataset.sets.vcr import VCR, VERSIONS
from mllm.errors import ConfigError, DataError
from mllm.registry import DATASETS

LINE = {
    "img_fn": "lsmdc/1.jpg",
    "boxes": [[0, 0, 9, 9, 0.99], [1, 1, 5, 5, 0.8]],
    "question": ["Why", "is", [0], "pointing", "at", [1], "?"],
    "answer_choices": [["He", "is", "lost", "."], [[0], "tells", [0, 1], "."], ["A", "."], ["B", "."]],
    "answer_label": 1,
    "rationale_choices": [["C", "."], ["D", "."], [[1], "waits", "."], ["E", "."]],
    "rationale_label": 2,
}


@pytest.fixture
def vcr(jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]) -> Callable[..., VCR]:
    def make(version: Any, line: Any = LINE) -> VCR:
        return VCR(filename=jsonl(line), questions=pool(["<image>\n<question>"]), version=version)

    return make


def test_choices(vcr: Callable[..., VCR]) -> None:
    item = vcr("qc-a")[0]
    assert item.turns[0].text == (
        "<image>\nWhy is <boxes> pointing at <boxes> ?\n(A) He is lost . (B) <boxes> tells <boxes> . (C) A . (D) B ."
    )
    assert item.turns[0].boxes_seq == ((0,), (1,), (0,), (0, 1))
    assert item.turns[1].text == "The answer is (B)."
    assert item.truth.texts == ("B",)
    assert item.boxes[1].xyxy == (1, 1, 5, 5)


def test_what_each_version_answers(vcr: Callable[..., VCR]) -> None:
    said = {version: [turn.text for turn in vcr(version)[0].turns[1::2]] for version in VERSIONS}
    answer, reason = "<boxes> tells <boxes> .", "<boxes> waits ."
    assert said == {
        "q-a": [answer],
        "q-ra": [f"{reason} {answer}"],
        "qc-a": ["The answer is (B)."],
        "qc-ra": [f"{reason} The answer is (B)."],
        "qc-rac": [f"{reason} {answer} The answer is (B)."],
        "qa-r": [reason],
        "qac-r": ["The answer is (C)."],
        "q-a-q-r": [answer, reason],
        "qc-a-qc-r": ["The answer is (B).", "The answer is (C)."],
    }
    assert {version: vcr(version)[0].group for version in ("qc-a", "qac-r", "q-a")} == {
        "qc-a": {"task": "answer"},
        "qac-r": {"task": "reason"},
        "q-a": {},
    }
    assert vcr("qc-a-qc-r")[0].turns[2].text == "Why?\n(A) C . (B) D . (C) <boxes> waits . (D) E ."
    assert vcr("qac-r")[0].turns[0].boxes_seq == ((0,), (1,), (0,), (0, 1), (1,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": []}, "question: expected a list of words and lists of indices, found list '[]'"),
        ({"question": ["a", 1]}, "question: expected words and lists of indices, found int '1'"),
        (
            {"question": ["a", [2]]},
            "conversations[0].boxes_seq[0]: expected an index from 0 to 1 (the target holds 2), found 2",
        ),
        ({"answer_label": 4}, "answer_label: expected an index of 4 choices, found 4"),
    ],
)
def test_bad_lines(vcr: Callable[..., VCR], change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        vcr("qc-a", {**LINE, **change})[0]
    assert str(caught.value).endswith(f"lines.jsonl:1: {message}")


def test_an_unknown_version(vcr: Callable[..., VCR]) -> None:
    with pytest.raises(ConfigError, match=r"version: expected one of .*, found str 'qca'; did you mean"):
        DATASETS.make({"type": "VCR", "filename": vcr("qc-a").lines.path, "questions": "a", "version": "qca"})
