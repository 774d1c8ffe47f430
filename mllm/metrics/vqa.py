"""Short answers in words: agreement with annotators by the public rules, and equality after VQA's normalisation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import fsum
from typing import Literal

from mllm.answers import short_answer
from mllm.errors import DataError
from mllm.metrics.base import MeanHeadline, require_texts, sort_by_index
from mllm.metrics.contractions import CONTRACTIONS
from mllm.metrics.okvqa_stems import STEMS
from mllm.registry import METRICS
from mllm.types import Prediction

ARTICLES = ("a", "an", "the")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_WORDS)}}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
MAX_PERIODS = 32
"""The public code passes `re.UNICODE`, which is 32, where `re.sub` takes the number of replacements."""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")

_AFTER_FLAMINGO = re.compile("Question|Answer|Short|, ")

Rule = Literal["vqa", "textvqa", "aokvqa", "openflamingo", "openflamingo_okvqa", "openflamingo_vizwiz"]
Reading = Literal["answer", "text"]
AnswerRule = Literal["vqa", "gqa"]


def consensus(answer: str, references: Sequence[str]) -> float:
    """VQA's accuracy of an answer, in [0, 1]: VQAv2, OK-VQA, VizWiz.

    For each annotator min(1, others with this answer / 3), then the mean over the annotators, usually ten. Where they
    differ, all texts are normalised first; where all agree, the texts are compared as they stand, case and signs too.

    Source: Antol et al. 2015; vqaEvaluation/vqaEval.py of GT-Vision-Lab/VQA, at its last commit.
    """
    answer = _spaced(answer)
    given = [_spaced(reference) for reference in references]
    if len(set(given)) > 1:
        answer = normalised_answer(answer)
        given = [normalised_answer(reference) for reference in given]
    return _leave_one_out(answer, given)


def textvqa_consensus(answer: str, references: Sequence[str]) -> float:
    """The same for TextVQA, whose code always normalises, and first lower-cases and drops commas and question marks.

    Source: Singh et al. 2019; EvalAIAnswerProcessor of facebookresearch/mmf, m4c_evaluator.py of haotian-liu/LLaVA.
    """

    def processed(text: str) -> str:
        words = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
        return normalised_answer(words)

    return _leave_one_out(processed(answer), [processed(reference) for reference in references])


def exact_consensus(answer: str, references: Sequence[str]) -> float:
    """A-OKVQA's accuracy of a direct answer: min(1, annotators with exactly this text / 3).

    Source: Schwenk et al. 2022; evaluation/eval_predictions.py of allenai/aokvqa.
    """
    return min(1.0, sum(reference == answer for reference in references) / 3)


def flamingo_consensus(answer: str, references: Sequence[str]) -> float:
    """VQA's accuracy as OpenFlamingo has it: what follows `Question`, `Answer`, `Short` or a comma is cut off.

    All texts are normalised, whether or not annotators differ.

    Source: eval/vqa_metric.py of open_flamingo 2.0.1.
    """
    cut = _AFTER_FLAMINGO.split(answer, maxsplit=1)[0]
    return _leave_one_out(normalised_answer(cut), [normalised_answer(reference) for reference in references])


def flamingo_okvqa_consensus(answer: str, references: Sequence[str]) -> float:
    """The same for OK-VQA, whose public answers are stemmed, as are here the words of OpenFlamingo's table.

    OpenFlamingo also brings other verbs in -ing and plural nouns to that form, by WordNet and a tagger, not done here:
    such answers count as wrong where the public ones are stemmed.

    Source: eval/ok_vqa_utils.py of open_flamingo 2.0.1.
    """
    cut = _AFTER_FLAMINGO.split(answer, maxsplit=1)[0]
    return flamingo_consensus(" ".join(STEMS.get(word, word) for word in cut.split()), references)


def flamingo_vizwiz_consensus(answer: str, references: Sequence[str]) -> float:
    """The same for VizWiz, whose answers have no numbers, by which OpenFlamingo would tell those of annotators apart:
    with an annotator's own answer all equal ones are left out, so that the answer of all ten scores 0.

    Source: eval/vqa_metric.py of open_flamingo 2.0.1.
    """
    answer = normalised_answer(_AFTER_FLAMINGO.split(answer, maxsplit=1)[0])
    given = [normalised_answer(reference) for reference in references]
    supported = min(1.0, given.count(answer) / 3)
    return fsum(supported for other in given if other != answer) / len(given)


RULES: Mapping[str, Callable[[str, Sequence[str]], float]] = {
    "vqa": consensus,
    "textvqa": textvqa_consensus,
    "aokvqa": exact_consensus,
    "openflamingo": flamingo_consensus,
    "openflamingo_okvqa": flamingo_okvqa_consensus,
    "openflamingo_vizwiz": flamingo_vizwiz_consensus,
}


@METRICS.register_module()
class VQAAccuracy(MeanHeadline):
    """Accuracy by the agreement of annotators: the scores of the public evaluation codes.

    Args:
        rule: "vqa" (VQAv2, OK-VQA, VizWiz), "textvqa", "aokvqa" (its direct answers), or "openflamingo",
            "openflamingo_okvqa" and "openflamingo_vizwiz", that harness's variants: see the functions of `RULES`.
        reading: "answer" scores the answer read from the text (`mllm.answers`); a bare answer, with nothing around it
            but a final full stop, is scored as it stands. "text" scores every text as it stands, as a server would. By
            default "text" for OpenFlamingo's rules, which cut the text themselves, else "answer".

    Scores:
        vqa_accuracy: mean over ALL predictions, in [0, 1].
        count: predictions scored.
        failure_none: answers without a word.
    """

    headline = "vqa_accuracy"
    meanings: Mapping[str, str] = {
        "vqa_accuracy": "mean share of the annotators' answers that support the given one, three being enough",
        "failure_none": "answers without a word",
    }

    def __init__(self, *, rule: Rule = "vqa", reading: Reading | None = None) -> None:
        if reading is None:
            reading = "text" if rule.startswith("openflamingo") else "answer"
        self.rule = RULES[rule]
        self.reading: Reading = reading
        self.depth = "short_answer" if reading == "answer" else reading

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth with fewer than two texts.
        """
        predictions = sort_by_index(predictions)
        return {
            "vqa_accuracy": fsum(map(self.value, predictions)) / len(predictions),
            "count": len(predictions),
            "failure_none": sum(not short_answer(prediction.text) for prediction in predictions),
        }

    def value(self, prediction: Prediction) -> float:
        if len(prediction.truth.texts) < 2:
            raise DataError(
                where=prediction.key,
                field="truth.texts",
                expected="the answers of at least two people",
                found=str(len(prediction.truth.texts)),
                message="AnswerAccuracy compares with one",
            )
        return self.rule(self._read(prediction.text), prediction.truth.texts)

    def _read(self, text: str) -> str:
        answer = short_answer(text)
        is_bare = answer == text.strip().removesuffix(".").rstrip()
        # the public rules decide what a full stop is worth
        return text if is_bare or self.reading == "text" else answer


@METRICS.register_module()
class AnswerAccuracy(MeanHeadline):
    """Share of answers equal to a reference: GQA, CLEVR, PointQA, VQA-E and VQA-X.

    Args:
        rule: "vqa" reads the answer from the text (`mllm.answers`) and compares after the normalisation of VQA. "gqa"
            compares as LLaVA scores GQA: the text in lower case, without final full stops, must be the reference.

    Source: of "gqa" scripts/convert_gqa_for_eval.py of haotian-liu/LLaVA, and GQA's own eval.py.

    Scores: accuracy in [0, 1] over ALL predictions, count, failure_none (answers without a word).
    """

    headline = "accuracy"
    meanings: Mapping[str, str] = {
        "accuracy": "share of all answers equal to a reference, apart from case, articles, punctuation, number words",
        "failure_none": "answers without a word",
    }

    def __init__(self, *, rule: AnswerRule = "vqa") -> None:
        self.rule = rule
        self.depth = "short_answer"
        if rule == "gqa":
            self.depth = rule
            meaning = "share of all texts that are the reference in lower case, apart from final full stops"
            self.meanings = {**self.meanings, "accuracy": meaning}

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth without a text.
        """
        predictions = require_texts(predictions)
        right = fsum(map(self.value, predictions))
        failures = sum(not short_answer(prediction.text) for prediction in predictions)
        return {"accuracy": right / len(predictions), "count": len(predictions), "failure_none": failures}

    def value(self, prediction: Prediction) -> float:
        if self.rule == "gqa":
            return float(prediction.text.rstrip(".").lower() in prediction.truth.texts)
        answer = short_answer(prediction.text)
        return float(any(same_answer(answer, reference) for reference in prediction.truth.texts))


def same_answer(answer: str, reference: str) -> bool:
    """Whether two texts are equal after normalisation; of signs alone, such as `+` and `-`, nothing is dropped."""
    words = normalised_answer(answer), normalised_answer(reference)
    return words[0] == words[1] if any(words) else _spaced(answer).lower() == _spaced(reference).lower()


def normalised_answer(text: str) -> str:
    """A text without punctuation, articles and number words, with the apostrophes of contractions."""
    words = [NUMBERS.get(word, word) for word in without_punctuation(_spaced(text)).lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def without_punctuation(text: str) -> str:
    """A text whose signs are dropped where one stands beside a space anywhere in it, else are spaces.

    All are dropped where the text has a number with a comma. Of the periods that no digit follows the first 32 go.
    """
    kept = text
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    for sign in PUNCTUATION:
        dropped = in_number or f"{sign} " in text or f" {sign}" in text
        kept = kept.replace(sign, "" if dropped else " ")
    return _PERIOD.sub("", kept, count=MAX_PERIODS)


def _leave_one_out(answer: str, given: Sequence[str]) -> float:
    matches = Counter(given)[answer]
    scores = [min(1.0, (matches - (other == answer)) / 3) for other in given]
    return fsum(scores) / len(scores)


def _spaced(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
