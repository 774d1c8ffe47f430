import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mllm.errors import ConfigError, ModelError
from mllm.registry import MODELS
from tests.models.tiny import TEXT, VISION, make, make_batch, make_tokenizer

PARTS = {"vision_tower": VISION["clip"], "language_model": TEXT["llama"]}


def build(tokenizer=None, **arguments):
    return MODELS.make({"type": "llava", **arguments}, tokenizer=tokenizer or make_tokenizer())


def test_a_new_language_model_takes_its_vocabulary_from_the_tokenizer() -> None:
    tokenizer = make_tokenizer(extra=3)
    config = build(tokenizer, **PARTS).config
    assert config.text_config.vocab_size == len(tokenizer) == 43
    assert (config.text_config.bos_token_id, config.text_config.eos_token_id, config.text_config.pad_token_id) == (
        1,
        2,
        3,
    )
    assert config.image_token_id == tokenizer.convert_tokens_to_ids("<image>")
    given = {**PARTS, "language_model": {**TEXT["llama"], "vocab_size": 64, "eos_token_id": 5}}
    config = build(**given).config
    assert (config.text_config.vocab_size, config.text_config.eos_token_id) == (64, 5)


def test_defaults_of_parts() -> None:
    model = build(**PARTS)
    assert (model.config.feature_layer, model.config.keep_cls, model.config.connector) == (
        -2,
        False,
        {"type": "mlp2x_gelu"},
    )
    assert not model.training
    model = build(**PARTS, feature_layer=-1, keep_cls=True, connector={"type": "linear"}, image_mean=(0, 0, 0))
    assert (model.vision_tower.feature_layer, model.vision_tower.tokens) == (-1, 5)
    assert (model.image_preprocessor().mean, type(model.connector).__name__) == ((0, 0, 0), "Linear")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
def test_weights_that_are_no_floating_point_numbers_are_refused(tmp_path: Path, dtype) -> None:
    build(**PARTS).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    name = next(name for name in state if name.endswith("input_layernorm.weight"))
    save_file({**state, name: state[name].to(dtype)}, path, {"format": "pt"})
    with pytest.raises(ModelError, match=f"expected floating-point numbers, found {re.escape(name)} of"):
        build(model_name_or_path=str(tmp_path))


@pytest.mark.parametrize("tied", [False, True])
def test_new_tokens_start_at_the_mean(tmp_path: Path, tied: bool) -> None:
    torch.manual_seed(0)
    spec = {name: value for name, value in TEXT["llama"].items() if name != "model_type"}
    old = LlamaForCausalLM(LlamaConfig(vocab_size=40, tie_word_embeddings=tied, **spec))
    old.save_pretrained(tmp_path)
    tokenizer = make_tokenizer(extra=3)
    model = build(tokenizer, **{**PARTS, "language_model": str(tmp_path)}, pad_to_multiple_of=16)
    for new, before in (
        (model.get_input_embeddings().weight, old.get_input_embeddings().weight),
        (model.get_output_embeddings().weight, old.get_output_embeddings().weight),
    ):
        assert new.shape == (48, 16)
        torch.testing.assert_close(new[:40], before)
        torch.testing.assert_close(new[40:], before.mean(0).expand(8, -1))
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert model.config.text_config.vocab_size == 48
    assert model(**make_batch(model)).loss.isfinite()


def test_a_vocabulary_that_suffices_is_left_alone(tmp_path: Path) -> None:
    build(**{**PARTS, "language_model": {**TEXT["llama"], "vocab_size": 64}}).language_model.save_pretrained(tmp_path)
    assert build(**{**PARTS, "language_model": str(tmp_path)}).get_input_embeddings().num_embeddings == 64


def test_parts_from_folders_keep_their_weights(tmp_path: Path) -> None:
    source = make("dinov2", "gpt_neox")
    source.vision_tower.encoder.save_pretrained(tmp_path / "vision")
    source.language_model.save_pretrained(tmp_path / "text")
    statistics = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "vision" / "preprocessor_config.json").write_text(json.dumps(statistics))
    model = build(vision_tower=str(tmp_path / "vision"), language_model=str(tmp_path / "text"))
    expected = source.state_dict()
    for name, tensor in model.state_dict().items():
        if not name.startswith("connector"):
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    assert (model.image_preprocessor().mean, model.image_preprocessor().std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert model.config.text_config._attn_implementation == "sdpa"
    assert model.config.vision_config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("asked", "stored", "expected"),
    [(None, "bfloat16", "float32"), ("bfloat16", "float32", "bfloat16"), ("auto", "bfloat16", "bfloat16")],
)
def test_one_dtype_for_the_whole_model(tmp_path: Path, asked: str | None, stored: str, expected: str) -> None:
    source = make()
    source.language_model.to(getattr(torch, stored)).save_pretrained(tmp_path / "text")
    source.vision_tower.encoder.save_pretrained(tmp_path / "vision")
    model = build(vision_tower=str(tmp_path / "vision"), language_model=str(tmp_path / "text"), dtype=asked)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, expected)}
    assert model(**make_batch(model)).loss.isfinite()


def test_attention_implementation_reaches_both_parts() -> None:
    model = build(**PARTS, attn_implementation="eager")
    assert model.language_model.config._attn_implementation == "eager"
    assert model.vision_tower.encoder.config._attn_implementation == "eager"


def test_sampling_settings_that_a_checkpoint_does_not_use_are_dropped(tmp_path: Path) -> None:
    make().language_model.save_pretrained(tmp_path / "text")
    settings = {"temperature": 0.9, "top_p": 0.6, "eos_token_id": 7}
    (tmp_path / "text" / "generation_config.json").write_text(json.dumps(settings))
    model = build(**{**PARTS, "language_model": str(tmp_path / "text")})
    model.save_pretrained(tmp_path / "whole")
    saved = GenerationConfig.from_pretrained(tmp_path / "whole")
    assert (saved.temperature, saved.eos_token_id, saved.pad_token_id) == (None, 7, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ConfigError, "expected model_name_or_path, or both .*, found none of them"),
        (
            {"vision_tower": VISION["clip"]},
            ConfigError,
            "expected model_name_or_path, or both .*, found vision_tower alone",
        ),
        (
            {**PARTS, "language_model": "some/hub-name"},
            ModelError,
            "language_model: expected a folder on this machine, found some/hub-name",
        ),
        (
            {**PARTS, "vision_tower": "some/hub-name"},
            ModelError,
            "vision_tower: expected a folder on this machine, found some/hub-name",
        ),
        (
            {"model_name_or_path": "some/hub-name"},
            ModelError,
            "model_name_or_path: expected a folder on this machine, found some/hub-name",
        ),
        (
            {"model_name_or_path": "x", "keep_cls": False, **PARTS},
            ConfigError,
            "vision_tower, language_model, keep_cls",
        ),
        ({**PARTS, "vision_tower": {"hidden_size": 4}}, ConfigError, "vision_tower: expected a folder or a dict with"),
        (
            {**PARTS, "language_model": {"model_type": "lama"}},
            ConfigError,
            r"language_model\.model_type: expected one that transformers knows, found str 'lama'; did you mean 'llama'",
        ),
        (
            {**PARTS, "language_model": {**TEXT["llama"], "hiden_size": 8}},
            ConfigError,
            r"language_model\.hiden_size: unknown name; did you mean 'hidden_size'",
        ),
        (
            {**PARTS, "language_model": {**TEXT["llama"], "hidden_size": "8"}},
            ConfigError,
            r"language_model\.hidden_size: expected a whole number from 1 to 100,000,000, found str '8'",
        ),
        (
            {**PARTS, "language_model": {**TEXT["llama"], "head_dim": 1}},
            ConfigError,
            r"language_model\.head_dim: expected at least 2, for rotary positions, found 1",
        ),
        ({**PARTS, "connector": "mlp3x"}, ConfigError, "unknown connector type 'mlp3x'"),
        ({**PARTS, "feature_layer": 9}, ConfigError, "feature_layer: expected a layer .*, found int '9'"),
        ({**PARTS, "freeze": ["lm"]}, ConfigError, r"freeze\.0: expected one of .*'language_model', found str 'lm'"),
        ({**PARTS, "dtype": "float8"}, ConfigError, "dtype: expected .*, found str 'float8'; did you mean 'float"),
        ({**PARTS, "vision": "x"}, ConfigError, "vision: unknown name; did you mean 'vision_tower'"),
        (
            {**PARTS, "vision_tower": {"model_type": "vit", "num_hidden_layers": 1}},
            ConfigError,
            "expected an encoder with known pixel statistics, found a vit",
        ),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error, message: str) -> None:
    with pytest.raises(error, match=message):
        build(**arguments)


def test_a_tokenizer_without_image_token() -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>")))
    with pytest.raises(ModelError, match="expected a token <image>, found none"):
        build(bare, **PARTS)


def test_image_size_may_be_changed_of_a_checkpoint(tmp_path: Path) -> None:
    build(**PARTS, image_size=12, connector="linear").save_pretrained(tmp_path)
    folder = {"model_name_or_path": str(tmp_path)}
    for arguments, size in ((folder, 12), ({**folder, "image_size": 16}, 16), ({**folder, "image_size": 8}, 8)):
        model = build(**arguments)
        view = model.image_preprocessor()
        assert (view.size, view.tokens, model.config.image_size) == (size, (size // 4) ** 2, size)
        assert model(**make_batch(model)).loss.isfinite()
    build(**folder, image_size=16).save_pretrained(tmp_path / "again")
    assert build(model_name_or_path=str(tmp_path / "again")).image_preprocessor().size == 16
    build(**PARTS, connector="concat").save_pretrained(tmp_path / "even")
    with pytest.raises(ConfigError, match=r"expected a multiple of r, 2, .* found 3"):
        build(model_name_or_path=str(tmp_path / "even"), image_size=12)


def test_heads_that_cannot_share_keys_are_refused() -> None:
    spec = dict(model_type="gemma", hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    said = r"num_key_value_heads: expected a divisor of num_attention_heads, 4, found 16, the default of gemma"
    with pytest.raises(ConfigError, match=said):
        build(**{**PARTS, "language_model": spec})
    assert build(**{**PARTS, "language_model": {**spec, "num_key_value_heads": 2, "head_dim": 8}})


def test_settings_of_a_language_model_that_contradict_one_another_are_refused() -> None:
    spec = {**TEXT["llama"], "head_dim": 3}  # the two halves of a head are turned together
    with pytest.raises(ConfigError, match="language_model: llama refuses its config: "):
        build(**{**PARTS, "language_model": spec})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 10**9}, "image_size: expected a whole number from 1 to 16,384"),
        (
            {"tiling": {"type": "any_resolution", "pinpoints": [[10**9, 16]]}},
            r"pinpoints\.0\.0: expected a whole number from 1 to 16,384",
        ),
        ({"pad_to_multiple_of": 10**9}, "pad_to_multiple_of: expected a whole number from 1 to 65,536"),
    ],
)
def test_sizes_beyond_reason_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**PARTS, **arguments)


def test_a_folder_that_misses_weights(tmp_path: Path) -> None:
    model = make().language_model
    state = {name: tensor for name, tensor in model.state_dict().items() if "layers.1.mlp" not in name}
    state["lm_head.weight"] = torch.zeros(7, 16)
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ModelError) as caught:
        build(**{**PARTS, "language_model": str(tmp_path)})
    message = str(caught.value)
    assert "does not hold a LlamaForCausalLM" in message
    assert "lm_head.weight: [7, 16] instead of [40, 16]" in message
    for name in ("gate_proj", "up_proj", "down_proj"):
        assert f"missing model.layers.1.mlp.{name}.weight" in message


def test_a_folder_without_config_or_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a folder with a config\.json"):
        build(**{**PARTS, "language_model": str(tmp_path)})
    make().config.text_config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no file named"):
        build(**{**PARTS, "language_model": str(tmp_path)})
