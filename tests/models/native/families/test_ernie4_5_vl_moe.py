"""ERNIE 4.5 VL: its experts for images read what stands around an image, too."""

from __future__ import annotations

import pytest

from tests.models.native.parity import assert_ranks_stay_in_step, stand_in
from tools.native.check import Checked


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    return stand_in("ernie4_5_vl_moe", tmp_path_factory)


def test_prompt_and_logits_are_the_models_own(checked: Checked) -> None:
    checked.same_logits(*checked.built, checked.items[0])


def test_experts_for_images_have_a_gradient_where_one_rank_has_no_image(checked: Checked) -> None:
    assert_ranks_stay_in_step(checked)
