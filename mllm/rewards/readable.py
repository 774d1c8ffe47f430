"""Whether an answer has the form that was asked for, whatever it says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mllm.answers import stated
from mllm.metrics.failures import unreadable_reason
from mllm.registry import REWARDS
from mllm.types import Prediction

TAGGED = re.compile(r"\s*<think>(?P<thought>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)
ANY_TAG = re.compile(r"</?(?:think|answer)>")


@REWARDS.register_module()
@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    """1 where the answer can be read and holds what kind of thing was asked for, else 0.

    Of boxes, points and time spans that is at least one that can be read, and none that cannot; of a text, a word that
    is no tag.
    Where there is nothing to find, an answer without a region is readable, too.

    Attributes:
        marked: regions must stand as the model's codec writes them, not as bare numbers.
        thinking: the whole text must be `<think>...</think><answer>...</answer>`, each with words in it, once. Tags
            alone are no form: what stands in them must be readable.
    """

    marked: bool = True
    thinking: bool = False

    def __call__(self, prediction: Prediction) -> float:
        return float(self._is_tagged(prediction.text) and self._is_readable(prediction))

    def _is_tagged(self, text: str) -> bool:
        if not self.thinking:
            return True
        found = TAGGED.fullmatch(text)
        return found is not None and len(ANY_TAG.findall(text)) == 4 and all(part.strip() for part in found.groups())

    def _is_readable(self, prediction: Prediction) -> bool:
        truth = prediction.truth
        words = bool(ANY_TAG.sub("", stated(prediction.text)).strip())
        if not (truth.boxes or truth.points or truth.time_spans or truth.no_target):
            return words
        missing = ("none",) if truth.no_target else ()
        as_written = not self.marked or "bare" not in prediction.read_by
        return words and as_written and unreadable_reason(prediction) in (None, *missing)
