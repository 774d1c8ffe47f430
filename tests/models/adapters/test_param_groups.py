from __future__ import annotations

from typing import Any

import pytest
import torch

from mllm.errors import ConfigError
from mllm.fields import read_section
from mllm.models.adapters.injection import inject_adapters
from mllm.models.adapters.param_groups import ParamGroupOptions, split_param_groups
from mllm.models.adapters.settings import read_adapters
from tests.models.tiny import make


def grouped(model: torch.nn.Module, rates: ParamGroupOptions) -> tuple[dict[str, tuple[float, float]], str, Any]:
    """Rate and decay by name; decay 0.1 on matrices, as the Trainer sets it."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for _, p in named if p.ndim > 1]
    rest = [p for _, p in named if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-3
    )
    table = split_param_groups(optimizer, model, rates)
    names = {id(p): name for name, p in named}
    found = [(names[id(p)], group) for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(named)
    return {name: (group["lr"], group["weight_decay"]) for name, group in found}, table, optimizer


def lora() -> Any:
    model = make()
    section = {"type": "lora", "targets": ["language_model"], "unfrozen": ["connector", "embeddings"]}
    inject_adapters(model, read_adapters(section), {})
    return model


def test_rates_by_part_group_and_pattern_the_first_winning() -> None:
    groups = {"connector": 2e-5, "q_proj": 3e-5, "adapters": 4e-5}
    found, table, optimizer = grouped(lora(), ParamGroupOptions(learning_rate_groups=groups))
    for name, (rate, _) in found.items():
        expected = 2e-5 if "connector" in name else 3e-5 if "q_proj" in name else 4e-5 if "lora" in name else 1e-3
        assert rate == expected, name
    assert optimizer.param_groups[0]["lr"] == 1e-3, "the rate that the log shows"
    assert [line.split()[0] for line in table.splitlines()[1:]] == [
        "everything",
        "adapters",
        "connector",
        "connector",
        "q_proj",
    ]


def test_one_rate_for_what_was_pretrained() -> None:
    rates = ParamGroupOptions(learning_rate_pretraining_components=1e-6, learning_rate_groups={"embeddings": 5e-4})
    for name, (rate, _) in grouped(make(), rates)[0].items():
        new = name.startswith("connector")
        assert rate == (1e-3 if new else 5e-4 if "embed_tokens" in name or "lm_head" in name else 1e-6), name
    for name, (rate, _) in grouped(lora(), rates)[0].items():
        assert rate == (5e-4 if "embed_tokens" in name or "lm_head" in name else 1e-3), name


def test_weight_decay_by_part_spares_biases_and_norms() -> None:
    found = grouped(make(), ParamGroupOptions(weight_decay_groups={"connector": 0.5, "language_model": 0}))[0]
    assert found["connector.layers.0.weight"] == (1e-3, 0.5)
    assert found["connector.layers.0.bias"] == (1e-3, 0)
    assert found["language_model.lm_head.weight"] == (1e-3, 0)
    assert found["vision_tower.encoder.embeddings.patch_embedding.weight"] == (1e-3, 0.1)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (
            {"learning_rate_groups": {"conector": 1}},
            "found 'conector', which matches none; did you mean 'connector'",
        ),
        (
            {"learning_rate_groups": {"vision_tower": 1}},
            "found 'vision_tower', which matches none; nothing of it is trained",
        ),
        (
            {"learning_rate_groups": {"connector": "fast"}},
            "learning_rate_groups.connector: expected a number of at least 0, found str 'fast'",
        ),
        ({"weight_decay_groups": [1]}, "weight_decay_groups: expected a dict"),
        (
            {"learning_rate_pretraining_components": -1},
            "learning_rate_pretraining_components: expected a number of at least 0",
        ),
    ],
)
def test_wrong_rates(rates: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grouped(lora(), read_section(rates, ParamGroupOptions))


def test_nothing_pretrained_is_trained() -> None:
    with pytest.raises(ConfigError, match="expected a pretrained parameter that is trained, found none"):
        grouped(
            make(freeze=["vision_tower", "language_model"]),
            ParamGroupOptions(learning_rate_pretraining_components=1e-6),
        )
