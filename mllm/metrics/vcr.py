"""VCR: the right answer, the right reason for it, and both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mllm.errors import DataError
from mllm.fields import show
from mllm.metrics.base import sort_by_index
from mllm.metrics.choice import ChoiceAccuracy, Reading, chance_of
from mllm.registry import METRICS
from mllm.types import Prediction

TASKS = {"q_a": "answer", "qa_r": "reason"}


@METRICS.register_module()
class VCRAccuracy:
    """VCR's accuracy: of the answer (Q->A), of the reason given the right answer (QA->R), and of both (Q->AR).

    A test set joins `VCR(version="qc-a")` and `VCR(version="qac-r")` over the same lines: two items with the same key
    are about one question, and their `group` says the `task`, "answer" or "reason".

    Args:
        reading: how an option is read from an answer, see `ChoiceAccuracy`.

    Scores:
        q_ar: share of the questions with both the right answer and the right reason (Q->AR). Missing where all
            predictions are of one task.
        q_a, qa_r: share of the questions with the right answer, with the right reason.
        count: predictions scored, two for each question.
        failure_none, failure_out_of_range: as of `ChoiceAccuracy`.
        chance: q_ar of guessing, the mean of the product of both shares of right options; of one task the mean share.

    Source: Zellers et al. 2019, From Recognition to Cognition, arXiv 1811.10830.
    """

    headline = "q_ar"
    meanings: Mapping[str, str] = {
        "q_ar": "share of the questions with the right answer and the right reason",
        "q_a": "share of the questions with the right answer",
        "qa_r": "share of the questions with the right reason, given the right answer",
        **ChoiceAccuracy.meanings,
        "chance": "q_ar of guessing",
    }

    def __init__(self, *, reading: Reading = "options") -> None:
        self.choice = ChoiceAccuracy(reading=reading)
        self.depth = self.choice.depth

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: as `ChoiceAccuracy`, or a question that is not asked once for its answer and once for its reason.
        """
        predictions = sort_by_index(predictions)
        value = self.choice.value
        of = {name: [one for one in predictions if one.group.get("task") == task] for name, task in TASKS.items()}
        scores = {name: sum(map(value, some)) / len(some) for name, some in of.items() if some}
        rest = self.choice(predictions)
        del rest["accuracy"]
        pairs = _pairs(predictions)
        if not pairs:
            return {**scores, **rest}
        both = sum(value(answer) * value(reason) for answer, reason in pairs)
        chance = sum(chance_of(answer) * chance_of(reason) for answer, reason in pairs)
        return {"q_ar": both / len(pairs), **scores, **rest, "chance": chance / len(pairs)}


def _pairs(predictions: Sequence[Prediction]) -> list[tuple[Prediction, Prediction]]:
    """Answer and reason of each question; none where all predictions are of one task."""
    questions: dict[str, dict[str, Prediction]] = {}
    for prediction in predictions:
        task = prediction.group.get("task")
        if task not in TASKS.values():
            expected = f"one of {', '.join(TASKS.values())}"
            raise DataError(where=prediction.key, field="group.task", expected=expected, found=show(task))
        asked = questions.setdefault(prediction.key, {})
        if task in asked:
            raise DataError(where=prediction.key, expected=f"the {task} to be asked for once", found="twice")
        asked[str(task)] = prediction
    if len({prediction.group["task"] for prediction in predictions}) == 1:
        return []
    for key, asked in questions.items():
        if len(asked) < len(TASKS):
            expected = "a question for the answer and one for the reason"
            raise DataError(where=key, expected=expected, found=f"only one for the {next(iter(asked))}")
    return [(asked["answer"], asked["reason"]) for asked in questions.values()]
