"""Gemma 4: in packed rows the tokens of an image see one another where the model lets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mllm.errors import ModelError
from tools.native.check import Checked
from tools.native.kinds import KINDS
from tools.native.stand_ins import save_stand_in


def checked(folder: Path, monkeypatch: pytest.MonkeyPatch, **text: Any) -> Checked:
    settings = KINDS["gemma4"].config
    monkeypatch.setitem(settings, "text_config", {"sliding_window": 80, **text})  # pyright: ignore[reportArgumentType]
    return Checked(save_stand_in("gemma4", folder))


@pytest.mark.parametrize("sees", [None, "vision"])
def test_packed_rows_learn_what_separate_ones_do(
    sees: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checked(tmp_path, monkeypatch, use_bidirectional_attention=sees)
    for packing in ("rows", "shared"):
        found.learns_the_same(packing=packing)
    if sees:
        model, _ = found.built
        monkeypatch.setattr(model.text_model.config, "sliding_window", 69)
        with pytest.raises(ModelError, match="max_soft_tokens: expected at most sliding_window, 69, found 70"):
            found.learns_the_same(packing="rows")
