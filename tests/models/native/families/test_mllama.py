"""Llama 3.2 Vision: images beside the rows whose text attends to them."""

from __future__ import annotations

import pytest

from tests.models.native.parity import (
    assert_it_computes_as_its_own_class,
    assert_its_self_check_passes,
    assert_ranks_stay_in_step,
    stand_in,
)
from tools.native.check import Checked


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    return stand_in("mllama", tmp_path_factory)


def test_logits_and_answers_are_those_of_its_own_class(checked: Checked) -> None:
    assert_it_computes_as_its_own_class(checked)


def test_its_self_check_passes(checked: Checked) -> None:
    assert_its_self_check_passes(checked)


def test_ranks_stay_in_step_where_one_has_no_image(checked: Checked) -> None:
    assert_ranks_stay_in_step(checked)
