"""Phrase grounding: is one of the first k boxes the one that a phrase of a caption means?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from mllm.errors import DataError
from mllm.metrics.base import MeanHeadline, sort_by_index, split_by_group
from mllm.metrics.failures import LIST_MEANINGS, list_failures, unreadable_reason
from mllm.metrics.overlaps import enclosing, overlaps
from mllm.registry import METRICS
from mllm.types import Prediction

THRESHOLD = 0.5
RANKS = (1, 5, 10)
Protocol = Literal["any", "merged"]


@METRICS.register_module()
class PhraseGrounding(MeanHeadline):
    """Flickr30k Entities: recall of phrases within the first k boxes of an answer, in the order of the answer.

    A box is right with an IoU of at least 0.5. A phrase may mean several boxes.

    Args:
        protocol: `"any"`: the IoU with any box of the phrase counts. `"merged"`: that with the box around all of them.
        group: the name in the record's `group` that recall is broken down by; "people/bodyparts" counts in both. None:
            no break-down.

    Scores:
        recall@1, recall@5, recall@10, recall@all: over ALL phrases, whether their answers can be read or not.
        recall@1/people, ...: of the phrases of each type. phrases/people: how many these are.
        count: predictions scored.
        clipped, failure_none, failure_malformed, ...: see `mllm.metrics.failures`.

    Source: Plummer et al. 2015 (arXiv 1505.04870); the two protocols of Kamath et al. 2021 (MDETR, arXiv 2104.12763).
    """

    headline = "recall@1"
    failure = staticmethod(unreadable_reason)

    def __init__(self, *, protocol: Protocol = "any", group: str | None = "type") -> None:
        self.protocol = protocol
        self.group = group
        against = {"any": "any box of the phrase", "merged": "the box around all boxes of the phrase"}[protocol]
        self.meanings: Mapping[str, str] = {
            **{f"recall@{k}": f"one of the first {k} boxes has IoU >= 0.5 with {against}" for k in RANKS},
            "recall@1": f"the first box has IoU >= 0.5 with {against}",
            "recall@all": f"some box of the answer has IoU >= 0.5 with {against}",
            **LIST_MEANINGS,
        }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, a truth without a box, or a record without that group.
        """
        predictions = sort_by_index(predictions)
        ranks = {prediction.index: self._rank(prediction) for prediction in predictions}
        scores = _recalls(list(ranks.values()))
        scores["count"] = len(predictions)
        scores["clipped"] = sum(prediction.clipped > 0 for prediction in predictions)
        scores |= list_failures(predictions)
        if self.group is not None:
            types: dict[str, list[int | None]] = {}
            for value, own in split_by_group(predictions, self.group).items():
                for name in value.split("/"):
                    types.setdefault(name, []).extend(ranks[prediction.index] for prediction in own)
            for name, found in sorted(types.items()):
                scores |= {f"{score}/{name}": value for score, value in _recalls(found).items()}
                scores[f"phrases/{name}"] = len(found)
        return scores

    def parts_of(self, prediction: Prediction) -> dict[str, list[str]]:
        return {} if self.group is None else {self.group: str(prediction.group[self.group]).split("/")}

    def value(self, prediction: Prediction) -> float:
        return float(self._rank(prediction) == 1)

    def _rank(self, prediction: Prediction) -> int | None:
        """The place of the first right box, from 1; None where no box is right."""
        true = prediction.truth.boxes
        if not true:
            expected, found = "at least one box", "none"
            raise DataError(where=prediction.key, field="truth.boxes", expected=expected, found=found)
        if self.protocol == "merged":
            true = (enclosing(true),)
        right = (overlaps(prediction.boxes, true) >= THRESHOLD).any(axis=1)
        return int(right.argmax()) + 1 if right.any() else None


def _recalls(ranks: Sequence[int | None]) -> dict[str, float]:
    places = Counter(ranks)
    hits = {f"recall@{k}": sum(places[place] for place in range(1, k + 1)) for k in RANKS}
    hits["recall@all"] = len(ranks) - places[None]
    return {name: value / len(ranks) for name, value in hits.items()}
