"""Multiple choice: which of the options was chosen?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from mllm.errors import DataError
from mllm.metrics.answers import short_answer
from mllm.metrics.base import by_index
from mllm.metrics.vqa import normalised
from mllm.registry import METRICS
from mllm.types import Prediction

_LETTER = re.compile(r"(?:option |choice )?\(?([A-Z])\)?(?=[.:,;)]|$)", re.IGNORECASE)
_BRACKETED = re.compile(r"\(([A-Z])\)")


@METRICS.register_module()
class ChoiceAccuracy:
    """Share of questions answered with the right option.

    An answer may be a letter (`B`, `(B)`, `B. a fork`, `option B`) or the words of an option, apart from case, articles
    and punctuation; behind `the answer is` or `Answer:`, or alone. The words come first: where `a` is an option, the
    answer `a` means it.

    Scores:
        accuracy: over ALL predictions, readable or not.
        count: predictions scored.
        failure_none: answers with neither a letter nor the words of an option.
        failure_out_of_range: a letter behind which there is no option.
        chance: the accuracy of guessing, mean of 1 / options.
    """

    headline = "accuracy"
    meanings: Mapping[str, str] = {
        "accuracy": "share of all questions answered with the right option",
        "failure_none": "answers that name no option",
        "failure_out_of_range": "a letter that no option has",
        "chance": "accuracy of guessing",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth without options and the letter of one of them.
        """
        predictions = by_index(predictions)
        right = 0
        failures: Counter[str] = Counter()
        for prediction in predictions:
            letters = ascii_uppercase[: len(prediction.truth.options)]
            if not letters or len(prediction.truth.texts) != 1 or prediction.truth.texts[0] not in tuple(letters):
                raise DataError(
                    f"{prediction.key}: expected options and the letter of one of them as the truth, found "
                    f"{list(prediction.truth.options)} and {list(prediction.truth.texts)}"
                )
            letter = chosen_letter(prediction.text, prediction.truth.options)
            if letter is None:
                failures["none"] += 1
            elif letter not in letters:
                failures["out_of_range"] += 1
            right += letter == prediction.truth.texts[0]
        return {
            "accuracy": right / len(predictions),
            "count": len(predictions),
            "failure_none": failures["none"],
            "failure_out_of_range": failures["out_of_range"],
            "chance": sum(1 / len(prediction.truth.options) for prediction in predictions) / len(predictions),
        }


def chosen_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter that an answer means; None where it means none, or two."""
    answer = short_answer(text)
    words = normalised(answer)
    meant = [letter for letter, option in zip(ascii_uppercase, options, strict=False) if normalised(option) == words]
    if words and len(meant) == 1:
        return meant[0]
    start = _LETTER.match(answer)
    if start is not None:
        return start[1].upper()
    bracketed = set(_BRACKETED.findall(answer))
    return bracketed.pop() if len(bracketed) == 1 else None
