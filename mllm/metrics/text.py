"""Answers that are text: compared as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mllm.answers import whole_answer
from mllm.errors import DataError
from mllm.metrics.base import MeanHeadline, by_index
from mllm.registry import METRICS
from mllm.types import Prediction


@METRICS.register_module()
class ExactMatch(MeanHeadline):
    """Share of answers that equal one of their references, apart from case, outer spaces and one final full stop.

    Thinking and what is wrapped around the whole text are left out, see `mllm.answers`.

    Strict and cheap: right for short closed answers (a number, yes or no, a class name). It knows no synonyms,
    articles, number words or inner spacing, and gives nothing for a good paraphrase, so on captions and region
    descriptions it serves only to see a model overfit a small set.

    Scores: exact_match in [0, 1], count.
    """

    headline = "exact_match"
    meanings: Mapping[str, str] = {
        "exact_match": "share of all answers equal to a reference, apart from case and a final full stop",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth without a text.
        """
        predictions = by_index(predictions)
        for prediction in predictions:
            if not prediction.truth.texts:
                raise DataError(
                    where=prediction.key, field="truth.texts", expected="at least one text", found="nothing"
                )
        matches = sum(is_exact_match(prediction) for prediction in predictions)
        return {"exact_match": matches / len(predictions), "count": len(predictions)}

    def value(self, prediction: Prediction) -> float:
        return float(is_exact_match(prediction))


def is_exact_match(prediction: Prediction) -> bool:
    """Whether the text, as it stands or as `mllm.answers` unwraps it, equals a reference."""
    said = {normalised(prediction.text), whole_answer(prediction.text).casefold()}
    return any(normalised(reference) in said for reference in prediction.truth.texts)


def normalised(text: str) -> str:
    """The text without case, outer spaces and one final full stop."""
    return text.strip().removesuffix(".").rstrip().casefold()
