from __future__ import annotations

from mllm.metrics.contractions import CONTRACTIONS
from mllm.metrics.vqa import normalised_answer


def test_a_contraction_has_the_letters_of_its_word() -> None:
    for word, contraction in CONTRACTIONS.items():
        assert word.replace("'", "") == contraction.replace("'", "")


def test_a_text_gets_the_apostrophes_of_the_table() -> None:
    assert normalised_answer("He couldnt've, and she doesnt") == "he couldn't've and she doesn't"
