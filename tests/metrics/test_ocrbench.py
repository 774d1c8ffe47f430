from __future__ import annotations

import pytest

from mllm.errors import DataError
from mllm.metrics.ocrbench import GROUPS, OCRBench
from mllm.types import GroundTruth, Prediction


def answer(index: int, text: str, *references: str, kind: str | None = None, dataset: str = "svt") -> Prediction:
    group = {} if kind is None else {"type": kind, "dataset": dataset}
    return Prediction(key=f"o:{index}", index=index, text=text, truth=GroundTruth(texts=references), group=group)


def formula(text: str, *references: str) -> Prediction:
    kind = "Handwritten Mathematical Expression Recognition"
    return answer(0, text, *references, kind=kind, dataset="HME100k")


@pytest.mark.parametrize(
    ("text", "references", "hit"),
    [
        ("The word is CENTRE.", ("centre",), True),
        ("cent re", ("centre",), False),
        ("of\nthe sea", ("of the\nsea",), True),
        ("either", ("one", " Either "), True),
        ("", ("x",), False),
        ("<think>it says stop</think>go", ("stop",), False),
        ("nonstop", ("stop",), True),
    ],
)
def test_ocrbench_looks_for_the_text_in_any_case(text: str, references: tuple[str, ...], hit: bool) -> None:
    """Each as OCRBench/example.py decides, thinking apart."""
    assert OCRBench()([answer(0, text, *references)])["accuracy"] == hit


@pytest.mark.parametrize(
    ("text", "reference", "hit"),
    [("x ^ { 2 }", "x^{2}", True), ("so x^{2}\n= 4", "x ^ {2} =4", True), ("X^{2}", "x^{2}", False)],
)
def test_ocrbench_compares_formulas_without_spaces_and_with_case(text: str, reference: str, hit: bool) -> None:
    assert OCRBench()([formula(text, reference)])["hits"] == hit


def test_ocrbench_counts_hits_in_its_five_groups() -> None:
    given = [answer(n, "stop sign", "stop" if n % 3 else "go", kind=kind) for n, kind in enumerate(GROUPS)]
    scores = OCRBench()([*given[::-1], answer(10, "", "x", kind="Doc-oriented VQA")])
    assert scores == {
        "accuracy": 6 / 11,
        "hits": 6,
        "hits_recognition": 4,  # of six, the first and the fourth are wrong
        "hits_scene": 0,
        "hits_document": 1,
        "hits_key_information": 1,
        "hits_formula": 0,
        "count": 11,
        "failure_none": 1,
    }
    assert set(scores) - {"count"} == set(OCRBench.meanings)
    assert OCRBench.headline in scores
    assert [name for name in OCRBench()(given[:1]) if name.startswith("hits_")] == ["hits_recognition"]


def test_ocrbench_names_what_it_cannot_score() -> None:
    with pytest.raises(DataError, match=r"o:0: truth\.texts: expected at least one reference, none of them blank"):
        OCRBench()([answer(0, "x", " ")])
    with pytest.raises(DataError, match=r"o:0: group\.type: expected one of 'Regular Text R.*found str 'VQA'"):
        OCRBench()([answer(0, "x", "x", kind="VQA")])
