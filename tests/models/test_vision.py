import pytest
import torch
from transformers import AutoConfig, AutoModel, CLIPConfig, CLIPModel

from mllm.errors import ConfigError, ModelError
from mllm.models.parts import vision_encoder
from mllm.models.vision import VisionTower
from tests.models.tiny import PATCHES, SIDE, SIZES, VISION


def encoder(name: str, **changes):
    torch.manual_seed(0)
    spec = {**VISION[name], **changes}
    return AutoModel.from_config(AutoConfig.for_model(spec.pop("model_type"), **spec)).eval()


@pytest.mark.parametrize("layer", [-1, -2, 0, 2])
@pytest.mark.parametrize(("name", "prefix"), [("clip", 1), ("siglip", 0), ("dinov2", 1), ("dinov2_with_registers", 5)])
def test_features_are_the_hidden_state_of_the_layer(name, prefix, layer):
    model = encoder(name)
    pixels = torch.randn(2, 3, SIDE, SIDE)
    expected = model(pixels, output_hidden_states=True).hidden_states[layer]
    kept = VisionTower(model, feature_layer=layer, keep_cls=True)
    patches = VisionTower(model, feature_layer=layer, keep_cls=False)
    torch.testing.assert_close(kept(pixels), expected, rtol=0, atol=0)
    torch.testing.assert_close(patches(pixels), expected[:, prefix:], rtol=0, atol=0)
    assert (kept.tokens, patches.tokens, kept.prefix, kept.width) == (PATCHES + prefix, PATCHES, prefix, 16)


def test_what_no_feature_depends_on_is_frozen():
    tower = VisionTower(encoder("clip"), feature_layer=-2, keep_cls=False)
    tower.freeze_unused()
    frozen = {name for name, parameter in tower.encoder.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"encoder", "post_layernorm"}
    assert {name.split(".")[2] for name in frozen if name.startswith("encoder")} == {"2"}


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_that_is_not_there(layer):
    with pytest.raises(ConfigError, match=rf"feature_layer {layer}: the vision encoder has 3 layers"):
        VisionTower(encoder("clip"), feature_layer=layer, keep_cls=False)


def test_pixels_of_another_size():
    tower = VisionTower(encoder("dinov2"), feature_layer=-1, keep_cls=False)
    with pytest.raises(ModelError, match="pixels of 12 x 8 for a vision encoder of 8 x 8"):
        tower(torch.randn(1, 3, 8, 12))


def test_only_square_encoders():
    with pytest.raises(ModelError, match="12 x 8 pixels: only squares"):
        VisionTower(encoder("dinov2", image_size=[8, 12]), feature_layer=-1, keep_cls=False).tokens  # noqa: B018


def test_of_two_towers_the_vision_half_is_taken(tmp_path):
    text = {**SIZES, "num_hidden_layers": 1, "vocab_size": 50}
    vision = {name: value for name, value in VISION["clip"].items() if name != "model_type"}
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=vision))
    whole.save_pretrained(tmp_path)
    half = vision_encoder(str(tmp_path), dtype=torch.float32, attn_implementation=None)
    expected = whole.vision_model.state_dict()
    assert half.state_dict().keys() == expected.keys()
    for name, tensor in half.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    spec = {"model_type": "clip", "text_config": text, "vision_config": vision}
    assert vision_encoder(spec, dtype=torch.float32, attn_implementation=None).config.model_type == "clip_vision_model"
