"""ERNIE 4.5 VL: its experts for images read what stands around an image, too."""

from __future__ import annotations

from pathlib import Path

from tools.native.check import Checked
from tools.native.stand_ins import save_stand_in


def test_prompt_and_logits_are_the_models_own(tmp_path: Path) -> None:
    found = Checked(save_stand_in("ernie4_5_vl_moe", tmp_path))
    found.same_logits(*found.built, found.items[0])
