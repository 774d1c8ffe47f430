from __future__ import annotations

import torch
from torch import nn

from mllm.pipeline.reference import Reference


def test_in_place_gives_the_weights_as_they_were_and_then_those_of_now() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    reference = Reference(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0 / 3
    now = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(2):
        with reference.in_place(model):
            assert torch.equal(model[1].weight, before["1.weight"])
            assert torch.equal(model[0].weight, now["0.weight"])
        assert all(torch.equal(tensor, now[name]) for name, tensor in model.state_dict().items())
