"""Parts that a config describes beside the folder of a whole model."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from mllm.errors import ConfigError
from mllm.pipeline.build import build_model
from mllm.pipeline.replaced_parts import difference
from mllm.pipeline.run_checks import check_model_args
from tests.pipeline.tiny import CONFIG, save_stand_in

PARTS = {name: CONFIG["model_args"][name] for name in ("vision_tower", "connector", "language_model", "tokenizer")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("whole")
    save_stand_in(path)
    return str(path)


def built(folder: str, **parts: Any) -> None:
    build_model(
        {"type": "llava", "codec": "shikra", "template": "plain", **parts, "model_name_or_path": folder}, {}, None
    )


def test_parts_that_are_the_folders_are_named_without_a_warning(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mllm"):
        built(folder, **PARTS)
    said = [record.getMessage() for record in caplog.records if "is used with its own" in record.getMessage()]
    assert said == [
        f"{folder} is used with its own vision_tower, language_model, connector, tokenizer, not the config's"
    ]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"connector": "mlp2x_gelu"},
            "model_args.connector is not used: connector.type is asked for as str 'mlp2x",
        ),
        ({"feature_layer": -1}, "model_args.feature_layer is not used: feature_layer is asked for as int '-1'"),
        ({"keep_cls": True}, "model_args.keep_cls is not used: keep_cls is asked for as bool 'True'"),
        ({"image_mean": [0.1, 0.2, 0.3]}, "image_mean is asked for as list '[0.1, 0.2, 0.3]'"),
        (
            {"language_model": {**PARTS["language_model"], "num_hidden_layers": 3}},
            "model_args.language_model is not used: language_model.num_hidden_layers is asked for as int '3'",
        ),
        (
            {"vision_tower": {"model_type": "siglip_vision_model"}},
            "tower.model_type is asked for as str 'siglip",
        ),
    ],
)
def test_a_part_that_differs_from_the_folders_is_warned_of(
    parts: dict[str, Any], said: str, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    built(folder, **parts)
    warnings = [record.getMessage() for record in caplog.records if record.name.endswith("replaced_parts")]
    assert len(warnings) == 1
    assert said in warnings[0]
    assert folder in warnings[0]


def test_difference_leaves_out_what_cannot_be_compared() -> None:
    config = SimpleNamespace(connector={"type": "linear"}, image_mean=(0.5,) * 3, vision_config={"model_type": "x"})
    for name, asked in (
        ("tokenizer", {"vocab_size": 3}),
        ("vision_tower", "/some/folder"),
        ("vision_tower", [{"model_type": "x"}, {"model_type": "y"}]),
        ("vision_tower", {"model_type": "x", "not_kept": 1}),
        ("image_mean", [[0.1, 0.1, 0.1], [0.2, 0.2, 0.2]]),
        ("image_mean", [0.5, 0.5, 0.5]),
        ("connector", "linear"),
    ):
        assert difference(name, asked, config) is None


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("hf", "vision_tower", "/a/folder"),
        ("seq2seq", "connector", "linear"),
        ("llava", "perceiver", {"depth": 2}),
        ("otter", "feature_layer", -2),
    ],
)
def test_a_part_that_the_type_has_not_is_refused_beside_a_folder_too(
    kind: str, name: str, value: Any, folder: str
) -> None:
    with pytest.raises(ConfigError, match=f"model_args.{name}: unknown name"):
        check_model_args({"type": kind, "model_name_or_path": folder, name: value})


def test_a_part_is_checked_beside_a_folder_too(folder: str) -> None:
    for name, value in (("vision_tower", 7), ("connector", {"type": "linear", "depth": 1}), ("feature_layer", "last")):
        with pytest.raises(ConfigError, match=f"model_args.{name}"):
            check_model_args({"type": "llava", "model_name_or_path": folder, name: value})
