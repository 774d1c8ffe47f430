"""Every vision encoder of transformers as vision_tower: it learns, its features lie as in the image, or it is refused.

`docs/mix_and_match.md` says which; these tests hold it to that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel
from transformers.utils import is_timm_available

from mllm.models.components import vision_encoder
from mllm.models.llava.model import Llava
from mllm.models.vision.encoder import VisionTower
from mllm.models.vision.encoders import vision_half
from mllm.registry import MODELS
from tests.marks import of_this_transformers, slow_but
from tests.models.documented import documented, error_of, reason
from tests.models.every_encoder import TYPES, tiny
from tests.models.learning import learns_is_saved_and_answers
from tests.models.tiny import TEXT, make_tokenizer

FEW = ["convnext", "siglip2", "swin"]
"""Types that every run of the tests looks at."""
WHOLE = ["altclip", "blip", "blip-2", "chinese_clip", "clip", "clipseg", "metaclip_2", "siglip", "siglip2", "llava"]


def make(spec: dict[str, Any], **arguments: Any) -> Llava:
    torch.manual_seed(0)
    parts = {"vision_tower": spec, "language_model": dict(TEXT["llama"]), "connector": "linear", "feature_layer": -1}
    statistics = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    model = MODELS.make({"type": "llava", **parts, **statistics, **arguments}, tokenizer=make_tokenizer())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def sees_each_image_for_itself(tower: VisionTower) -> None:
    pixels = torch.randn(3, 3, tower.size, tower.size)
    expected = torch.cat([tower.eval()(pixels[number : number + 1]) for number in range(3)])
    torch.testing.assert_close(tower(pixels), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def gives_features_in_the_order_of_the_image(tower: VisionTower, layer: int = 0) -> None:
    """What changes in a quarter of the image changes most in that quarter of the features."""
    tower = VisionTower(tower.encoder, feature_layer=layer, keep_cls=False, image_size=tower.size)
    side, half = int(tower.patches**0.5), tower.size // 2
    assert side > 1
    pixels = torch.randn(4, 3, tower.size, tower.size)
    for down, across in ((0, 1), (1, 0)):
        changed = pixels.clone()
        changed[:, :, down * half :, across * half :][:, :, :half, :half] += torch.randn(4, 3, half, half)
        difference = (tower(changed) - tower(pixels)).square().sum((0, 2)).view(side, side)
        quarters = difference[: side // 2 * 2, : side // 2 * 2].unflatten(0, (2, -1)).unflatten(2, (2, -1)).sum((1, 3))
        assert divmod(int(quarters.argmax()), 2) == (down, across)


def outcome(spec: dict[str, Any], folder: Path) -> str:
    """What the docs should say of a type."""
    refused = error_of(lambda: make(spec)) or ""
    size = {"image_size": 32} if "image_size: " in refused and "has no size of its own" in refused else {}
    if size:
        refused = error_of(lambda: make(spec, **size)) or ""
    if refused:
        return reason(refused)
    model = make(spec, **size)
    sees_each_image_for_itself(model.vision_tower)
    if not model.vision_tower.maps:  # these have rows of their own
        gives_features_in_the_order_of_the_image(model.vision_tower)
    learns_is_saved_and_answers(folder, model)
    return "maps" if model.vision_tower.maps else "tokens"


@pytest.mark.parametrize("name", FEW)
def test_some_types_do_what_the_docs_say(name: str, tmp_path: Path) -> None:
    assert outcome(tiny(name), tmp_path) == documented("Vision encoders")[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*TYPES} - {*FEW}))
def test_every_type_does_what_the_docs_say(name: str, tmp_path: Path) -> None:
    if "library that is missing" in documented("Vision encoders")[name] and is_timm_available():
        pytest.skip("it is there")
    assert outcome(tiny(name), tmp_path) == documented("Vision encoders")[name]


@of_this_transformers
def test_the_docs_leave_no_type_out() -> None:
    assert documented("Vision encoders").keys() == {*TYPES}


@pytest.mark.parametrize("name", WHOLE)
def test_of_a_folder_of_a_larger_model_the_vision_half_is_taken(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = AutoModel.from_config(AutoConfig.for_model(**tiny(name)))
    whole.save_pretrained(tmp_path, save_original_format=False)  # which of AltCLIP renames the layers
    half = vision_encoder(str(tmp_path), dtype=torch.float32, attn_implementation=None)
    assert half.config.model_type == vision_half(whole.config).model_type
    expected: Any = getattr(whole, "vision_model", None) or whole.vision_tower
    state = expected.state_dict()
    assert half.state_dict().keys() == state.keys()
    for key, tensor in half.state_dict().items():
        torch.testing.assert_close(tensor, state[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", slow_but(["swin", "vit"], ["hiera", "swin", "swinv2", "focalnet", "vit"]))
def test_every_layer_gives_features_in_the_order_of_the_image(name: str) -> None:
    tower = make(tiny(name)).vision_tower
    for layer in range(3):
        gives_features_in_the_order_of_the_image(tower, layer)
