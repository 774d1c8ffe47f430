"""Features of images that are kept: the same loss and gradients to the bit, and made anew where anything differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mllm.conversation.collator import Collator
from mllm.images.cache import DiskCache
from mllm.models.adapters.injection import inject_adapters
from mllm.models.adapters.settings import read_adapters
from mllm.models.vision.kept_features import KEYS, KeptFeatures, keyed, knowing
from tests.marks import slow_but
from tests.models import tiny, tiny_flamingo, tiny_hf
from tests.models.tiny import gradients
from tools.native.stand_ins import save_stand_in

TILES = dict(type="any_resolution", pinpoints=tiny.PINPOINTS)


def keep(model: Any, folder: Path) -> None:
    model.kept = KeptFeatures(DiskCache(folder / "features", 10**8, lasting=True), model)


def with_keys(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**batch, KEYS: keyed({"pixels": batch["pixels"]})[KEYS]}


def llava(folder: Path, *frozen: str, **arguments: Any) -> tuple[Any, dict[str, Tensor]]:
    model = tiny.make(freeze=frozen, **arguments)
    return model, with_keys(tiny.make_batch(model))


def flamingo(folder: Path) -> tuple[Any, dict[str, Tensor]]:
    model = tiny_flamingo.make(freeze=["vision_tower"])
    return model, with_keys(tiny_flamingo.make_batch(model, frames=2) | {"pixels": torch.randn(2, 3, 8, 8)})


def native(folder: Path, save: Callable[..., Path], kind: str) -> tuple[Any, dict[str, Tensor]]:
    """The second of two images stands in two rows."""
    model, processor = tiny_hf.build(str(save(kind, folder / kind)), freeze=["vision_tower", "connector"])
    items = [tiny_hf.ask((40, 24)), tiny_hf.ask((24, 40), seed=3)]
    items.append(replace(items[1], key="c"))
    examples = [processor.encode(item, number) for number, item in enumerate(items)]
    examples = [replace(one, pixels=tuple(keyed(image) for image in one.pixels)) for one in examples]
    batch: Any = Collator(pad_token_id=processor.tokenizer.pad_token_id)(examples)  # type: ignore[arg-type]
    return model, {name: tensor for name, tensor in batch.items() if name not in ("index", "label_sources")}


MODELS: dict[str, Callable[[Path], tuple[Any, dict[str, Tensor]]]] = {
    "llava": lambda folder: llava(folder, "vision_tower"),
    "llava, connector": lambda folder: llava(folder, "vision_tower", "connector"),
    "llava, tiles": lambda folder: llava(folder, "vision_tower", tiling=TILES),
    "openflamingo": flamingo,
    "internvl": lambda folder: native(folder, tiny_hf.save_tiny, "internvl"),
    "qwen2_5_vl": lambda folder: native(folder, tiny_hf.save_tiny, "qwen2_5_vl"),
    "qwen3_vl": lambda folder: native(folder, tiny_hf.save_tiny, "qwen3_vl"),
    "granite4_vision": lambda folder: native(folder, save_stand_in, "granite4_vision"),
    "llava_onevision": lambda folder: native(folder, save_stand_in, "llava_onevision"),
}


def step(model: Any, batch: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    keys = batch[KEYS]
    rest = {name: tensor for name, tensor in batch.items() if name != KEYS}
    model.zero_grad()
    with knowing(model, keys):
        loss = model.train()(**rest).loss
    loss.backward()
    return loss.item(), gradients(model)


@pytest.mark.parametrize(
    "kind", slow_but(["llava", "llava, tiles", "openflamingo", "qwen3_vl", "llava_onevision"], MODELS)
)
def test_loss_and_gradients_are_those_without_to_the_bit(kind: str, tmp_path: Path) -> None:
    model, batch = MODELS[kind](tmp_path)
    assert model.features_obstacle is None
    loss, expected = step(model, batch)
    keep(model, tmp_path)
    images = len(batch[KEYS])
    for found in (0, images):
        again, gradient = step(model, batch)
        assert model.kept.read() == (images, found)
        assert again == loss
        assert gradient.keys() == expected.keys()
        assert all(torch.equal(gradient[name], expected[name]) for name in expected)


def test_an_image_that_is_known_is_not_made_again(tmp_path: Path) -> None:
    model, batch = llava(tmp_path, "vision_tower")
    keep(model, tmp_path)
    seen: list[int] = []
    model.vision_tower.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    first = {"pixels": batch["pixels"][:1]}
    for pixels in (first["pixels"], batch["pixels"], batch["pixels"].flip(0)):
        with knowing(model, keyed({"pixels": pixels})[KEYS]):
            features = model.image_features(pixels)
        assert torch.equal(features, model.image_features(pixels))
    assert [count for number, count in enumerate(seen) if number in (0, 2)] == [1, 1]
    assert len(seen) == 5, "the third time only without keys"


def test_what_the_model_sees_is_what_an_image_is_known_by() -> None:
    image = torch.arange(24.0).reshape(2, 3, 2, 2)
    keys = keyed({"pixels": image})[KEYS]
    assert keys.shape == (2, 2)
    assert keys.dtype == torch.int64
    other = image.clone()
    other[1, 0, 0, 0] += 1e-6
    changed = keyed({"pixels": other})[KEYS]
    assert torch.equal(changed[0], keys[0])
    assert not torch.equal(changed[1], keys[1])
    assert keyed({"pixel_values": image})[KEYS].shape == (1, 2)


def test_other_weights_and_another_arithmetic_make_other_features(tmp_path: Path) -> None:
    model, batch = llava(tmp_path, "vision_tower")
    keep(model, tmp_path)
    step(model, batch)
    keep(model, tmp_path)
    step(model, batch)
    assert model.kept.read() == (2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step(model, batch)
    assert model.kept.read() == (2, 0)
    with torch.no_grad():
        next(model.connector.parameters()).add_(1)  # is trained, so that no features depend on it
    keep(model, tmp_path)
    step(model, batch)
    assert model.kept.read() == (2, 2)
    with torch.no_grad():
        next(model.vision_tower.parameters()).add_(1e-6)
    keep(model, tmp_path)
    step(model, batch)
    assert model.kept.read() == (2, 0)


@pytest.mark.parametrize("cut", [0, 3, 100])
def test_features_of_a_cut_file_are_made_again(cut: int, tmp_path: Path) -> None:
    model, batch = llava(tmp_path, "vision_tower")
    keep(model, tmp_path)
    expected = step(model, batch)[0]
    files = sorted((tmp_path / "features").glob("??/*"))
    assert len(files) == 2
    whole = files[0].read_bytes()
    assert len(whole) > 100
    files[0].write_bytes(whole[:cut])
    model.kept.read()
    assert step(model, batch)[0] == expected
    assert model.kept.read() == (2, 1)
    assert files[0].read_bytes() == whole


def test_what_trains_or_sees_nothing_keeps_nothing(tmp_path: Path) -> None:
    model = tiny.make()
    assert model.features_obstacle == "training changes its vision tower"
    inject_adapters(model, read_adapters(dict(type="lora", targets=["language_model"])), {})
    assert model.features_obstacle is None
    other = tiny.make()
    inject_adapters(other, read_adapters(dict(type="lora", targets=["vision_tower", "language_model"])), {})
    assert other.features_obstacle == "training changes its vision tower"
    folder = str(tiny_hf.save_tiny("internvl", tmp_path / "internvl"))
    assert tiny_hf.build(folder, freeze=["vision_tower"])[0].features_obstacle == "training changes its connector"
    assert tiny_hf.build(folder)[0].features_obstacle == "training changes its vision tower and connector"
    folder = str(tiny_hf.save_tiny("kosmos-2", tmp_path / "kosmos"))
    why = tiny_hf.build(folder, freeze=["vision_tower", "connector"])[0].features_obstacle
    assert why == "kosmos-2 takes no features in place of pixels"
