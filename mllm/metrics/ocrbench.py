"""OCRBench: is the text of the image in the answer?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mllm.answers import stated
from mllm.errors import DataError
from mllm.fields import show
from mllm.metrics.base import MeanHeadline, require_references
from mllm.registry import METRICS
from mllm.types import Prediction

GROUPS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "Regular Text Recognition",
            "Irregular Text Recognition",
            "Artistic Text Recognition",
            "Handwriting Recognition",
            "Digit String Recognition",
            "Non-Semantic Text Recognition",
        ),
        "recognition",
    ),
    "Scene Text-centric VQA": "scene",
    "Doc-oriented VQA": "document",
    "Key Information Extraction": "key_information",
    "Handwritten Mathematical Expression Recognition": "formula",
}
"""The groups that the benchmark reports, by the `type` of a question."""
FORMULAS = "HME100k"
"""The dataset whose answers are formulas: spaces do not count in them, and case does."""


@METRICS.register_module()
class OCRBench(MeanHeadline):
    """Share of answers that contain a reference, `truth.texts`, and how many do in each of the five groups.

    Case and line breaks do not matter; in formulas spaces do not, and case does. Thinking is left out
    (`mllm.answers.stated`). The `group` of an item holds the benchmark's `type` and `dataset`, as the dataset OCRBench
    gives them; items without a type count in the sum alone.

    Scores:
        accuracy: hits / ALL predictions, in [0, 1].
        hits: answers with a reference in them: the score that is published, out of 1,000.
        hits_recognition, hits_scene, hits_document, hits_key_information, hits_formula: those of each group, of those
            that there are.
        count: predictions scored.
        failure_none: answers without a word.

    Source: Liu et al. 2023, On the Hidden Mystery of OCR in Large Multimodal Models, arXiv 2305.07895;
    OCRBench/example.py of Yuliang-Liu/MultimodalOCR.
    """

    headline = "accuracy"
    meanings: Mapping[str, str] = {
        "accuracy": "share of all answers with a reference in them",
        "hits": "answers with a reference in them; of the whole benchmark 1,000",
        "hits_recognition": "of text recognition, 300",
        "hits_scene": "of questions about text in scenes, 200",
        "hits_document": "of questions about documents, 200",
        "hits_key_information": "of key information extraction, 200",
        "hits_formula": "of handwritten formulas, 100",
        "failure_none": "answers without a word",
    }
    depth = "stated"

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, a truth without texts or with a blank one, or a type that the
                benchmark does not have.
        """
        predictions = require_references(predictions)
        hits: Counter[str] = Counter()
        for prediction in predictions:
            kind = prediction.group.get("type")
            if kind is not None and kind not in GROUPS:
                expected = f"one of {', '.join(map(repr, GROUPS))}"
                raise DataError(where=prediction.key, field="group.type", expected=expected, found=show(kind))
            if kind is not None:
                hits[GROUPS[str(kind)]] += int(self.value(prediction))
        total = int(sum(map(self.value, predictions)))
        return {
            "accuracy": total / len(predictions),
            "hits": total,
            **{f"hits_{group}": hits[group] for group in dict.fromkeys(GROUPS.values()) if group in hits},
            "count": len(predictions),
            "failure_none": sum(not stated(prediction.text).strip() for prediction in predictions),
        }

    def value(self, prediction: Prediction) -> float:
        is_formula = prediction.group.get("dataset") == FORMULAS
        said = _comparable(stated(prediction.text), is_formula)
        return float(any(_comparable(text, is_formula) in said for text in prediction.truth.texts))


def _comparable(text: str, is_formula: bool) -> str:
    text = text.strip().replace("\n", " ")
    return text.replace(" ", "") if is_formula else text.lower()
