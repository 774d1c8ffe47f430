"""Answers that are text: compared as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import fsum

from mllm.answers import whole_answer
from mllm.metrics.base import MeanHeadline, require_references, require_texts
from mllm.registry import METRICS
from mllm.types import Prediction

_WORD = re.compile(r"[^\W_]+")


@METRICS.register_module()
class ExactMatch(MeanHeadline):
    """Share of answers that equal one of their references, apart from case, outer spaces and one final full stop.

    Thinking and what is wrapped around the whole text are left out, see `mllm.answers`.

    Strict and cheap: right for short closed answers (a number, yes or no, a class name). It knows no synonyms,
    articles, number words or inner spacing, and gives nothing for a good paraphrase, so on captions and region
    descriptions it serves only to see a model overfit a small set.

    Scores: exact_match in [0, 1], count, failure_none (answers without a word).
    """

    headline = "exact_match"
    depth = "whole_answer"
    meanings: Mapping[str, str] = {
        "exact_match": "share of all answers equal to a reference, apart from case and a final full stop",
        "failure_none": "answers without a word",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth without a text.
        """
        predictions = require_texts(predictions)
        matches = sum(is_exact_match(prediction) for prediction in predictions)
        return {
            "exact_match": matches / len(predictions),
            "count": len(predictions),
            "failure_none": sum(not whole_answer(prediction.text) for prediction in predictions),
        }

    def value(self, prediction: Prediction) -> float:
        return float(is_exact_match(prediction))


@METRICS.register_module()
class FreeText(MeanHeadline):
    """How close longer answers come to a reference: ROUGE-L, exact matches, and lengths.

    Thinking and what is wrapped around the whole text are left out, see `mllm.answers`. ROUGE-L rewards the words of
    the reference in its order, whatever they say.

    Scores:
        rouge_l: mean over ALL predictions of the F1 of the longest common subsequence of words, of several references
            the best, in [0, 1]. Words are runs of letters and digits in lower case, not stemmed.
        exact_match: as `ExactMatch`.
        words, reference_words: mean number of words of an answer, and of a reference.
        count: predictions scored.
        failure_none: answers without a word.

    Source: Lin 2004, ROUGE; rouge_score 0.1.2 of google-research gives the same for words of ASCII letters.
    """

    headline = "rouge_l"
    depth = "whole_answer"
    meanings: Mapping[str, str] = {
        "rouge_l": "F1 of the longest common subsequence of words with the nearest reference",
        "exact_match": "share of all answers equal to a reference, apart from case and a final full stop",
        "words": "mean number of words of an answer",
        "reference_words": "mean number of words of a reference",
        "failure_none": "answers without a word",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth without texts or with a blank one.
        """
        predictions = require_references(predictions)
        lengths = [len(words_of(whole_answer(prediction.text))) for prediction in predictions]
        expected = [len(words_of(text)) for prediction in predictions for text in prediction.truth.texts]
        count = len(predictions)
        return {
            "rouge_l": fsum(map(self.value, predictions)) / count,
            "exact_match": sum(map(is_exact_match, predictions)) / count,
            "words": sum(lengths) / count,
            "reference_words": sum(expected) / len(expected),
            "count": count,
            "failure_none": lengths.count(0),
        }

    def value(self, prediction: Prediction) -> float:
        answer = words_of(whole_answer(prediction.text))
        return max(rouge_l(answer, words_of(reference)) for reference in prediction.truth.texts)


def words_of(text: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    return _WORD.findall(text.lower())


def rouge_l(answer: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence of two lists of words; 0 where they share none."""
    common = longest_common_subsequence(answer, reference)
    return 2 * common / (len(answer) + len(reference)) if common else 0.0


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """How many words two lists share in the same order.

    A row of the usual table is one whole number, whose zeros are the steps of its counts.

    Source: Hyyrö 2004, Bit-Parallel LCS-length Computation Revisited.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    all_ones = (1 << len(first)) - 1
    row = all_ones
    for word in second:
        shared = row & places.get(word, 0)
        row = (row + shared | row - shared) & all_ones
    return len(first) - row.bit_count()


def is_exact_match(prediction: Prediction) -> bool:
    """Whether the text, as it stands or as `mllm.answers` unwraps it, equals a reference."""
    said = {normalised(prediction.text), whole_answer(prediction.text).casefold()}
    return any(normalised(reference) in said for reference in prediction.truth.texts)


def normalised(text: str) -> str:
    """The text without case, outer spaces and one final full stop."""
    return text.strip().removesuffix(".").rstrip().casefold()
