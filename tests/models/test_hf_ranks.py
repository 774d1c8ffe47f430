"""Two processes, one with pictures and one without: a native model's steps and answers neither hang nor differ."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from tests.models.tiny import gradients
from tests.models.tiny_hf import ask, batch_of, build, save_tiny

RANKS = 2


def work(rank: int, folder: str, shard: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    model, processor = build(folder)
    alone, _ = build(folder)
    items = [ask((40, 20), key="a"), ask(key="b", question="Name an animal.")]
    batches = [batch_of(processor, [item]) for item in items]
    alone.train()
    for batch in batches:
        (alone(**batch).loss / RANKS).backward()
    expected = gradients(alone)
    model.activation_checkpointing_enable()
    model.train()
    wrapped = model
    if shard:
        for module in reversed(list(model.modules())):
            if type(module).__name__ in model._no_split_modules:
                fully_shard(module)
        fully_shard(model)
        register_fsdp_forward_method(model, "generate")
    else:
        wrapped = DistributedDataParallel(model)  # waits for the gradient of every trainable parameter
    for _ in range(2):
        wrapped.zero_grad()
        wrapped(**batches[rank]).loss.backward()
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        whole = gradient.full_tensor() if shard else gradient
        torch.testing.assert_close(whole, expected[name], rtol=1e-4, atol=1e-6, msg=name)
    model.eval()
    inputs = batch_of(processor, [items[rank]], answer=False)
    settings = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "synced_gpus": True}
    assert model.generate(**inputs, **settings).tolist() == alone.eval().generate(**inputs, **settings).tolist()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True], ids=["replicated", "sharded"])
@pytest.mark.parametrize("family", ["qwen3_vl", "smolvlm", "kosmos-2"])
def test_ranks_with_and_without_pictures(tmp_path: Path, family: str, shard: bool) -> None:
    save_tiny(family, tmp_path)
    torch.multiprocessing.spawn(work, args=(str(tmp_path), shard), nprocs=RANKS)
