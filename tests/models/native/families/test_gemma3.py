"""Gemma 3: the tokens of an image see one another in packed rows too."""

from __future__ import annotations

import pytest

from mllm.errors import ModelError
from tools.native.check import Checked
from tools.native.stand_ins import save_stand_in


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    return Checked(save_stand_in("gemma3", tmp_path_factory.mktemp("gemma3")))


@pytest.mark.parametrize("packing", ["rows", "shared"])
def test_packed_rows_learn_what_separate_ones_do(checked: Checked, packing: str) -> None:
    checked.learns_the_same(packing=packing)


def test_an_image_longer_than_the_window_is_not_packed(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = checked.built
    monkeypatch.setattr(model.text_model.config, "sliding_window", 15)
    with pytest.raises(ModelError, match="mm_tokens_per_image: expected at most sliding_window, 15, found 16"):
        checked.learns_the_same(packing="rows")
