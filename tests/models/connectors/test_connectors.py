import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import gelu

from mllm.errors import ConfigError
from mllm.models.connectors.perceiver import Perceiver
from mllm.registry import CONNECTORS

DOCS = Path(__file__).parents[3] / "docs" / "mix_and_match.md"
WIDTHS = {"vision_width": 6, "text_width": 10}


def make(spec, **widths):
    torch.manual_seed(0)
    return CONNECTORS.make(spec, **{**WIDTHS, **widths})


@pytest.mark.parametrize(
    ("spec", "patches", "tokens"),
    [
        ("linear", 5, 5),
        ("mlp", 5, 5),
        ("mlp2x_gelu", 5, 5),
        ({"type": "concat"}, 36, 9),
        ({"type": "concat", "r": 3, "layers": 1}, 36, 4),
        ({"type": "concat", "r": 4, "neighbours": "row"}, 12, 3),
        ("ldp", 36, 9),
        ("ldp", 49, 16),  # an odd side rounds up
        ("perceiver", 5, 64),
        ({"type": "perceiver", "latents": 3, "heads": 4, "kv_heads": 2, "head_width": 5, "width": 8}, 7, 3),
        ({"type": "perceiver", "latents": 3, "latents_in_keys": False}, 7, 3),
    ],
)
def test_gives_as_many_tokens_of_the_language_models_width_as_it_says(
    spec: str | dict[str, Any], patches: int, tokens: int
) -> None:
    connector = make(spec)
    features = torch.randn(2, patches, 6, requires_grad=True)
    found = connector(features)
    assert found.shape == (2, tokens, 10)
    assert connector.tokens(patches) == tokens
    (found * torch.randn_like(found)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in connector.parameters())
    assert features.grad.any(-1).all(), "no patch is left out"


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_mlp_is_linear_layers_with_exact_gelus_between_them(layers: int) -> None:
    connector = make(f"mlp{layers}x_gelu")
    features = torch.randn(2, 5, 6)
    expected = connector.layers[0](features)
    for module in list(connector.layers)[2::2]:
        expected = module(gelu(expected))
    torch.testing.assert_close(connector(features), expected)
    same = make({"type": "mlp", "layers": layers})
    assert same.state_dict().keys() == connector.state_dict().keys()
    torch.testing.assert_close(same(features), expected)


def test_identity() -> None:
    features = torch.randn(2, 5, 6)
    connector = make("identity", text_width=6)
    assert connector(features) is features
    assert connector.tokens(5) == 5


def test_a_square_joins_the_patches_that_touch() -> None:
    connector = make({"type": "concat", "layers": 1}, vision_width=1)
    connector.mlp.layers[0] = torch.nn.Identity()
    rows = connector(torch.arange(16.0).view(1, 16, 1))[0]
    assert rows.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_a_row_joins_the_patches_that_follow_one_another() -> None:
    connector = make({"type": "concat", "neighbours": "row", "layers": 1}, vision_width=1)
    connector.mlp.layers[0] = torch.nn.Identity()
    assert connector(torch.arange(6.0).view(1, 6, 1))[0].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_ldp_sees_three_by_three_neighbours_twice() -> None:
    connector = make("ldp")
    features = torch.randn(1, 100, 6)
    moved = features.clone()
    moved[0, 0] += 1
    changed = (connector(features) != connector(moved)).any(-1)[0].view(5, 5)
    assert changed.nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_groups_of_queries_share_their_keys() -> None:
    """As many heads whose keys and values are the same give the same."""
    settings = {"latents": 3, "depth": 1, "heads": 4, "head_width": 5}
    grouped: Perceiver = make({"type": "perceiver", "kv_heads": 2, **settings})
    whole: Perceiver = make({"type": "perceiver", **settings})
    state = grouped.state_dict()
    for name in ("to_key", "to_value"):
        weight = state[f"layers.0.attention.{name}.weight"]
        state[f"layers.0.attention.{name}.weight"] = weight.view(2, 5, 6).repeat_interleave(2, 0).flatten(0, 1)
    whole.load_state_dict(state)
    features = torch.randn(2, 7, 6)
    torch.testing.assert_close(grouped(features), whole(features))


def test_latents_read_the_patches_in_whatever_order() -> None:
    connector = make({"type": "perceiver", "latents": 3})
    features = torch.randn(2, 7, 6)
    torch.testing.assert_close(connector(features), connector(features[:, torch.randperm(7)]))


@pytest.mark.parametrize("depth", [1, 3])
def test_without_latents_in_the_keys_each_latent_reads_alone(depth: int) -> None:
    features = torch.randn(2, 7, 6)
    for latents_in_keys in (False, True):
        connector: Perceiver = make(
            {"type": "perceiver", "latents": 3, "depth": depth, "latents_in_keys": latents_in_keys}
        )
        before = connector(features)[:, 1:]
        with torch.no_grad():
            connector.latents[0] *= -1
        assert torch.allclose(connector(features)[:, 1:], before) != latents_in_keys


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("identity", "expected vision features as wide as the language model, 10, found 6"),
        ({"type": "mlp", "layers": 0}, "layers: expected a whole number from 1 to 99, found int '0'"),
        ("mlp0x_gelu", "unknown connector type 'mlp0x_gelu'; did you mean 'mlp2x_gelu'"),
        ({"type": "mlp2x_gelu", "layers": 3}, "layers: unknown name; known: none"),
        ({"type": "concat", "r": 0}, "r: expected a whole number from 1 to 64, found int '0'"),
        ({"type": "concat", "neighbours": "column"}, "neighbours: expected one of 'square', 'row', found str 'column'"),
        ({"type": "perceiver", "heads": 8, "kv_heads": 3}, "kv_heads: expected a divisor of the 8 heads, found 3"),
        ({"type": "perceiver", "depth": 0}, "depth: expected a whole number from 1 to 256, found int '0'"),
    ],
)
def test_wrong_arguments(spec: str | dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(spec)


@pytest.mark.parametrize(
    ("spec", "patches", "message"),
    [
        ("concat", 25, "expected a multiple of r, 2, as patches along a side, found 5"),
        ({"type": "concat", "neighbours": "row"}, 25, "expected a multiple of r, 2, as patches, found 25"),
        ("concat", 37, "expected a square of patches, found 37 features"),
        ("ldp", 37, "expected a square of patches, found 37 features"),
    ],
)
def test_patches_that_do_not_fit(spec: str | dict[str, Any], patches: int, message: str) -> None:
    connector = make(spec)
    with pytest.raises(ConfigError, match=message):
        connector.tokens(patches)


def test_the_example_of_the_docs() -> None:
    (example,) = re.findall(r"```python\n(from torch.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    exec(example, {"__name__": "mine"})  # noqa: S102, our own file
    try:
        connector = make("mean")
        assert connector(torch.randn(2, 5, 6)).shape == (2, connector.tokens(5), 10)
    finally:
        del CONNECTORS.module_dict["mean"]


def test_the_docs_name_every_connector() -> None:
    own = {name for name in CONNECTORS.names() if CONNECTORS.find(name).__module__.startswith("mllm.")}
    assert own <= set(re.findall(r"`(\w+)`", DOCS.read_text(encoding="utf-8").split("## Features")[0]))
