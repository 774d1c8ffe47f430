from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn

from mllm.compat import accelerate


def test_has_prepared_model_and_forget_last_optimizer() -> None:
    accelerator = Accelerator(cpu=True)
    assert not accelerate.has_prepared_model(accelerator)
    model = nn.Linear(1, 1)
    accelerator.prepare(model, torch.optim.SGD(model.parameters()))
    assert accelerate.has_prepared_model(accelerator)
    accelerate.forget_last_optimizer(accelerator)
    assert accelerator._optimizers == []
