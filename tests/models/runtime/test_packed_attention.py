"""The two attentions of packed rows compute the same; flex attention runs uncompiled here, and compiled on a GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from mllm.errors import ModelError
from mllm.models.runtime import packed_mask
from mllm.models.runtime.packed_attention import (
    FLEX,
    PACKED,
    enable_packed_attention,
    flex_packed_attention,
    mask_arguments,
    packed_attention,
)
from mllm.models.runtime.packed_mask import PackedAttentionMask
from tests.marks import slow_but

SIZES = dict(
    vocab_size=20,
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=512,
    initializer_range=0.2,
)
MODELS = {
    "llama": dict(model_type="llama", num_key_value_heads=2),
    "odd heads": dict(model_type="llama", num_attention_heads=3, num_key_value_heads=1, hidden_size=24),
    "qwen2": dict(model_type="qwen2", num_key_value_heads=4),
    "gpt_neox": dict(model_type="gpt_neox"),
    "phi": dict(model_type="phi"),
    "window": dict(model_type="mistral", num_key_value_heads=1, sliding_window=9),
    "capped": dict(
        model_type="gemma2", num_key_value_heads=2, head_dim=8, sliding_window=9, attn_logit_softcapping=2.0
    ),
    "both": dict(
        model_type="gemma3_text",
        **dict(num_key_value_heads=2, head_dim=8, sliding_window=7),
        layer_types=["sliding_attention", "full_attention"],
    ),
}
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def make(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(**{**SIZES, **MODELS[name], **more})
    return AutoModelForCausalLM.from_config(config).eval()


def layout(*rows: list[tuple[int, int]], tokens: int) -> dict[str, torch.Tensor]:
    """Rows of (length, the segment that it continues or -1), padded to so many tokens."""
    made = {name: torch.full((len(rows), tokens), -1) for name in ("segment_ids", "prefix_ids")}
    made["position_ids"] = torch.zeros(len(rows), tokens, dtype=torch.long)
    for row, segments in enumerate(rows):
        start = 0
        for number, (length, prefix) in enumerate(segments):
            before = sum(segments[each][0] for each in line_of(segments, number)[1:])
            made["segment_ids"][row, start : start + length] = number
            made["prefix_ids"][row, start : start + length] = prefix
            made["position_ids"][row, start : start + length] = torch.arange(before, before + length)
            start += length
    return made


def line_of(segments: list[tuple[int, int]], number: int) -> list[int]:
    """A segment, what it continues, and so on."""
    found = [number]
    while segments[found[-1]][1] >= 0:
        found.append(segments[found[-1]][1])
    return found


def outcome(model: Any, rows: dict[str, torch.Tensor], by: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits where there is text, and the gradients of their weighted sum."""
    model.zero_grad()
    model.set_attn_implementation(by)
    enable_packed_attention(model)
    spans = PackedAttentionMask(rows["segment_ids"], rows["prefix_ids"])
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 20, rows["segment_ids"].shape, generator=generator).to(model.device)
    logits = model(input_ids=ids, position_ids=rows["position_ids"], use_cache=False, **mask_arguments(spans)).logits
    assert spans.read
    logits = logits[rows["segment_ids"] >= 0].float()
    (logits * torch.randn(logits.shape, generator=generator).to(logits)).sum().backward()
    return logits.detach(), {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}


TREES = [(30, -1), (11, 0), (4, 1), (5, 1), (3, 3), (8, 0), (20, -1), (1, 6)], [(90, -1), (60, 0), (20, 1), (20, 0)]
ROWS = layout(*TREES, tokens=200)


@pytest.mark.usefixtures("uncompiled_flex")
@pytest.mark.parametrize("name", slow_but([*MODELS][::3], MODELS))
def test_both_ways_give_the_same_logits_and_gradients(name: str) -> None:
    model = make(name)
    expected, wanted = outcome(model, ROWS, PACKED)
    found, gradients = outcome(model, ROWS, FLEX)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == wanted.keys()
    for parameter, gradient in gradients.items():
        scale = wanted[parameter].abs().max().clamp(min=1e-3)
        assert (gradient - wanted[parameter]).abs().max() <= 1e-5 * scale, parameter


@pytest.mark.slow
def test_compiled_for_a_cpu_it_gives_the_same_logits() -> None:
    model = make("window")
    expected, _ = outcome(model, ROWS, PACKED)
    model.requires_grad_(False)
    model.set_attn_implementation(FLEX)
    spans = PackedAttentionMask(ROWS["segment_ids"], ROWS["prefix_ids"])
    ids = torch.randint(0, 20, ROWS["segment_ids"].shape, generator=torch.Generator().manual_seed(1))
    found = model(input_ids=ids, position_ids=ROWS["position_ids"], use_cache=False, **mask_arguments(spans)).logits
    torch.testing.assert_close(found[ROWS["segment_ids"] >= 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [pytest.param(name, marks=gpu) for name in ("llama", "window", "both")])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 3e-2)])
def test_on_a_gpu_flex_attention_equals_segments(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """Tolerances are relative to the largest value; sums run in another order there, in bfloat16 rounded each time."""
    model = make(name, hidden_size=128, num_attention_heads=4, head_dim=32).to("cuda", dtype)
    for tokens in (200, 333, 512):  # compiled for any length from the second on
        rows = {key: value.cuda() for key, value in layout([(100, -1), (60, 0), (30, 0)], tokens=tokens).items()}
        expected, wanted = outcome(model, rows, PACKED)
        found, gradients = outcome(model, rows, FLEX)
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()
        for parameter, gradient in gradients.items():
            scale = wanted[parameter].abs().max().clamp(min=1e-3)
            assert (gradient - wanted[parameter]).abs().max() <= 2 * tolerance * scale, parameter


def trees(most: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """A row of (length, the segment that it continues or -1), in any order that has these first."""
    drawn = st.lists(st.tuples(st.integers(1, 6), st.floats(0, 0.99)), min_size=1, max_size=most)
    return drawn.map(
        lambda row: [(length, int(place * (number + 1)) - 1) for number, (length, place) in enumerate(row)]
    )


def sees(
    rows: dict[str, torch.Tensor], segments: list[tuple[int, int]], row: int, window: int | None, images: set[int]
) -> torch.Tensor:
    """bool [T, T], from each token to those of its segment and of all that this continues, within the window; to all
    of a segment that is among `images`.
    """
    of, position = rows["segment_ids"][row].tolist(), rows["position_ids"][row].tolist()
    found = torch.zeros(len(of), len(of), dtype=torch.bool)
    for query, segment in enumerate(of):
        line = line_of(segments, segment) if segment >= 0 else []
        for key in range(query + 1):
            found[query, key] = of[key] in line and position[query] - position[key] < (window or 1000)
        for key, other in enumerate(of):
            found[query, key] |= other == segment and segment in images
    return found


def bidirectional(rows: dict[str, torch.Tensor], images: set[int]) -> torch.Tensor:
    return torch.isin(rows["segment_ids"], torch.tensor(sorted(images), dtype=torch.long))


@settings(max_examples=20)
@given(
    rows=st.lists(trees(6), min_size=1, max_size=3),
    padding=st.integers(0, 4),
    window=st.none() | st.integers(1, 8),
    images=st.sets(st.integers(0, 5)),
    near=st.booleans(),
)
def test_a_token_sees_its_segment_and_all_that_it_continues_as_far_as_the_window(
    rows: list[list[tuple[int, int]]], padding: int, window: int | None, images: set[int], near: bool
) -> None:
    made = layout(*rows, tokens=max(sum(length for length, _ in row) for row in rows) + padding)
    together = bidirectional(made, images)
    spans = PackedAttentionMask(made["segment_ids"], made["prefix_ids"], together, only_in_windows=near)
    images = set() if near and window is None else images
    mask = spans.block_mask(window).mask_mod
    column = torch.arange(made["segment_ids"].shape[1])
    for row, segments in enumerate(rows):
        found = mask(torch.tensor(row), torch.tensor(0), column[:, None], column[None])
        assert found.diagonal().all()  # padding too: attention over nothing is not a number
        text = made["segment_ids"][row] >= 0
        assert found[text].equal(sees(made, segments, row, window, images)[text])
        assert spans.places[row].equal(made["position_ids"][row])


@settings(max_examples=20)
@given(
    rows=st.lists(trees(6), min_size=1, max_size=2),
    window=st.none() | st.integers(1, 8),
    softcap=st.none() | st.just(2.0),
    biased=st.booleans(),
    images=st.sets(st.integers(0, 5)),
    near=st.booleans(),
)
def test_segment_by_segment_a_token_attends_to_what_it_sees(
    rows: list[list[tuple[int, int]]],
    window: int | None,
    softcap: float | None,
    biased: bool,
    images: set[int],
    near: bool,
) -> None:
    """Against all pairs of tokens and a mask; a bias of keys goes with no soft cap."""
    made = layout(*rows, tokens=max(sum(length for length, _ in row) for row in rows) + 1)
    together = bidirectional(made, images)
    spans = PackedAttentionMask(made["segment_ids"], made["prefix_ids"], together, only_in_windows=near)
    images = set() if near and window is None else images
    tokens = made["segment_ids"].shape[1]
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(len(rows), 2, tokens, 4, generator=generator) for _ in range(3))
    bias = torch.randn(len(rows), 2, tokens, generator=generator) if biased and softcap is None else None
    found, _ = packed_attention(
        torch.nn.Identity(), query, key, value, None, spans, sliding_window=window, softcap=softcap, key_bias=bias
    )
    scores = query @ key.mT / 2
    scores = scores if softcap is None else softcap * (scores / softcap).tanh()
    scores = scores if bias is None else scores + bias[:, :, None]
    mask = torch.stack([sees(made, segments, row, window, images) for row, segments in enumerate(rows)])
    expected = scores.masked_fill(~mask[:, None], -1e9).softmax(-1) @ value
    text = made["segment_ids"] >= 0
    torch.testing.assert_close(found[text], expected.transpose(1, 2)[text], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled_flex")
def test_the_mask_is_made_once_for_all_layers_of_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    own = packed_mask.create_block_mask
    monkeypatch.setattr(
        packed_mask, "create_block_mask", lambda *args, **named: made.append(args) or own(*args, **named)
    )
    outcome(make("llama", num_hidden_layers=3), ROWS, FLEX)
    assert len(made) == 1
    outcome(make("both"), ROWS, FLEX)
    assert len(made) == 3


@pytest.mark.parametrize(("device", "chosen"), [("cpu", PACKED), ("cuda", FLEX)])
def test_the_device_chooses(device: str, chosen: str) -> None:
    asked: list[str] = []
    stand_in: Any = SimpleNamespace(
        can_be_packed=True,
        config=SimpleNamespace(_attn_implementation="sdpa"),
        _supports_sdpa=True,
        device=torch.device(device),
        set_attn_implementation=asked.append,
    )
    enable_packed_attention(stand_in)
    assert asked == [chosen]


def test_what_an_attention_cannot_do_is_refused() -> None:
    model = make("llama", attention_dropout=0.1)
    model.set_attn_implementation(FLEX)
    with pytest.raises(ModelError, match="'mllm_flex' trains on NVIDIA GPUs only; leave it out"):
        enable_packed_attention(model.train())
    spans = PackedAttentionMask(ROWS["segment_ids"], ROWS["prefix_ids"])
    with pytest.raises(ModelError, match=r"attention_dropout: expected 0 .*, found 0.1"):
        model(torch.zeros_like(ROWS["segment_ids"]), **mask_arguments(spans))
    states = torch.zeros(1, 2, 3, 4)
    for each in (packed_attention, flex_packed_attention):
        with pytest.raises(ModelError, match="Linear needs attention sinks, which PyTorch's attention does not have"):
            each(torch.nn.Linear(1, 1), states, states, states, None, s_aux=torch.zeros(2))


@pytest.mark.usefixtures("uncompiled_flex")
@pytest.mark.parametrize("name", ["llama", "capped"])
@pytest.mark.parametrize("by", [PACKED, FLEX])
def test_rows_without_spans_are_attended_as_ever(name: str, by: str) -> None:
    model = make(name)
    ids = torch.arange(24).view(2, 12) % 20
    mask = torch.tensor([[1] * 12, [0] * 2 + [1] * 10])
    padded, plain = model(ids, attention_mask=mask).logits, model(ids).logits
    answer = model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    model.set_attn_implementation(by)
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[mask > 0], padded[mask > 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(ids).logits, plain, rtol=1e-5, atol=1e-5)
    assert model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False).equal(answer)
