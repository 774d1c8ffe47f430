from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

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


class Code:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def sharded(folder: Path, **more: Any) -> Path:
    """A checkpoint of FSDP, shards in a folder of their own."""
    groups = [{"lr": 0.1, "betas": (0.9, 0.99), "foreach": None, "fused": True}]
    state = {"weight": torch.ones(3, dtype=torch.bfloat16), "state": {"step": torch.tensor(1.0)}, "groups": groups}
    dcp.save({**state, **more}, checkpoint_id=folder / "optimizer_0", no_dist=True)
    return folder / "optimizer_0"


def read(folder: Path, **more: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"weight": torch.zeros(3, dtype=torch.bfloat16), "groups": [{"lr": 0.0, "fused": None}]}
    with compat_torch.only_data(folder):
        dcp.load({**state, **more}, checkpoint_id=folder / "optimizer_0", no_dist=True)
    return state


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_only_data_reads_what_pytorch_writes(tmp_path: Path) -> None:
    sharded(tmp_path)
    found = read(tmp_path)
    assert found["weight"].tolist() == [1, 1, 1]
    assert compat_torch.FORCED not in compat_torch.os.environ


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("where", ["metadata", "shard"])
def test_only_data_runs_no_code(where: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    if where == "metadata":
        (sharded(tmp_path) / compat_torch.METADATA).write_bytes(pickle.dumps(Code(ran)))
        with pytest.raises(
            pickle.UnpicklingError, match=r"\.metadata names pathlib\S*\.Path.*, which no checkpoint needs"
        ):
            read(tmp_path)
    else:
        sharded(tmp_path, code=Code(ran))
        with pytest.raises(CheckpointException, match="Weights only load failed"):
            read(tmp_path, code=1)
    assert not ran.exists()
