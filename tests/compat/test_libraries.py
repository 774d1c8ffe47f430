"""The names of other libraries than transformers that `mllm/compat` stands on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from peft import LoraConfig
from torch import nn

from mllm.compat import accelerate, bitsandbytes, datatrove, fsspec, hqq, mmengine, peft, torchao
from mllm.compat import torch as compat_torch


class TestAccelerate:
    def test_has_prepared_model_and_forget_last_optimizer(self) -> None:
        accelerator = Accelerator(cpu=True)
        assert not accelerate.has_prepared_model(accelerator)
        model = nn.Linear(1, 1)
        accelerator.prepare(model, torch.optim.SGD(model.parameters()))
        assert accelerate.has_prepared_model(accelerator)
        accelerate.forget_last_optimizer(accelerator)
        assert accelerator._optimizers == []


class TestTorch:
    def test_storage_id_is_shared_by_views_and_known_of_fake_tensors(self) -> None:
        with compat_torch.FakeTensorMode():
            whole, other = torch.zeros(4), torch.zeros(4)
        assert isinstance(whole, compat_torch.FakeTensor)
        assert compat_torch.storage_id(whole) == compat_torch.storage_id(whole[1:])
        assert compat_torch.storage_id(whole) != compat_torch.storage_id(other)

    def test_set_last_rates_is_what_get_last_lr_gives(self) -> None:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        compat_torch.set_last_rates(scheduler, [0.5])
        assert scheduler.get_last_lr() == [0.5]

    def test_keep_out_of_ddp_marks_parameters_as_ddp_reads_them(self) -> None:
        model = nn.Linear(1, 1)
        compat_torch.keep_out_of_ddp(model, ["bias"])
        assert model._ddp_params_and_buffers_to_ignore == ["bias"]


class TestBitsandbytes:
    def test_keep_layout_switches_off_what_some_layers_have(self) -> None:
        library = pytest.importorskip("bitsandbytes")
        layer = library.nn.Linear4bit(64, 64)
        assert hasattr(layer, "support_avx512bf16_for_cpu"), "nothing to switch off any more"
        layer.support_avx512bf16_for_cpu = True
        bitsandbytes.keep_layout(nn.Sequential(layer, nn.Linear(1, 1)))
        assert layer.support_avx512bf16_for_cpu is False
        assert type(layer.weight).__name__ == bitsandbytes.PARAMS_4BIT

    def test_make_states_without_storage(self) -> None:
        library = pytest.importorskip("bitsandbytes")
        shards = [nn.Parameter(torch.empty(8192, device="meta")) for _ in range(2)]
        optimizer = library.optim.AdamW8bit(shards)
        assert bitsandbytes.makes_states(optimizer)
        assert not bitsandbytes.makes_states(torch.optim.SGD(shards))
        bitsandbytes.make_states(optimizer, shards, [True, False])
        kinds = [optimizer.state[shard]["state1"].dtype for shard in shards]
        assert kinds == [torch.float32, torch.uint8]
        assert (0, 0) not in optimizer.mng.index2config, "all optimizers of the process share it"


class TestHqqAndTorchao:
    def test_quantizer_makes_layers_of_the_known_class(self) -> None:
        pytest.importorskip("hqq")
        layer = hqq.Quantizer(bits=4, group_size=8, axis=1)(nn.Linear(8, 8), "cpu")
        assert type(layer).__name__ == hqq.LINEAR
        with pytest.raises(ValueError, match=r"."):
            hqq.Quantizer(bits=5, group_size=8, axis=1)

    def test_schemes_are_config_classes_by_name(self) -> None:
        pytest.importorskip("torchao")
        assert "Int8WeightOnlyConfig" in torchao.schemes()


class TestPeft:
    def test_inject_adapts_layers_and_leaves_no_flag_behind(self) -> None:
        model = nn.Sequential()
        model.add_module("part", nn.Sequential(nn.Linear(4, 4)))
        model.part.is_loaded_in_4bit = False
        peft.inject(LoraConfig(r=1, target_modules=["part.0"]), model)
        assert isinstance(model.part[0], peft.AdaptedLayer)
        assert "is_loaded_in_4bit" not in vars(model)
        assert isinstance(model.part[0].get_base_layer(), nn.Linear)


class TestMmengine:
    def test_read_list(self) -> None:
        assert mmengine.read_list("[a,b]") == ["a", "b"]
        assert mmengine.read_list("(1,[x,y])") == (1, ["x", "y"])
        with pytest.raises(ValueError, match=r"."):
            mmengine.read_list("[a,(b]")

    @pytest.mark.parametrize(
        ("text", "value"), [("1", 1), ("1e-5", 1e-5), ("true", True), ("None", None), ("a b", "a b")]
    )
    def test_read_scalar(self, text: str, value: Any) -> None:
        assert mmengine.read_scalar(text) == value
        assert type(mmengine.read_scalar(text)) is type(value)


class TestFsspec:
    def test_path_in_is_how_the_file_system_knows_a_url(self) -> None:
        assert fsspec.path_in(MemoryFileSystem(), "memory://folder/a.jpg") == "/folder/a.jpg"

    def test_read_start_asks_for_a_range(self) -> None:
        class System(AsyncFileSystem):
            async def _cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
                return f"{path} {start} {end}".encode()

        assert asyncio.run(fsspec.read_start(System(asynchronous=True), "a", 9)) == b"a 0 9"


class TestDatatrove:
    def test_run_task_runs_one_rank(self, tmp_path: Path) -> None:
        code = f"""
from datatrove.executor import LocalPipelineExecutor
from mllm.compat.datatrove import run_task
ran = []
executor = LocalPipelineExecutor(pipeline=[lambda data, rank, world_size: ran.append((rank, world_size))], tasks=3,
                                 logging_dir={str(tmp_path)!r})
run_task(executor, 1)
import json; print(json.dumps([ran, executor.get_incomplete_ranks()]))
"""
        pytest.importorskip("datatrove")
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert json.loads(ran.stdout.splitlines()[-1]) == [[[1, 3]], [0, 2]]

    def test_add_sbatch_defaults_keeps_what_was_chosen(self, tmp_path: Path) -> None:
        slurm = pytest.importorskip("datatrove.executor.slurm")
        executor = slurm.SlurmPipelineExecutor(
            pipeline=[], tasks=1, time="1", partition="p", logging_dir=str(tmp_path), sbatch_args={"mem": "1G"}
        )
        datatrove.add_sbatch_defaults(executor, {"mem": "2G", "kill-on-invalid-dep": "yes"})
        found = executor.get_sbatch_args()
        assert found["mem"] == "1G"
        assert found["kill-on-invalid-dep"] == "yes"
