from __future__ import annotations

import torch
from torch import nn

from mllm.compat import torch as compat_torch


def test_storage_id_is_shared_by_views_and_known_of_fake_tensors() -> None:
    with compat_torch.FakeTensorMode():
        whole, other = torch.zeros(4), torch.zeros(4)
    assert isinstance(whole, compat_torch.FakeTensor)
    assert compat_torch.storage_id(whole) == compat_torch.storage_id(whole[1:])
    assert compat_torch.storage_id(whole) != compat_torch.storage_id(other)


def test_set_last_rates_is_what_get_last_lr_gives() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    compat_torch.set_last_rates(scheduler, [0.5])
    assert scheduler.get_last_lr() == [0.5]


def test_keep_out_of_ddp_marks_parameters_as_ddp_reads_them() -> None:
    model = nn.Linear(1, 1)
    compat_torch.keep_out_of_ddp(model, ["bias"])
    assert model._ddp_params_and_buffers_to_ignore == ["bias"]
