"""Classification: answers that name one of the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mllm.answers import short_answer
from mllm.errors import DataError
from mllm.fields import show
from mllm.metrics.base import MeanHeadline, sort_by_index
from mllm.metrics.vqa import normalised_answer
from mllm.registry import METRICS
from mllm.types import Prediction


@METRICS.register_module()
class ClassAccuracy(MeanHeadline):
    """Share of answers that name the right class, over all items and for each class.

    An answer names the class whose words it holds; of `snow` and `heavy snow` the longer. It is read behind `the answer
    is` or `Answer:`, or as a whole.

    Scores:
        accuracy: over ALL predictions, readable or not.
        mean_class_accuracy: the mean of the accuracies of the classes, so that rare ones weigh as much.
        class_accuracy/NAME: of the items of that class.
        count: predictions scored.
        failure_none: answers that name no class.
        failure_wrong_count: answers that name several.
    """

    headline = "accuracy"
    meanings: Mapping[str, str] = {
        "accuracy": "share of all answers that name the right class",
        "mean_class_accuracy": "mean of the accuracies of the classes",
        "failure_none": "answers that name no class",
        "failure_wrong_count": "answers that name several classes",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth that is not one of its options.
        """
        predictions = sort_by_index(predictions)
        items: Counter[str] = Counter()
        right: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        for prediction in predictions:
            truth = prediction.truth
            if len(truth.texts) != 1 or truth.texts[0] not in truth.options:
                raise DataError(
                    where=prediction.key,
                    field="truth",
                    expected=f"one of the options {list(truth.options)}",
                    found=show(list(truth.texts)),
                )
            named = named_classes(prediction.text, truth.options)
            if len(named) != 1:
                failures["wrong_count" if named else "none"] += 1
            items[truth.texts[0]] += 1
            right[truth.texts[0]] += named == list(truth.texts)
        shares = {name: right[name] / items[name] for name in sorted(items)}
        return {
            "accuracy": sum(right.values()) / len(predictions),
            "mean_class_accuracy": sum(shares.values()) / len(shares),
            "count": len(predictions),
            "failure_none": failures["none"],
            "failure_wrong_count": failures["wrong_count"],
            **{f"class_accuracy/{name}": share for name, share in shares.items()},
        }

    def value(self, prediction: Prediction) -> float:
        return float(named_classes(prediction.text, prediction.truth.options) == list(prediction.truth.texts))


def named_classes(text: str, classes: Sequence[str]) -> list[str]:
    """The classes whose words stand in the answer; not those that stand inside the name of another that does."""
    said = f" {normalised_answer(short_answer(text))} "
    found = [name for name in classes if f" {normalised_answer(name)} " in said]
    longest: list[str] = []
    for name in found:
        inside = any(
            name != other and f" {normalised_answer(name)} " in f" {normalised_answer(other)} " for other in found
        )
        if not inside:
            longest.append(name)
    return longest
