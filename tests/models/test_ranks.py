"""Two processes, one with pictures and one without: training steps and generation neither hang nor differ."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from tests.models.tiny import PINPOINTS, VISION, gradients, make, make_batch, prompts, without_pictures

RANKS = 2
PERCEIVER = {"type": "perceiver", "latents": 3, "heads": 2, "head_width": 4}
MIXES = {
    "one tower": {},
    "two towers and a perceiver": {
        "vision_tower": [VISION["clip"], VISION["siglip"]],
        "feature_layer": [[-1, -2], 0],
        "connector": PERCEIVER,
    },
    "tiles": {"tiling": {"type": "any_resolution", "pinpoints": PINPOINTS}},
}


def build(freeze, mix):
    return make("siglip", freeze=freeze, **MIXES[mix]).train()


def work(rank: int, store: str, shard: bool, freeze: tuple[str, ...], mix: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    model = build(freeze, mix)
    batches = [make_batch(model), without_pictures(make_batch(model, seed=3), model)]
    alone = build(freeze, mix)
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
    del batches[1]["labels"]
    inputs = (prompts(batches[0]), batches[1])[rank]
    settings = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "synced_gpus": True}
    assert model.generate(**inputs, **settings).tolist() == alone.eval().generate(**inputs, **settings).tolist()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [(), ("vision_tower", "language_model")])
@pytest.mark.parametrize("shard", [False, True], ids=["replicated", "sharded"])
@pytest.mark.parametrize("mix", MIXES)
def test_ranks_with_and_without_pictures(tmp_path, mix, shard, freeze):
    torch.multiprocessing.spawn(work, args=(str(tmp_path / "store"), shard, freeze, mix), nprocs=RANKS)
