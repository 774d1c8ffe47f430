"""Counting: how many things does an answer say there are?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import fsum
from typing import Literal

from mllm.answers import short_answer, stated
from mllm.errors import DataError
from mllm.fields import show
from mllm.metrics.base import MeanHeadline, sort_by_index
from mllm.registry import METRICS
from mllm.types import GroundTruth, Prediction

Reading = Literal["last", "first", "molmo", "regions"]
READINGS: Mapping[Reading, str] = {
    "last": "the last number of the answer",
    "first": "the first number of the answer",
    "molmo": "the last word, or what follows 'a total of'",
    "regions": "the number of points, or else of boxes, in the answer",
}
_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen"),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBERS = {
    **{word: number for number, word in enumerate(_UNITS)},
    **{word: 10 * number for number, word in enumerate(_TENS, 2)},
    **{f"{ten}-{one}": 10 * n + m for n, ten in enumerate(_TENS, 2) for m, one in enumerate(_UNITS[1:10], 1)},
}
_WORD = re.compile(r"(?<![\w.])-?\d+(?:[.,]\d+)*(?!\w|[.,]\d)|[^\W\d_]+(?:-[^\W\d_]+)*", re.ASCII)
_INTEGER = re.compile(r"\d{1,12}|\d{1,3}(?:,\d{3}){1,3}|\d{1,12}\.0+")
_TOTAL = re.compile(r"\ba total of (\S+)", re.IGNORECASE)
_MULTIPLIERS = frozenset(("hundred", "thousand", "million", "dozen", "dozens", "hundreds", "thousands", "millions"))
_NOTHING = frozenset(("no", "none", "nothing"))


@METRICS.register_module()
class Counting(MeanHeadline):
    """Accuracy of the number in an answer; the true one is the truth's text, or its number of points or boxes.

    Args:
        reading: which number is read. `"last"` and `"first"`: of the answer in words (`mllm.answers`), as digits or as
            a number word from zero to ninety-nine; where there is no number, `no`, `none` and `nothing` are 0.
            `"molmo"`: the last word of the text, or else the word after "a total of". `"regions"`: how many points the
            answer holds, or boxes where it has no point; none of either is 0, unless there is one that cannot be read.

    Scores:
        accuracy: share of ALL predictions with the right number.
        within_1: share of ALL predictions that are wrong by 1 at most.
        valid: share of the predictions with a readable number.
        mae: mean absolute error of the readable ones alone; missing where there are none.
        accuracy/N: of the items whose true number is N.
        count: predictions scored. failure_none: answers without a readable number.

    Source: Deitke et al. 2024 (Molmo, arXiv 2409.17146): PixMo-Count.
    """

    headline = "accuracy"

    def __init__(self, *, reading: Reading = "last") -> None:
        self.reading: Reading = reading
        self.depth = {"regions": None, "molmo": "stated"}.get(reading, "short_answer")
        read = READINGS[reading]
        self.meanings: Mapping[str, str] = {
            "accuracy": f"share of all answers with the right number, which is {read}",
            "within_1": "share of all answers whose number is wrong by 1 at most",
            "valid": "share of the answers with a readable number",
            "mae": "mean absolute error of the answers with a readable number",
            "failure_none": "answers without a readable number",
        }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth that holds neither a number nor a region.
        """
        predictions = sort_by_index(predictions)
        pairs = [(self._read(prediction), true_number(prediction)) for prediction in predictions]
        errors = [abs(found - true) for found, true in pairs if found is not None]
        count = len(predictions)
        scores: dict[str, float] = {
            "accuracy": errors.count(0) / count,
            "within_1": sum(error <= 1 for error in errors) / count,
            "valid": len(errors) / count,
        }
        if errors:
            scores["mae"] = fsum(errors) / len(errors)
        for number in sorted({true for _, true in pairs}):
            own = [found == number for found, true in pairs if true == number]
            scores[f"accuracy/{number}"] = sum(own) / len(own)
        return {**scores, "count": count, "failure_none": count - len(errors)}

    def parts_of(self, prediction: Prediction) -> dict[str, list[str]]:
        return {"number": [str(true_number(prediction))]}

    def value(self, prediction: Prediction) -> float:
        return float(self._read(prediction) == true_number(prediction))

    def _read(self, prediction: Prediction) -> int | None:
        if self.reading == "regions":
            found = len(prediction.points or prediction.boxes)
            return None if not found and prediction.failure not in (None, "none") else found
        if self.reading == "molmo":
            return _molmo(stated(prediction.text))
        said = short_answer(prediction.text)
        numbers = numbers_in(said)
        if numbers:
            return numbers[-1 if self.reading == "last" else 0]
        return 0 if _NOTHING & set(said.casefold().replace(".", " ").replace(",", " ").split()) else None


def true_number(prediction: Prediction) -> int:
    """The number of the truth's text, or else how many points, or boxes, it has.

    Raises:
        DataError: there is neither.
    """
    truth = prediction.truth
    number = known_number(truth)
    if number is None:
        found = show(truth.texts[0] if truth.texts else None)
        raise DataError(where=prediction.key, field="truth.texts", expected="a number, or regions", found=found)
    return number


def known_number(truth: GroundTruth) -> int | None:
    """As `true_number`; None: there is neither."""
    if truth.no_target:
        return 0
    if truth.points or truth.boxes:
        return len(truth.points or truth.boxes)
    numbers = numbers_in(short_answer(truth.texts[0])) if truth.texts else []
    return numbers[0] if len(numbers) == 1 else None


def numbers_in(text: str) -> list[int]:
    """The whole numbers of a text in its order, as digits or as words up to ninety-nine.

    Numbers with decimals or a sign are no counts; nor is the `two` of `two hundred`, which is not read.
    """
    words = _WORD.findall(text)
    found = [
        _number(word)
        for word, following in zip(words, [*words, ""][1:], strict=True)
        if following.casefold() not in _MULTIPLIERS
    ]
    return [number for number in found if number is not None]


def _number(word: str) -> int | None:
    if _INTEGER.fullmatch(word):
        return int(word.split(".")[0].replace(",", ""))
    return _NUMBERS.get(word.casefold())


def _molmo(text: str) -> int | None:
    words = text.strip().rstrip(".").split()
    last = _number(words[-1].strip(",.!")) if words else None
    total = _TOTAL.search(text)
    return last if last is not None or total is None else _number(total[1].strip(",.!"))
