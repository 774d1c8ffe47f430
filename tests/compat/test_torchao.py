from __future__ import annotations

import pytest

from mllm.compat import torchao


def test_schemes_are_config_classes_by_name() -> None:
    pytest.importorskip("torchao")
    assert "Int8WeightOnlyConfig" in torchao.schemes()
