from __future__ import annotations

from mllm.metrics.okvqa_stems import STEMS


def test_a_stem_begins_as_its_word_does() -> None:
    for word, stem in STEMS.items():
        assert word[:3] == stem[:3]
