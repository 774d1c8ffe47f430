"""Short answers in words: the consensus accuracy of VQA, and equality with one reference after its normalisation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import fsum

from mllm.errors import DataError
from mllm.metrics.answers import short_answer
from mllm.metrics.base import by_index
from mllm.metrics.contractions import CONTRACTIONS
from mllm.registry import METRICS
from mllm.types import Prediction

ARTICLES = ("a", "an", "the")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_WORDS)}}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")


@METRICS.register_module()
class VQAAccuracy:
    """The public VQA evaluation: an answer is right when three of the other annotators gave it.

    For each annotator, min(1, annotators among the others with this answer / 3); the mean of these over the
    annotators, usually ten, is the score of an answer. Where annotators disagree, answers are normalised first
    (articles, number words, punctuation, contractions); where all agree, case and signs count, as in the public code.
    What is scored is the answer behind `the answer is` or `Answer:`, or the whole text.

    Scores:
        vqa_accuracy: mean over ALL predictions, in [0, 1].
        count: predictions scored.
        failure_none: answers without a word.

    Source: Antol et al. 2015, VQA; vqaEvaluation/vqaEval.py of GT-Vision-Lab/VQA.
    """

    headline = "vqa_accuracy"
    meanings: Mapping[str, str] = {
        "vqa_accuracy": "mean share of the annotators' answers that support the given one, three being enough",
        "failure_none": "answers without a word",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth with fewer than two texts.
        """
        predictions = by_index(predictions)
        for prediction in predictions:
            if len(prediction.truth.texts) < 2:
                raise DataError(
                    f"{prediction.key}: expected the answers of at least two people as the truth, found "
                    f"{len(prediction.truth.texts)} (AnswerAccuracy compares with one)"
                )
        scores = [consensus(short_answer(one.text), one.truth.texts) for one in predictions]
        return {
            "vqa_accuracy": fsum(scores) / len(predictions),
            "count": len(predictions),
            "failure_none": sum(not short_answer(one.text) for one in predictions),
        }


@METRICS.register_module()
class AnswerAccuracy:
    """Share of short answers that equal a reference, both normalised as VQA does: for GQA, CLEVR, PointQA.

    What is compared is the answer behind `the answer is` or `Answer:`, or the whole text.

    Scores: accuracy in [0, 1] over ALL predictions, count, failure_none (answers without a word).
    """

    headline = "accuracy"
    meanings: Mapping[str, str] = {
        "accuracy": "share of all answers equal to a reference, apart from case, articles, punctuation, number words",
        "failure_none": "answers without a word",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth without a text.
        """
        predictions = by_index(predictions)
        right = 0
        for prediction in predictions:
            if not prediction.truth.texts:
                raise DataError(f"{prediction.key}: expected at least one text as the truth, found none")
            right += normalised(short_answer(prediction.text)) in map(normalised, prediction.truth.texts)
        failures = sum(not short_answer(prediction.text) for prediction in predictions)
        return {"accuracy": right / len(predictions), "count": len(predictions), "failure_none": failures}


def consensus(answer: str, others: Sequence[str]) -> float:
    """The score of one answer among those of the annotators, in [0, 1]."""
    answer = _spaced(answer)
    given = [_spaced(other) for other in others]
    if len(set(given)) > 1:
        given = [without_punctuation(other) for other in given]
        answer = normalised(answer)
    matches = Counter(given)[answer]
    # an annotator who gave this answer does not count himself
    scores = [min(1.0, (matches - (other == answer)) / 3) for other in given]
    return fsum(scores) / len(scores)


def normalised(text: str) -> str:
    """Lower case, without articles and most punctuation, number words as digits, contractions with their apostrophe."""
    words = [NUMBERS.get(word, word) for word in without_punctuation(_spaced(text)).lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def without_punctuation(text: str) -> str:
    """A sign next to a space anywhere, or in a text with a number such as 1,000, goes; elsewhere it becomes a space.

    Periods go unless a digit follows.
    """
    kept = text
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    for sign in PUNCTUATION:
        goes = in_number or f"{sign} " in text or f" {sign}" in text
        kept = kept.replace(sign, "" if goes else " ")
    return _PERIOD.sub("", kept)


def _spaced(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
