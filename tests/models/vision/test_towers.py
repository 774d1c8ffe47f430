"""Two vision towers see the same image, each at its own size and with its own pixel statistics."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, OPENAI_CLIP_MEAN

from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.errors import ConfigError
from mllm.models.llava.model import Llava
from mllm.models.llava.transformers_layout import load_llava
from tests.models.tiny import PATCHES, SIDE, VISION, gradients, make, make_batch, without_images

CLIP, DINO, SIGLIP = (VISION[name] for name in ("clip", "dinov2", "siglip"))
LARGE = {**DINO, "image_size": 16, "patch_size": 8}


def pixels(model: Llava, image: Image.Image, number: int | None = None) -> torch.Tensor:
    """The image as the processor gives it to the model, or as tower `number` alone would get it."""
    config, view = model.config, model.image_preprocessor()
    mean, std, size = view.mean, view.std, view.size
    if number is not None:
        size = model.vision_tower.towers[number].size
        if number == 1:
            mean, std = config.second_image_mean, config.second_image_std
    return SquarePreprocessor(size=size, mean=mean, std=std, tokens=1, placement="squash")(image)["pixels"]


def photo(side: int) -> Image.Image:
    torch.manual_seed(0)
    return Image.fromarray(torch.randint(80, 180, (side, side, 3), dtype=torch.uint8).numpy())


def test_features_stand_side_by_side() -> None:
    model = make(vision_tower=[CLIP, DINO], feature_layer=[[-2, -1], -1])
    image = photo(SIDE)
    first, second = model.vision_tower.towers
    expected = torch.cat([first(pixels(model, image, 0)), second(pixels(model, image, 1))], -1)
    torch.testing.assert_close(model.vision_tower(pixels(model, image)), expected, rtol=1e-5, atol=1e-5)
    assert (model.vision_tower.width, model.vision_tower.tokens) == (48, PATCHES)
    assert model.image_preprocessor().mean == tuple(OPENAI_CLIP_MEAN)
    assert model.config.second_image_mean == IMAGENET_DEFAULT_MEAN


@pytest.mark.parametrize("towers", [[CLIP, LARGE], [LARGE, CLIP]], ids=["small first", "large first"])
def test_each_at_its_own_size(towers) -> None:
    model = make(vision_tower=towers)
    assert model.image_preprocessor().size == 16
    seen = []
    for tower in model.vision_tower.towers:
        tower.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.vision_tower(pixels(model, photo(16)))
    for number, view in enumerate(seen):
        # Pillow rounds to whole colours in either direction of scaling down
        torch.testing.assert_close(view, pixels(model, photo(16), number), rtol=0, atol=1.01 / 255 / 0.22)


def test_image_size_makes_their_patches_match() -> None:
    fine = {**DINO, "image_size": 12}  # 3 x 3 patches
    with pytest.raises(ConfigError, match=r"found 4 \(clip_vision_model at 8 pixels\), 9 \(dinov2 at 12 pixels\)"):
        make(vision_tower=[CLIP, fine])
    model = make(vision_tower=[CLIP, fine], image_size=12)
    assert (model.vision_tower.tokens, model.vision_tower.size) == (9, 12)
    model.resize_images([8, 8])
    assert model.vision_tower.tokens == 4
    with pytest.raises(ConfigError, match="expected two that give the same number of tokens"):
        model.resize_images([8, 12])


def test_tokens_before_the_patches_must_match_too() -> None:
    assert make(vision_tower=[CLIP, DINO], keep_cls=True).vision_tower.tokens == PATCHES + 1
    with pytest.raises(ConfigError, match=r"found 5 \(clip_vision_model at 8 pixels\), 4 \(siglip"):
        make(vision_tower=[CLIP, SIGLIP], keep_cls=True)


def test_both_train_and_come_back_from_a_folder(tmp_path: Path) -> None:
    model = make(vision_tower=[CLIP, LARGE], feature_layer=[-2, [-1, 0]], image_std=[[0.2] * 3, [0.3] * 3])
    model.freeze([])
    batch = make_batch(model)
    for given in (batch, without_images(batch, model)):
        model.zero_grad()
        model.train()(**given).loss.backward()
        assert gradients(model).keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    model.eval().save_pretrained(tmp_path)
    again = load_llava(str(tmp_path), attn_implementation="eager")
    assert {encoder.config._attn_implementation for encoder in again.vision_tower.encoders} == {"eager"}
    assert again.config.second_image_std == [0.3] * 3
    torch.testing.assert_close(again(**batch).loss, model(**batch).loss)


def test_gradient_checkpointing_and_freezing_reach_both() -> None:
    model = make(vision_tower=[CLIP, DINO], freeze=["vision_tower"]).train()
    model.activation_checkpointing_enable()
    assert not any(p.requires_grad for p in model.vision_tower.parameters())
    assert not model.vision_tower(torch.randn(1, 3, SIDE, SIDE)).requires_grad
    assert {"CLIPEncoderLayer", "Dinov2Layer"} <= model._no_split_modules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vision_tower": [CLIP] * 3}, "vision_tower: expected one, or a list of two, found 3"),
        ({"vision_tower": []}, "vision_tower: expected one, or a list of two, found 0"),
        ({"feature_layer": [[-1], -1, -1]}, r"feature_layer: expected a number, or one for each of 2 vision tower"),
        ({"feature_layer": [-1, -2]}, r"feature_layer: expected a list of 2 lists, .* found list '\[-1, -2\]'"),
        ({"image_size": [8, 8, 8]}, r"image_size: expected a number, or one for each of 2 vision tower"),
        ({"image_size": "8"}, r"image_size: expected a whole number from 1 to 16,384 or a list of .*, found str '8'"),
        ({"feature_layer": [-1, [9]]}, "feature_layer: expected a layer .*, found int '9'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**{"vision_tower": [CLIP, DINO], **arguments})
