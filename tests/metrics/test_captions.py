"""Parity with the public evaluation of captions: scores that pycocoevalcap gave with its tokenizer in Java."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from mllm.errors import ConfigError, DataError, RunError
from mllm.metrics import captions
from mllm.metrics.captions import Captions, until_output
from mllm.registry import METRICS
from mllm.types import GroundTruth, Prediction

pytest.importorskip("pycocoevalcap")
SETS = json.loads((Path(__file__).parent / "captions_official.json").read_text(encoding="utf-8"))["sets"]
WITH_JAVA = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")


def caption(index: int, text: str, *references: str) -> Prediction:
    return Prediction(key=f"c:{index}", index=index, text=text, truth=GroundTruth(texts=references))


def stored(name: str) -> list[Prediction]:
    return [caption(index, text, *references) for index, (text, references) in enumerate(SETS[name]["captions"])]


def official(name: str, *but: str) -> dict[str, object]:
    return {score: pytest.approx(value, abs=1e-6) for score, value in SETS[name]["scores"].items() if score not in but}


@pytest.mark.parametrize("name", SETS)
def test_captions_scores_are_the_official_ones_without_java(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    scores = Captions()(stored(name)[::-1])
    unread = sum(not text for text, _ in SETS[name]["captions"])
    assert scores == {
        **official(name, "meteor"),
        "java_tokenizer": 0,
        "count": len(SETS[name]["captions"]),
        "failure_none": unread,
    }


@WITH_JAVA
def test_captions_scores_are_the_official_ones_with_the_tokenizer_in_java() -> None:
    scores = Captions(tokenizer="java")(stored("odd"))
    assert scores == {**official("odd", "meteor"), "java_tokenizer": 1, "count": 27, "failure_none": 5}


@WITH_JAVA
@pytest.mark.slow
def test_captions_meteor_is_the_official_one() -> None:
    assert Captions(scores=["meteor"])(stored("odd"))["meteor"] == pytest.approx(
        SETS["odd"]["scores"]["meteor"], abs=1e-6
    )


def test_captions_cider_of_a_stored_run() -> None:
    """Given and scored by pycocoevalcap 1.2."""
    given = [
        caption(0, "a yellow bus on the road", "a yellow bus on the street", "a bus drives down a road"),
        caption(1, "two cats sleeping", "two cats on a couch", "cats sleeping"),
        caption(2, "a banana", "a red apple on table", "an apple"),
    ]
    assert Captions(scores=["cider"])(given)["cider"] == pytest.approx(2.472642487088485, abs=1e-4)


@pytest.mark.parametrize(("scores", "names"), [(["meteor"], "meteor"), (["spice", "meteor"], "meteor and spice")])
def test_captions_refuses_what_needs_java_where_there_is_none(
    scores: Sequence[str], names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        ConfigError, match=f"metric 'Captions': scores: {names} needs Java, which cannot be started here"
    ):
        METRICS.make({"type": "Captions", "scores": scores})
    with pytest.raises(ConfigError, match="tokenizer: this tokenizer needs Java"):
        METRICS.make({"type": "Captions", "tokenizer": "java"})


def test_captions_refuses_a_java_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "java").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="needs Java"):
        Captions(scores=["meteor"])


def test_captions_says_when_a_program_in_java_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "java").write_text('#!/bin/sh\n[ "$1" = -version ] || { echo no memory >&2; exit 1; }\n')
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(RunError, match="tokenizer in Java failed: no memory"):
        Captions(tokenizer="java")(stored("part"))
    with pytest.raises(RunError, match="meteor: its program in Java failed"):
        Captions(scores=["meteor"])(stored("part"))


def test_captions_names_the_missing_model_of_spice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(captions, "_java_runs", lambda: True)
    monkeypatch.setattr(captions, "_package_folder", lambda: tmp_path)
    with pytest.raises(
        ConfigError, match=r"spice needs a parser's model, .*stanford-corenlp-3\.6\.0\.jar; .*downloads it"
    ):
        Captions(scores=["spice"])


def test_captions_names_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match=r"pip install 'mllm\[captions\]'"):
        Captions()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": []}, "scores: expected at least one"),
        ({"scores": ["cidre"]}, r"scores\.0: .*'cidre'; did you mean 'cider'"),
        ({"scores": "cider"}, "scores: expected a list"),
        ({"tokenizer": "jav"}, "tokenizer.*jav"),
        ({"reading": "txt"}, "reading.*txt"),
    ],
)
def test_captions_names_a_wrong_argument(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        METRICS.make({"type": "Captions", **arguments})


@pytest.mark.parametrize(
    ("reading", "depth", "text"),
    [
        ("answer", "stated", "<think>x</think>a dog"),
        ("text", "text", "a dog"),
        ("openflamingo", "openflamingo", 'a "dog"'),
    ],
)
def test_each_reading_has_a_name_in_configs_and_a_depth(reading: str, depth: str, text: str) -> None:
    metric = METRICS.make({"type": "Captions", "reading": reading, "tokenizer": "python", "scores": ["rouge_l"]})
    assert metric.depth == depth
    assert metric([caption(0, text, "a dog")])["rouge_l"] == 1


@pytest.mark.parametrize(
    ("scores", "headline"),
    [(["bleu"], "bleu_4"), (["rouge_l"], "rouge_l"), (["cider", "bleu"], "cider"), (["bleu", "rouge_l"], "rouge_l")],
)
def test_the_headline_is_cider_or_the_last_score(scores: list[str], headline: str) -> None:
    assert METRICS.make({"type": "Captions", "scores": scores}).headline == headline


def test_captions_says_what_each_score_means() -> None:
    metric = Captions(scores=["bleu", "rouge_l"])
    assert metric.headline == "rouge_l"
    assert set(metric(stored("part"))) - {"count"} == set(metric.meanings)
    assert "a part of a set" in Captions().meanings["cider"]


def test_captions_reads_the_answer_behind_thinking_but_not_inside_a_sentence() -> None:
    given = [
        caption(0, "<think>a cat?</think>a dog that says the answer is no", "a dog that says the answer is no"),
        caption(1, "<answer>two birds</answer> I hope", "two birds"),
    ]
    assert Captions()(given)["rouge_l"] == 1
    assert Captions(reading="text")(given)["rouge_l"] < 1


def test_until_output_cuts_as_openflamingo_does() -> None:
    assert until_output('a "big" dog Output:a cat Output') == "a big dog "
    given = [caption(0, "a dog Output:a cat", "a dog"), caption(1, "a bird", "a bird")]
    assert Captions(reading="openflamingo")(given)["bleu_1"] == pytest.approx(1)
    assert Captions()(given)["bleu_1"] < 0.8


@pytest.mark.parametrize("references", [(), ("",), ("a dog", " ")])
def test_captions_refuses_missing_and_blank_references(references: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"c:0: truth\.texts: expected at least one reference, none of them blank"):
        Captions()([caption(0, "a dog", *references)])
