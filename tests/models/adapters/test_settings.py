from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from mllm.errors import ConfigError, ModelError
from mllm.models.adapters.injection import (
    as_base,
    base_of,
    inject_adapters,
    load_adapted,
    merge,
    parameter_table,
    save_adapted,
)
from mllm.models.adapters.selection import is_adapter
from mllm.models.adapters.settings import read_adapters
from mllm.models.llava.transformers_layout import load_llava
from tests.models.tiny import gradients, make, make_batch, without_images
from tests.models.tuning import disturb, layers, trained, tuning_config

LORA = {"type": "lora", "targets": ["language_model"], "r": 4}
PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def adapted(section=LORA, *, base=None, **arguments):
    model = make(**arguments)
    inject_adapters(model, read_adapters(section), base or {"type": "llava"})
    return model


def logits(model):
    batch = {name: tensor for name, tensor in make_batch(model).items() if name != "labels"}
    return model.eval()(**batch).logits


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora"])
def test_every_linear_layer_of_the_language_model_but_the_head(kind: str) -> None:
    model = adapted({**LORA, "type": kind})
    assert {name.rpartition(".")[2] for name in layers(model)} == PROJECTIONS
    assert len(layers(model)) == 2 * len(PROJECTIONS)
    assert all(is_adapter(name) for name in trained(model))
    assert any("magnitude" in name for name in trained(model)) == (kind == "dora")
    layer = model.language_model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == (8 / 4**0.5 if kind == "rslora" else 2)
    torch.testing.assert_close(logits(model), logits(make()))


@pytest.mark.parametrize("text", ["llama", "qwen2", "gpt_neox", "mpt", "opt"])
def test_any_language_model(text: str) -> None:
    model = adapted(text=text).train()
    assert layers(model)
    model(**make_batch(model)).loss.backward()
    assert gradients(model).keys() == trained(model)


def test_targets_by_part_and_by_pattern() -> None:
    model = adapted({**LORA, "targets": ["connector", "language_model.*q_proj"]})
    assert layers(model) == {
        "connector.layers.0",
        "connector.layers.2",
        "language_model.model.layers.0.self_attn.q_proj",
        "language_model.model.layers.1.self_attn.q_proj",
    }


def test_no_layer_without_influence_is_adapted() -> None:
    names = layers(adapted({**LORA, "targets": ["vision_tower"]}))
    assert any("layers.1" in name for name in names)
    assert not any("layers.2" in name for name in names), "feature_layer -2 does not depend on the last"


def test_the_vision_tower_only_where_it_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'q_proj' matches 2 names in the vision tower too.*add 'vision_tower'"):
        adapted({**LORA, "targets": ["q_proj"]})
    with pytest.raises(ConfigError, match=r"'norm' matches .* in the vision tower too"):
        adapted({**LORA, "unfrozen": ["norm"]})
    assert len(layers(adapted({**LORA, "targets": ["vision_tower", "q_proj"]}))) > 4
    assert len(layers(adapted({**LORA, "targets": ["vision_tower.*q_proj"]}))) == 2


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"type": "lorra", "targets": ["connector"]},
            "type: expected one of .*, found str 'lorra'; did you mean 'lora'",
        ),
        ({"type": "lora", "target": ["connector"]}, "target: unknown name; did you mean 'targets'"),
        ({"type": "lora"}, "targets: expected at least one"),
        (
            {"type": "lora", "targets": "connector"},
            "targets: expected a list, each a part, or a regular expression, found str",
        ),
        ({"type": "lora", "targets": ["("]}, "expected a regular expression, found str '\\('"),
        ({**LORA, "r": 0}, "r: expected a whole number from 1 to 65,536, found int '0'"),
        ({**LORA, "r": 10**9}, "r: expected a whole number from 1 to 65,536, found int"),
        ({**LORA, "dropout": 1.5}, "dropout: expected a number of at least 0 and below 1, found float '1.5'"),
        ({"type": "full", "targets": ["connector"], "r": 4}, "takes no r"),
        (
            {**LORA, "targets": ["langage_model"]},
            "'langage_model', which matches nothing; did you mean 'language_model'",
        ),
        ({**LORA, "targets": ["cross_attention"]}, "'cross_attention', which matches nothing"),
        ({**LORA, "unfrozen": ["perceiver"]}, "adapters.unfrozen: .* found 'perceiver', which matches nothing"),
        ("nowhere.json", "nowhere.json"),
    ],
)
def test_wrong_settings(section: dict[str, Any] | str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        adapted(section)


def test_what_is_frozen_by_name_cannot_be_unfrozen() -> None:
    with pytest.raises(
        ConfigError, match=r"expected layers that can be trained, found .*, which matches only layers that are frozen"
    ):
        adapted({**LORA, "unfrozen": ["connector"]}, freeze=["connector"])


def test_unfrozen_parts_are_trained_in_full_and_the_rest_drops_nothing_out() -> None:
    model = adapted({**LORA, "unfrozen": ["connector", "embeddings", "model.norm"]}).train()
    assert {name for name in trained(model) if not is_adapter(name)} == {
        "language_model.model.embed_tokens.weight",
        "language_model.lm_head.weight",
        "language_model.model.norm.weight",
        *(f"connector.layers.{number}.{kind}" for number in (0, 2) for kind in ("weight", "bias")),
    }
    assert model.frozen == ("vision_tower",)
    assert not model.vision_tower.training
    assert model.language_model.training


def test_full_trains_the_targets_themselves() -> None:
    model = adapted({"type": "full", "targets": ["connector"]})
    assert trained(model) == {name for name, _ in model.named_parameters() if name.startswith("connector")}


def test_the_table_adds_up() -> None:
    model = adapted({**LORA, "unfrozen": ["connector"]})
    rows = {line.split()[0]: line.split()[1:] for line in parameter_table(model).splitlines()[1:]}
    total = sum(parameter.numel() for parameter in make().parameters())
    added = sum(parameter.numel() for name, parameter in model.named_parameters() if is_adapter(name))
    connector = sum(parameter.numel() for parameter in model.connector.parameters())
    assert rows["vision_tower"][1:4] == ["0", "0", "0"]
    assert rows["connector"][-1] == "100.000%"
    numbers = [int(cell.replace(",", "")) for cell in rows["total"][:5]]
    assert numbers[0] == total
    assert numbers[2:] == [added, connector, total - connector]
    assert rows["total"][-1] == f"{(added + connector) / (total + added):.3%}"


@pytest.mark.parametrize("freeze", [(), ("vision_tower",)])
def test_a_batch_without_images_touches_all_that_is_trained(freeze) -> None:
    targets = ["language_model", "connector", *(() if freeze else ["vision_tower"])]
    model = adapted({**LORA, "targets": targets, "unfrozen": ["embeddings"]}, freeze=freeze).train()
    model(**without_images(make_batch(model), model)).loss.backward()
    assert gradients(model).keys() == trained(model)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("unfrozen", [[], ["connector"]])
def test_gradient_checkpointing_changes_nothing(unfrozen, use_reentrant: bool) -> None:
    model = adapted({**LORA, "unfrozen": unfrozen}).train()
    disturb(model)
    batch = make_batch(model)
    model(**batch).loss.backward()
    expected = gradients(model)
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    model.train()
    model(**batch).loss.backward()
    found = gradients(model)
    assert found.keys() == expected.keys() == trained(model)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora", "full"])
def test_saved_adapters_give_the_same_logits_on_the_same_base(tmp_path: Path, kind: str) -> None:
    make().save_pretrained(tmp_path / "base")
    base = as_base({"type": "llava", "model_name_or_path": str(tmp_path / "base"), "freeze": ["vision_tower"]})
    section = {"type": kind, "targets": ["language_model"], "unfrozen": ["connector"]}
    model = adapted(section, base=base)
    disturb(model)
    save_adapted(model, str(tmp_path / "out"))
    stored = base_of(str(tmp_path / "out"))
    assert stored
    assert stored[0] == {"type": "llava", "model_name_or_path": str(tmp_path / "base")}
    again = make()
    inject_adapters(again, stored[1], stored[0])
    load_adapted(again, str(tmp_path / "out"))
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=0)
    names = load_file(tmp_path / "out" / "trained_in_full.safetensors")
    assert {name.split(".")[0] for name in names} == (
        {"connector", "language_model"} if kind == "full" else {"connector"}
    )
    with pytest.raises(ModelError, match="expected a whole model, found adapters; run mllm checkpoint merge"):
        load_llava(str(tmp_path / "out"))


def test_what_no_folder_holds_is_saved_in_full(tmp_path: Path) -> None:
    model = adapted(base={"type": "llava", "language_model": "/some/folder", "vision_tower": {"model_type": "x"}})
    save_adapted(model, str(tmp_path))
    parts = {name.split(".")[0] for name in load_file(tmp_path / "trained_in_full.safetensors")}
    assert parts == {"vision_tower", "connector"}
    in_folder = {"type": "llava", "model_name_or_path": "/some/folder"}
    model = adapted({**LORA, "unfrozen": ["embeddings"]}, base=in_folder, text="qwen2")
    save_adapted(model, str(tmp_path))
    assert set(load_file(tmp_path / "trained_in_full.safetensors")) == {"language_model.model.embed_tokens.weight"}


def test_adapters_of_another_model_are_refused(tmp_path: Path) -> None:
    save_adapted(adapted(), str(tmp_path))
    with pytest.raises(ModelError, match=r"lora_A.default.weight: \[4, 16\] instead of \[8, 16\]"):
        load_adapted(adapted({**LORA, "r": 8}), str(tmp_path))
    with pytest.raises(ModelError, match=r"missing connector.layers.0.lora_A"):
        load_adapted(adapted({**LORA, "targets": ["language_model", "connector"]}), str(tmp_path))


def test_a_base_that_is_gone(tmp_path: Path) -> None:
    save_adapted(adapted(base={"type": "llava", "model_name_or_path": "/no/such"}), str(tmp_path))
    with pytest.raises(ModelError, match=r"adapters.json: its base is gone: model_name_or_path /no/such"):
        base_of(str(tmp_path))


def test_peft_reads_what_is_saved(tmp_path: Path) -> None:
    model = adapted({**LORA, "targets": ["language_model", "connector"]})
    disturb(model)
    save_adapted(model, str(tmp_path))
    torch.testing.assert_close(logits(PeftModel.from_pretrained(make(), str(tmp_path)).get_base_model()), logits(model))


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora", "full"])
def test_merging_leaves_a_plain_model_of_the_same_logits(tmp_path: Path, kind: str) -> None:
    model = adapted({"type": kind, "targets": ["language_model", "connector"], "unfrozen": ["embeddings"]})
    disturb(model)
    expected = logits(model)
    merged = merge(model)
    torch.testing.assert_close(logits(merged), expected, rtol=1e-5, atol=1e-5)
    assert merged.state_dict().keys() == make().state_dict().keys()
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(load_llava(str(tmp_path))), expected, rtol=1e-5, atol=1e-5)


def test_a_tuning_config_adapts_the_language_model_alone(tmp_path: Path) -> None:
    model = adapted(tuning_config(tmp_path))
    assert {name.rpartition(".")[2] for name in layers(model)} == {"q_proj", "v_proj"}
    assert all(name.startswith("language_model.") for name in layers(model))
    assert {name.split(".")[0] for name in trained(model) if not is_adapter(name)} == {"connector"}
    layer = model.language_model.model.layers[0].self_attn.q_proj
    assert (layer.r["default"], layer.scaling["default"], layer.lora_dropout["default"].p) == (128, 0.5, 0.1)


def test_a_tuning_config_without_lora(tmp_path: Path) -> None:
    model = adapted(tuning_config(tmp_path, lora=False))
    assert {name.split(".")[0] for name in trained(model)} == {"connector"}
    with pytest.raises(ConfigError, match=r"tuning\.json: lora_rank: unknown name; did you mean 'lora_r'"):
        adapted(tuning_config(tmp_path, lora_rank=3))


def test_a_tuning_config_that_starts_from_adapters_of_the_language_model(tmp_path: Path) -> None:
    source = make()
    alone = get_peft_model(source.language_model, LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "v_proj"]))
    disturb(alone)
    alone.save_pretrained(str(tmp_path / "peft"))
    model = adapted(tuning_config(tmp_path, from_pretrained=str(tmp_path / "peft"), unfrozen=[]))
    torch.testing.assert_close(logits(model), logits(source))
    assert layers(model)
    assert read_adapters(tuning_config(tmp_path, from_pretrained=str(tmp_path / "peft"))).alpha == 6
