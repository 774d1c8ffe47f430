from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mllm.metrics.base import Metric
from mllm.metrics.rec import REC
from mllm.metrics.text import ExactMatch
from mllm.metrics.vqa import VQAAccuracy
from mllm.report.published import published
from mllm.types import Prediction


def answers(name: str, count: int) -> list[Prediction]:
    return [Prediction(key=f"data/{name}:{n + 1}", index=n, text="") for n in range(count)]


def test_published_names_scores_and_sources_of_a_known_test_set() -> None:
    found = published(REC(), answers("REC_refcocog_umd_val.jsonl", 4896))
    assert found[0] == {
        "model": "Kosmos-2, zero-shot",
        "score": 0.6057,
        "source": "microsoft/unilm, kosmos-2/evaluation/refcoco/README",
    }
    assert all(0 < each["score"] < 1 and each["source"] for each in found)
    assert len({each["model"] for each in found}) == len(found) == 11


def test_published_knows_answers_in_words() -> None:
    found = published(VQAAccuracy(), answers("OpenEnded_mscoco_val2014_questions.jsonl", 5046))
    assert {"model": "Shikra-13B", "score": 0.4716, "source": "QwenLM/Qwen-VL, README"} in found
    shown = [replace(one, demonstrations=("a:1",)) for one in answers("OpenEnded_mscoco_val2014_questions.jsonl", 5046)]
    assert published(VQAAccuracy(), shown) == []
    assert published(VQAAccuracy(rule="textvqa"), answers("textvqa_val_ocr.jsonl", 5000))[0]["score"] == 0.582


@pytest.mark.parametrize(
    ("metric", "name", "count"),
    [
        (REC(), "REC_refcocog_umd_val.jsonl", 4895),
        (REC(), "mine.jsonl", 4896),
        (ExactMatch(), "REC_refcocog_umd_val.jsonl", 4896),
        (None, "REC_refcocog_umd_val.jsonl", 4896),
        (REC(), "", 0),
    ],
    ids=["a part", "another file", "another metric", "a loss", "nothing"],
)
def test_published_is_empty_for_anything_else(metric: Metric | None, name: str, count: int) -> None:
    assert published(metric, answers(name, count)) == []


def test_published_is_empty_for_two_files() -> None:
    some = answers("REC_refcocog_umd_val.jsonl", 4896)
    assert published(REC(), [*some[1:], replace(some[0], key="b.jsonl:1")]) == []


def test_published_test_sets_are_those_of_the_catalogue() -> None:
    catalogue = (Path(__file__).parents[2] / "config" / "catalogue" / "refcoco.py").read_text()
    names = ("refcoco_unc_val", "refcoco+_unc_testA", "refcocog_umd_test")
    sizes = (10834, 5726, 9602)
    for name, size in zip(names, sizes, strict=True):
        assert f"/REC_{name}.jsonl" in catalogue
        assert published(REC(), answers(f"REC_{name}.jsonl", size))
