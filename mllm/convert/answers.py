"""Answers of several people to one question, in the fields of VQAv2's annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def vqa_annotation(answers: Sequence[str]) -> dict[str, Any]:
    """What the dataset VQAv2 reads: all answers, and the one that most people gave, of equally frequent ones the
    first."""
    given = [{"answer": answer} for answer in answers]
    return {"multiple_choice_answer": Counter(answers).most_common(1)[0][0], "answers": given}
