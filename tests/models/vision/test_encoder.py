import logging
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, CLIPConfig, CLIPModel, CLIPVisionModel

from mllm.errors import ConfigError, ModelError
from mllm.models.components import vision_encoder
from mllm.models.vision.encoder import VisionTower
from tests.models.tiny import PATCHES, SIDE, SIZES, VISION


def encoder(name: str, **changes):
    torch.manual_seed(0)
    spec = {**VISION[name], **changes}
    return AutoModel.from_config(AutoConfig.for_model(spec.pop("model_type"), **spec)).eval()


@pytest.mark.parametrize("layer", [-1, -2, 0, 2])
@pytest.mark.parametrize(("name", "prefix"), [("clip", 1), ("siglip", 0), ("dinov2", 1), ("dinov2_with_registers", 5)])
def test_features_are_the_hidden_state_of_the_layer(name: str, prefix: int, layer: int) -> None:
    model = encoder(name)
    pixels = torch.randn(2, 3, SIDE, SIDE)
    expected = model(pixels, output_hidden_states=True).hidden_states[layer]
    kept = VisionTower(model, feature_layer=layer, keep_cls=True)
    patches = VisionTower(model, feature_layer=layer, keep_cls=False)
    torch.testing.assert_close(kept(pixels), expected, rtol=0, atol=0)
    torch.testing.assert_close(patches(pixels), expected[:, prefix:], rtol=0, atol=0)
    assert (kept.tokens, patches.tokens, kept.prefix, kept.width) == (PATCHES + prefix, PATCHES, prefix, 16)


def test_what_no_feature_depends_on_is_frozen() -> None:
    tower = VisionTower(encoder("clip"), feature_layer=-2, keep_cls=False)
    tower.freeze_unused()
    frozen = {name for name, parameter in tower.encoder.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"encoder", "post_layernorm"}
    assert {name.split(".")[2] for name in frozen if name.startswith("encoder")} == {"2"}


@pytest.mark.parametrize("keep_cls", [False, True])
def test_features_of_several_layers_stand_side_by_side(keep_cls: bool) -> None:
    model = encoder("dinov2")
    pixels = torch.randn(2, 3, SIDE, SIDE)
    tower = VisionTower(model, feature_layer=[-1, 0, -2], keep_cls=keep_cls)
    alone = [VisionTower(model, feature_layer=layer, keep_cls=keep_cls)(pixels) for layer in (-1, 0, -2)]
    torch.testing.assert_close(tower(pixels), torch.cat(alone, -1), rtol=0, atol=0)
    assert (tower.width, tower.tokens) == (48, PATCHES + keep_cls)


def test_what_some_layer_depends_on_trains() -> None:
    tower = VisionTower(encoder("clip"), feature_layer=[0, 2], keep_cls=False)
    tower.freeze_unused()
    frozen = {name for name, parameter in tower.encoder.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[2] for name in frozen if name.startswith("encoder")} == {"2"}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (4, "feature_layer: expected a layer .*, -4 to 3, found int '4'"),
        (-5, "feature_layer: expected a layer .*, -4 to 3, found int '-5'"),
        ([-2, 7], "feature_layer: expected a layer .*, -4 to 3, found int '7'"),
        ([], "expected a layer or a list of layers, found none"),
    ],
)
def test_a_layer_that_is_not_there(layer, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VisionTower(encoder("clip"), feature_layer=layer, keep_cls=False)


@pytest.mark.parametrize("side", [SIDE, 12, 4])
@pytest.mark.parametrize("name", ["clip", "siglip", "dinov2", "dinov2_with_registers"])
def test_images_of_another_size(name: str, side) -> None:
    model = encoder(name)
    tower = VisionTower(model, feature_layer=-1, keep_cls=False, image_size=side)
    pixels = torch.randn(2, 3, side, side)
    asked = {} if name.startswith("dinov2") else {"interpolate_pos_encoding": True}
    expected = model(pixels, output_hidden_states=True, **asked).hidden_states[-1]
    patches = (side // 4) ** 2
    torch.testing.assert_close(tower(pixels), expected[:, -patches:], rtol=0, atol=0)
    assert (tower.size, tower.patches, tower.tokens, tower.resized) == (side, patches, patches, side != SIDE)
    tower.freeze_unused()
    tower(pixels).sum().backward()
    for parameter_name, parameter in tower.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name


def test_a_rotary_encoder_needs_no_interpolation() -> None:
    spec = {**SIZES, "num_hidden_layers": 2, "image_size": SIDE, "patch_size": 4}
    model = AutoModel.from_config(AutoConfig.for_model("dinov3_vit", **spec)).eval()
    tower = VisionTower(model, feature_layer=-1, keep_cls=False, image_size=12)
    assert tower(torch.randn(1, 3, 12, 12)).shape == (1, 9, 16)


def test_resized_again() -> None:
    tower = VisionTower(encoder("clip"), feature_layer=-1, keep_cls=True, image_size=12)
    assert tower.tokens == 10
    tower.resize(SIDE)
    assert tower.tokens == 5
    assert tower(torch.randn(1, 3, SIDE, SIDE)).shape == (1, 5, 16)
    with pytest.raises(ConfigError, match=r"expected a number of pixels for one vision tower, found list '\[8, 8\]'"):
        tower.resize([8, 8])


class Fixed(CLIPVisionModel):
    """Takes images of one size only."""

    def forward(self, pixel_values, output_hidden_states=None):  # pyright: ignore
        return super().forward(pixel_values, output_hidden_states=output_hidden_states)


@pytest.mark.parametrize(
    ("model_class", "side", "message"),
    [
        (Fixed, 12, r"image_size 12: clip_vision_model refuses it: Input image size \(12\*12\) doesn't match model"),
        (CLIPVisionModel, 3, "image_size 3: clip_vision_model refuses it"),
    ],
)
def test_a_size_that_the_encoder_does_not_take(model_class, side: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VisionTower(model_class(encoder("clip").config), feature_layer=-1, keep_cls=False, image_size=side)


def test_pixels_of_another_size() -> None:
    tower = VisionTower(encoder("dinov2"), feature_layer=-1, keep_cls=False)
    with pytest.raises(ModelError, match=r"expected images of 8 x 8 .*, found 12 x 8"):
        tower(torch.randn(1, 3, 8, 12))


def test_only_square_encoders() -> None:
    with pytest.raises(ModelError, match="square images, found one of 12 x 8 pixels"):
        VisionTower(encoder("dinov2", image_size=[8, 12]), feature_layer=-1, keep_cls=False).tokens  # noqa: B018


def test_of_two_towers_the_vision_half_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = {**SIZES, "num_hidden_layers": 1, "vocab_size": 50}
    vision = {name: value for name, value in VISION["clip"].items() if name != "model_type"}
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=vision))
    whole.save_pretrained(tmp_path)
    library = logging.getLogger("transformers.modeling_utils")
    library.addHandler(caplog.handler)
    half = vision_encoder(str(tmp_path), dtype=torch.float32, attn_implementation=None)
    library.removeHandler(caplog.handler)
    assert "UNEXPECTED" not in caplog.text  # nothing about the other half
    expected = whole.vision_model.state_dict()
    assert half.state_dict().keys() == expected.keys()
    for name, tensor in half.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    spec = {"model_type": "clip", "text_config": text, "vision_config": vision}
    assert vision_encoder(spec, dtype=torch.float32, attn_implementation=None).config.model_type == "clip_vision_model"


@pytest.mark.parametrize("model_type", ["bert", "llama", "t5"])
def test_a_model_of_text_is_no_vision_tower(model_type: str, tmp_path: Path) -> None:
    config = AutoConfig.for_model(model_type)
    config.save_pretrained(tmp_path)
    for spec in (str(tmp_path), {"model_type": model_type}):
        with pytest.raises(ConfigError, match=f"a vision encoder, found {model_type}, which reads tokens"):
            vision_encoder(spec, dtype=torch.float32, attn_implementation=None)
