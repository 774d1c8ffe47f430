from __future__ import annotations

import pytest
from torch import nn

from mllm.compat import hqq


def test_quantizer_makes_layers_of_the_known_class() -> None:
    pytest.importorskip("hqq")
    layer = hqq.Quantizer(bits=4, group_size=8, axis=1)(nn.Linear(8, 8), "cpu")
    assert type(layer).__name__ == hqq.LINEAR
    with pytest.raises(ValueError, match=r"."):
        hqq.Quantizer(bits=5, group_size=8, axis=1)
