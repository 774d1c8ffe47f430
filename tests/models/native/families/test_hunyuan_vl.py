"""HunyuanVL: positions of each row by itself."""

from __future__ import annotations

import pytest

from tests.models.native.parity import assert_it_computes_as_its_own_class, assert_its_self_check_passes, stand_in
from tools.native.check import Checked


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    return stand_in("hunyuan_vl", tmp_path_factory)


def test_logits_and_answers_are_those_of_its_own_class(checked: Checked) -> None:
    assert_it_computes_as_its_own_class(checked)


def test_its_self_check_passes(checked: Checked) -> None:
    assert_its_self_check_passes(checked)
