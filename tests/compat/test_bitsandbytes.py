from __future__ import annotations

import pytest
import torch
from torch import nn

from mllm.compat import bitsandbytes


def test_keep_layout_switches_off_what_some_layers_have() -> None:
    library = pytest.importorskip("bitsandbytes")
    layer = library.nn.Linear4bit(64, 64)
    assert hasattr(layer, "support_avx512bf16_for_cpu"), "nothing to switch off any more"
    layer.support_avx512bf16_for_cpu = True
    bitsandbytes.keep_layout(nn.Sequential(layer, nn.Linear(1, 1)))
    assert layer.support_avx512bf16_for_cpu is False
    assert type(layer.weight).__name__ == bitsandbytes.PARAMS_4BIT


def test_make_states_without_storage() -> None:
    library = pytest.importorskip("bitsandbytes")
    shards = [nn.Parameter(torch.empty(8192, device="meta")) for _ in range(2)]
    optimizer = library.optim.AdamW8bit(shards)
    assert bitsandbytes.makes_states(optimizer)
    assert not bitsandbytes.makes_states(torch.optim.SGD(shards))
    bitsandbytes.make_states(optimizer, shards, [True, False])
    kinds = [optimizer.state[shard]["state1"].dtype for shard in shards]
    assert kinds == [torch.float32, torch.uint8]
    assert (0, 0) not in optimizer.mng.index2config, "all optimizers of the process share it"
