"""Multiple choice: which of the options was chosen?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from string import ascii_uppercase
from typing import Literal
from unicodedata import normalize

from mllm.answers import stated, stated_answers, whole_answer
from mllm.errors import DataError
from mllm.fields import show
from mllm.metrics.base import MeanHeadline, sort_by_index
from mllm.metrics.vqa import normalised_answer
from mllm.registry import METRICS
from mllm.types import Prediction

_LETTER = re.compile(
    r"(?:(?:option|choice) )?[(\[{\u3010]?([A-Z])"
    r"(?=[)\]}\u3011]|[.:,;!\n]|\s+(?:[-\u2013\u2014]|because|since)\s|$"
    r"|\s+is (?:the )?(?:(?:correct|right|best)(?: (?:answer|choice|one|option))?|answer)(?:[.,!\n]|$))",
    re.IGNORECASE,
)
_BEFORE_WORDS = re.compile(r"([A-Z])\W+(.+)", re.DOTALL)
_SEVERAL = re.compile(r"[(\[{]?[A-Z][)\]}]?(?:(?:\s*[,/&]|\s+and|\s+or)+\s*[(\[{]?[A-Z][)\]}]?)+", re.IGNORECASE)
"""More than one letter, which chooses none: `A, B`, `(A) and (C)`."""
_BRACKETED = re.compile(r"(?<!not )(?<!n't )\(([A-Z])\)")
_EMPHASISED_END = re.compile(r"(?<![*_`\w])([*_]{1,2}|`)(?=\S)([^*_`\n]+)\1[.!]?$")
"""What is set in bold, italics or backticks at the end of a text: `... so **B. a fork**`"""
_END = re.compile(r"(?<![A-Za-z\d'\u2019\u00b0])(?<![\d\u00b0] )([A-HJ-Z])[.!]?$")
"""A capital by itself at the end of a text, but for the word `I`, and for a unit, as in `30 C`: `So, C.`"""
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|except)\b|n['\u2019]t\b", re.IGNORECASE)
_CLAUSE_ENDS = re.compile(r"[.,:;!?\n]")
_CAPITAL = re.compile(r"(?<![A-Za-z\d])[A-HJ-Z](?![A-Za-z\d])")
"""A capital by itself, but for the word `I`."""
_SAMENESS: tuple[Callable[[str], str], ...] = (
    lambda text: " ".join(text.split()),
    lambda text: " ".join(text.casefold().split()),
    normalised_answer,
)
"""What texts are compared by, the strictest first: `Aa` and `aa` may both be options."""
_LLAVA_LETTERS = ("A", "B", "C", "D", "E")
_LLAVA_ANSWER = re.compile(r"The answer is ([A-Z]).")
Reading = Literal["options", "llava", "text"]


@METRICS.register_module()
class ChoiceAccuracy(MeanHeadline):
    """Share of questions answered with the right option.

    An answer may be a letter (`B`, `(B)`, `B. a fork`, `option B`) or the words of an option, apart from case, articles
    and punctuation. The words come first: where `a` is an option, the answer `a` means it. A list of letters
    (`A, B`) names none. In a longer text the letter at its end counts where no other letter stands by itself and
    nothing denies it (`So, C.`, `Both look alike: **D**`). The answer is read from the text by `mllm.answers`; of
    several the last that names an option counts. Where the options were ranked (`data_args.ranking`), it is one of them
    as it stands. Options with the same text are one.

    Args:
        reading: "options" as above. "llava" as LLaVA scores ScienceQA: the text is a letter from A to E, begins
            with one as in `B. `, or says `The answer is B.` exactly once. "text" as A-OKVQA is scored: the text is that
            of the right option, to the letter. A text that these do not read is wrong.

    Scores:
        accuracy: over ALL predictions, readable or not.
        count: predictions scored.
        failure_none: answers with neither a letter nor the words of an option.
        failure_out_of_range: a letter behind which there is no option.
        chance: the accuracy of guessing, mean of right options / options.

    Source: of "llava" llava/eval/eval_science_qa.py of haotian-liu/LLaVA; of "text" evaluation/eval_predictions.py of
    allenai/aokvqa.
    """

    headline = "accuracy"
    meanings: Mapping[str, str] = {
        "accuracy": "share of all questions answered with the right option",
        "failure_none": "answers that name no option",
        "failure_out_of_range": "a letter that no option has",
        "chance": "accuracy of guessing",
    }

    def __init__(self, *, reading: Reading = "options") -> None:
        self.letter = READINGS[reading]
        self.depth = "short_answer" if reading == "options" else reading

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth without options and the letter of one of them.
        """
        predictions = sort_by_index(predictions)
        right = 0
        failures: Counter[str] = Counter()
        chances: list[float] = []
        for prediction in predictions:
            chances.append(chance_of(prediction))
            letter = self._chosen(prediction)
            if letter is None:
                failures["none"] += 1
            elif letter not in ascii_uppercase[: len(prediction.truth.options)]:
                failures["out_of_range"] += 1
            right += letter in _correct_letters(prediction)
        return {
            "accuracy": right / len(predictions),
            "count": len(predictions),
            "failure_none": failures["none"],
            "failure_out_of_range": failures["out_of_range"],
            "chance": sum(chances) / len(chances),
        }

    def value(self, prediction: Prediction) -> float:
        return float(self._chosen(prediction) in _correct_letters(prediction))

    def _chosen(self, prediction: Prediction) -> str | None:
        options = prediction.truth.options
        ranked = prediction.candidate_scores and set(prediction.candidate_scores) <= set(options)
        return (letter_of_text if ranked else self.letter)(prediction.text, options)


def chosen_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a text chooses, which may be one that no option has; None where it names none."""
    given = stated_answers(text)
    found = [_named(answer, options) for answer in given]
    found.append(_letter(whole_answer(text)))  # `B. The answer is obvious.`
    letters = [letter for letter in found if letter is not None]
    if not letters:
        return _last_letter(text, options)
    known = (letter for letter in letters if letter in ascii_uppercase[: len(options)])
    return next(known, letters[0])


def llava_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter that LLaVA's script reads; None where it says `FAILED`."""
    if text in _LLAVA_LETTERS:
        return text
    if text[:1] in _LLAVA_LETTERS and text[1:3] == ". ":
        return text[0]
    found = _LLAVA_ANSWER.findall(text)
    return found[0] if len(found) == 1 and found[0] in _LLAVA_LETTERS else None


def letter_of_text(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that the text is, apart from outer spaces."""
    return next((ascii_uppercase[number] for number, option in enumerate(options) if option == text.strip()), None)


READINGS: Mapping[str, Callable[[str, Sequence[str]], str | None]] = {
    "options": chosen_letter,
    "llava": llava_letter,
    "text": letter_of_text,
}


def _named(answer: str, options: Sequence[str]) -> str | None:
    """The letter of the option that one answer names, by its words or by itself."""
    for same in _SAMENESS:
        words = same(answer)
        meant = [number for number, option in enumerate(options) if words and same(option) == words]
        if meant:
            alike = {_SAMENESS[0](options[number]) for number in meant}
            if len(alike) == 1:
                return ascii_uppercase[meant[0]]
            break
    if (letter := _letter(answer)) is not None:
        return letter
    both = _BEFORE_WORDS.fullmatch(answer)  # `B (a fork)`
    number = ascii_uppercase.index(both[1]) if both else len(options)
    if both and number < len(options) and normalised_answer(both[2]) == normalised_answer(options[number]):
        return both[1]
    bracketed = set(_BRACKETED.findall(answer))
    return bracketed.pop() if len(bracketed) == 1 else None


def _letter(answer: str) -> str | None:
    """The letter with which an answer begins; None where it lists several."""
    start = None if _SEVERAL.fullmatch(answer) else _LETTER.match(normalize("NFKC", answer))
    return None if start is None else start[1].upper()


def _last_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter that a text ends with, the only one in it; None where an option has the letter as a word, or where
    the clause denies it.

    So `Both look alike: D` is D, `It is not D` is none, and `in solution B` is none where `Solution B` is an option.

    Source: VLMEvalKit's can_infer_option, which takes the one letter of an option in a text, at any place near its end.
    """
    said, plain = (normalize("NFKC", words) for words in (stated(text).strip(), whole_answer(text)))
    emphasised, end = _EMPHASISED_END.search(said), _END.search(plain)
    letter = _letter(emphasised[2]) if emphasised else None
    before = said[: emphasised.start()] if emphasised else ""
    if letter is None and end is not None:
        letter, before = end[1], plain[: end.start()]
    if letter is None or set(_CAPITAL.findall(said)) != {letter}:
        return None
    if _NEGATION.search(_CLAUSE_ENDS.split(before)[-1]):
        return None
    return None if any(letter in _CAPITAL.findall(option.removeprefix("A ")) for option in options) else letter


def chance_of(prediction: Prediction) -> float:
    """The share of an item's options that are right: what guessing gets."""
    return len(_correct_letters(prediction)) / len(prediction.truth.options)


def _correct_letters(prediction: Prediction) -> set[str]:
    """The letters of all options whose text is that of the right one."""
    options, texts = prediction.truth.options, prediction.truth.texts
    if len(options) > len(ascii_uppercase):
        raise DataError(where=prediction.key, field="truth.options", expected="at most 26", found=str(len(options)))
    letters = ascii_uppercase[: len(options)]
    if not letters or len(texts) != 1 or texts[0] not in tuple(letters):
        raise DataError(
            where=prediction.key,
            field="truth",
            expected="options and the letter of one of them",
            found=f"{show(list(options))} and {show(list(texts))}",
        )
    same = _SAMENESS[0]
    right = same(options[letters.index(texts[0])])
    return {letter for letter, option in zip(letters, options, strict=True) if same(option) == right}
