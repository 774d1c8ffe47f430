"""Yes or no: does a model see things that are not there?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from mllm.answers import short_answer
from mllm.errors import DataError
from mllm.fields import show
from mllm.metrics.base import Totals, sort_by_index
from mllm.registry import METRICS
from mllm.types import Prediction

Reading = Literal["public", "words"]
CATEGORIES = ("random", "popular", "adversarial")
"""How the objects were drawn that are not in the image: the three files of the benchmark."""
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019]t\b)?")


def public_words(text: str) -> set[str]:
    """The words by which the public script decides: split at spaces up to the first full stop, commas removed.

    It knows `No`, `no` and `not`, and neither `NO`, `no!`, `**No**`, `Not` nor a `no` before a line break.

    Source: RUCAIBox/POPE, evaluate.py.
    """
    return set(text.split(".")[0].replace(",", "").split(" "))


def says_no_publicly(text: str) -> bool:
    """Whether the public script takes an answer as no; all else is yes, an empty answer too."""
    return not public_words(text).isdisjoint(("No", "no", "not"))


def says_no(text: str) -> bool:
    """Whether no, not, or a verb with n't is in the answer's first sentence, in any case and mark-up."""
    words = _words(text)
    return not words.isdisjoint(("no", "not")) or any(word.endswith(("n't", "n\u2019t")) for word in words)


READINGS: Mapping[str, Callable[[str], bool]] = {"public": says_no_publicly, "words": says_no}


@METRICS.register_module()
class POPE:
    """Accuracy, precision, recall and F1 of the answer yes, and how often it is given.

    Args:
        reading: "public" reads an answer to the letter as the public script does, whose numbers papers publish: see
            `public_words`. "words" reads it by `mllm.answers`, after thinking and inside mark-up, in any case: a no
            in the first sentence means no. Under both, all that is not no is yes.

    Scores:
        accuracy, precision, recall, f1: in [0, 1], yes being positive; 0 where nothing is divided by nothing.
        yes_ratio: share of answers that say yes; half of the questions of POPE ask for it.
        accuracy_random, f1_random, ... mean_accuracy, mean_f1: where the answers are of several of POPE's categories
            (random, popular, adversarial, as their `group` names them), those of each, and their plain means.
        count: predictions scored.
        failure_none: answers that count as yes without saying so.

    Source: Li et al. 2023, Evaluating Object Hallucination, arXiv 2305.10355; RUCAIBox/POPE, evaluate.py.
    """

    headline = "f1"
    meanings: Mapping[str, str] = {
        "accuracy": "share of all answers that are right",
        "precision": "of the answers yes, those that are right",
        "recall": "of the objects in the image, the share that was found",
        "f1": "harmonic mean of precision and recall",
        "yes_ratio": "share of answers that say yes",
        "mean_accuracy": "mean of the categories' accuracies",
        "mean_f1": "mean of the categories' f1",
        **{
            f"{score}_{category}": f"{score} of the category" for category in CATEGORIES for score in ("accuracy", "f1")
        },
        "failure_none": "answers that count as yes without saying so",
    }

    def __init__(self, *, reading: Reading = "public") -> None:
        self.says_no = READINGS[reading]
        self.depth = "short_answer" if reading == "words" else reading

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth that is neither yes nor no.
        """
        predictions = sort_by_index(predictions)
        for prediction in predictions:
            if prediction.truth.texts[:1] not in (("yes",), ("no",)):
                raise DataError(
                    where=prediction.key,
                    field="truth.texts",
                    expected="yes or no",
                    found=show(list(prediction.truth.texts)),
                )
        unclear = sum(
            not (self.says_no(prediction.text) or "yes" in _words(prediction.text)) for prediction in predictions
        )
        return {
            **self._scores(predictions),
            **self._by_category(predictions),
            "count": len(predictions),
            "failure_none": unclear,
        }

    def _scores(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        pairs = Counter(
            (not self.says_no(prediction.text), prediction.truth.texts[0] == "yes") for prediction in predictions
        )
        hits, false_alarms, misses = pairs[True, True], pairs[True, False], pairs[False, True]
        return {
            "accuracy": (hits + pairs[False, False]) / len(predictions),
            "precision": _share(hits, hits + false_alarms),
            "recall": _share(hits, hits + misses),
            "f1": _share(2 * hits, 2 * hits + false_alarms + misses),
            "yes_ratio": (hits + false_alarms) / len(predictions),
        }

    def _by_category(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Accuracy and F1 of each category, and their means; nothing where there are not several."""
        of = {
            category: [one for one in predictions if one.group.get("category") == category] for category in CATEGORIES
        }
        scores = {category: self._scores(some) for category, some in of.items() if some}
        if len(scores) < 2:
            return {}
        found: dict[str, float] = {}
        for name in ("accuracy", "f1"):
            found |= {f"{name}_{category}": values[name] for category, values in scores.items()}
            found[f"mean_{name}"] = sum(values[name] for values in scores.values()) / len(scores)
        return found

    def parts_of(self, prediction: Prediction) -> dict[str, list[str]]:
        category = prediction.group.get("category")
        return {"category": [str(category)]} if category in CATEGORIES else {}

    def value(self, prediction: Prediction) -> float:
        return float(self.says_no(prediction.text) != (prediction.truth.texts[0] == "yes"))

    def tally(self, prediction: Prediction) -> tuple[float, ...]:
        """Whether it is a right yes, and how many of the answer and the truth say yes."""
        yes, true = not self.says_no(prediction.text), prediction.truth.texts[0] == "yes"
        return float(yes and true), float(yes) + float(true)

    def headline_of(self, totals: Totals) -> Totals:
        hits, said = totals[..., 0], totals[..., 1]
        return np.divide(2 * hits, said, out=np.zeros_like(hits), where=said > 0)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(short_answer(text).split(".")[0].lower()))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
