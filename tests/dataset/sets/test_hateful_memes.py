from __future__ import annotations

from collections.abc import Callable

import pytest

from mllm.errors import DataError
from mllm.registry import DATASETS

MEME = {"id": 42953, "img": "img/42953.png", "label": 0, "text": "its their character not their color"}
POOL = "config/questions/eval/openflamingo_hateful_memes.json"


def test_the_words_on_the_image_are_in_the_question(jsonl: Callable[..., str]) -> None:
    hidden = {name: value for name, value in MEME.items() if name != "label"}
    lost = {name: value for name, value in MEME.items() if name != "img"}
    file = jsonl(MEME, {**MEME, "label": 1}, hidden, {**MEME, "label": "no"}, lost)
    memes = DATASETS.make(dict(type="HatefulMemes", filename=file, image_folder="memes", questions=POOL))
    assert memes[0].turns[0].text == (
        "<image>is an image with: 'its their character not their color' written on it. Is it hateful? Answer:"
    )
    assert str(memes[0].images[0]) == "FileImage(path='memes/img/42953.png')"
    assert [memes[index].turns[1].text for index in range(2)] == ["no", "yes"]
    assert memes[1].truth.texts == ("yes",)
    assert memes[1].truth.options == ("yes", "no")
    assert len(memes[2].turns) == 1
    with pytest.raises(DataError, match=r"lines\.jsonl:4: label: expected 0 or 1, found str 'no'"):
        memes[3]
    with pytest.raises(DataError, match=r"lines\.jsonl:5: img: expected"):
        memes[4]
