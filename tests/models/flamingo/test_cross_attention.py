"""Which media a token reads, against the rule spelled out token by token; and the reference's own numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from mllm.errors import ModelError
from mllm.models.flamingo.cross_attention import (
    ATTEND,
    GatedCrossAttentionBlock,
    MaskedCrossAttention,
    Media,
    MediaState,
    Segments,
    decoder_layers,
    insert_cross_attention,
    media_segments,
    text_time,
)
from mllm.models.flamingo.perceiver import PerceiverResampler
from mllm.models.runtime.packed_mask import PackedAttentionMask
from tests.models.tiny_flamingo import PARITY

REFERENCE = PARITY / "openflamingo_llama.pt"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="no numbers of the reference at hand")


@pytest.fixture(scope="module")
def reference():
    return torch.load(REFERENCE, weights_only=True)


PARENTS = {0: -1, 1: -1, 2: 1, 3: 2, 4: 1, -1: -1}
"""Segment 0 stands alone; 2 and 4 continue 1, and 3 continues 2."""


def expected(slots: list[bool], segments: list[int], attend: str) -> list[set[int]]:
    """The numbers of the media that each token of a row may read."""
    places = [place for place, slot in enumerate(slots) if slot]
    read = []
    for here, segment in enumerate(segments):
        seen = {segment}
        while (segment := PARENTS[segment]) >= 0:
            seen.add(segment)
        before = [n for n, place in enumerate(places) if place <= here and segments[place] in seen]
        after = [n for n, place in enumerate(places) if place >= here and segments[place] in seen]
        if attend == "immediate":
            read.append(set(before[-1:]))
        elif attend == "next":
            read.append(set(after[:1]))
        else:
            read.append(set(before))
    return read


def media_of(slots_BT: torch.Tensor, segments: Segments, attend: str, width: int = 4) -> Media:
    found = media_segments(slots_BT, segments)
    return Media(
        latents_BSLW=torch.randn(*found.enter_BT.shape, 2, width),
        text_time_BT=text_time(slots_BT, attend, segments),
        segments=segments,
        media_segments=found,
        attend=attend,
    )


def one_segment(slots_BT: torch.Tensor) -> Segments:
    return Segments.whole(slots_BT.long())


def parent_in(row: list[int], segment: int) -> int:
    while (segment := PARENTS[segment]) >= 0 and segment not in row:
        pass
    return segment


@settings(max_examples=30)
@given(
    st.integers(1, 9).flatmap(
        lambda length: st.lists(
            st.tuples(
                st.lists(st.booleans(), min_size=length, max_size=length),
                st.lists(st.sampled_from([0, 1, 2, 3, 4, 9]), min_size=length, max_size=length).map(sorted),
            ),
            min_size=1,
            max_size=3,
        )
    ),
    st.sampled_from(ATTEND),
)
def test_every_token_reads_what_the_rule_says(rows, attend) -> None:
    slots_BT = torch.tensor([slots for slots, _ in rows])
    length = slots_BT.shape[1]
    of = [[-1 if segment == 9 else segment for segment in row] for _, row in rows]  # padding is at the end
    # what a segment continues is in the row, or it continues what that would
    prefixes = [[parent_in(row, segment) for segment in row] for row in of]
    segments = Segments(*PackedAttentionMask(torch.tensor(of), torch.tensor(prefixes)).tour)
    state = MediaState()
    with state.reading(media_of(slots_BT, segments, attend)):
        _, allowed_BTS, leaky = state.for_rows(len(rows), length)
    assert leaky == (attend == "all_previous_leaky")
    found = [[set(token.nonzero().flatten().tolist()) for token in row] for row in allowed_BTS]
    assert found == [expected(slots, row, attend) for (slots, _), row in zip(rows, of, strict=True)]


def test_new_tokens_stand_where_the_last_one_of_the_text_does() -> None:
    slots_BT = torch.tensor([[True, False, True, False], [False, True, False, False], [False] * 4])
    state = MediaState()
    with state.reading(media_of(slots_BT, one_segment(slots_BT), "immediate")):
        _, step, _ = state.for_rows(3, 1)
        _, whole, _ = state.for_rows(3, 6)
        media, beams, _ = state.for_rows(6, 1)
        with pytest.raises(ModelError, match=r"expected text in rows of 3 .*, found 4 rows"):
            state.for_rows(4, 1)
    assert step[:, 0].tolist() == [[False, True], [True, False], [False, False]]
    assert whole[:, 4:].tolist() == [[[False, True]] * 2, [[True, False]] * 2, [[False, False]] * 2]
    assert beams[:, 0].tolist() == [row for row in step[:, 0].tolist() for _ in range(2)]
    assert media.shape[0] == 6
    assert state.for_rows(3, 4) is None, "outside of `reading` there is nothing to read"


def test_under_next_nothing_follows_the_last_medium() -> None:
    slots_BT = torch.tensor([[False, True, False]])
    state = MediaState()
    with state.reading(media_of(slots_BT, one_segment(slots_BT), "next")):
        _, allowed, _ = state.for_rows(1, 4)
    assert allowed[0, :, 0].tolist() == [True, True, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_that_may_read_nothing_gets_zeros_and_a_finite_gradient(dtype) -> None:
    attention = MaskedCrossAttention(width=8, media_width=4, heads=2, head_width=4).to(dtype)
    text = torch.randn(1, 3, 8, dtype=dtype, requires_grad=True)
    media = torch.randn(1, 2, 3, 4, dtype=dtype, requires_grad=True)
    allowed = torch.tensor([[[False, False], [True, False], [False, False]]])
    out = attention(text, media, allowed)
    assert out[0, [0, 2]].abs().max() == 0
    out.sum().backward()
    assert not text.grad[0, [0, 2]].any()
    assert not media.grad[0, 1].any()
    assert text.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in attention.parameters())


def test_leaky_tokens_read_the_mean_of_all_media() -> None:
    attention = MaskedCrossAttention(width=8, media_width=4, heads=2, head_width=4)
    text, media = torch.randn(1, 2, 8), torch.randn(1, 2, 3, 4)
    allowed = torch.tensor([[[False, False], [True, True]]])
    out = attention(text, media, allowed, leaky=True)
    values = attention.to_kv(media.flatten(1, 2)).chunk(2, -1)[1]
    torch.testing.assert_close(out[:, 0], attention.to_out(values.mean(1)))
    torch.testing.assert_close(out[:, 1], attention(text, media, allowed)[:, 1])


def test_a_language_model_without_one_list_of_layers_is_refused() -> None:
    config = AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=20)
    model = AutoModelForCausalLM.from_config(config)
    model.backbone.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
    with pytest.raises(ModelError, match=r"MambaForCausalLM: expected one list of 2 decoder layers, .* found none"):
        insert_cross_attention(model, every=1, media_width=4)


def test_layers_still_show_what_they_hold() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = AutoConfig.for_model("llama", vocab_size=20, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    first = model.model.layers[0]
    insert_cross_attention(model, every=2, media_width=4)
    wrapped = decoder_layers(model)[0]
    assert wrapped.decoder_layer is first
    assert wrapped.self_attn is first.self_attn
    with pytest.raises(AttributeError, match="nothing"):
        _ = wrapped.nothing


@needs_reference
def test_the_perceiver_is_the_references(reference) -> None:
    perceiver = PerceiverResampler(width=48)
    perceiver.load_state_dict(below("perceiver.", reference["state_dict"]))
    found = perceiver(reference["vision_tokens"][:, None]).view(2, 2, 64, 48)
    torch.testing.assert_close(found, reference["perceiver_out"], rtol=0, atol=1e-4)


@needs_reference
@pytest.mark.parametrize(
    ("name", "attend", "tokens"),
    [
        ("xattn_out_immediate", "immediate", 13),
        ("xattn_out_all_previous", "all_previous_leaky", 13),
        ("xattn_out_cached", "immediate", 3),
        ("xattn_block_out", "immediate", 13),
    ],
)
def test_cross_attention_is_the_references(reference, name: str, attend: str, tokens: int) -> None:
    block = GatedCrossAttentionBlock(width=32, media_width=48, heads=8, head_width=64)
    block.load_state_dict(below("lang_encoder.model.layers.1.gated_cross_attn_layer.", reference["state_dict"]))
    slots_BT = reference["inputs"]["input_ids"] == 98
    media = Media(
        latents_BSLW=reference["perceiver_out"],
        text_time_BT=text_time(slots_BT, attend, one_segment(slots_BT)),
        segments=one_segment(slots_BT),
        media_segments=Segments.whole(torch.zeros(2, 2, dtype=torch.long)),
        attend=attend,
    )
    state = MediaState()
    with state.reading(media):
        given = state.for_rows(2, tokens)
    module = block if name == "xattn_block_out" else block.attn
    found = module(reference["xattn_in"][:, :tokens], *given)
    torch.testing.assert_close(found, reference[name], rtol=0, atol=1e-4)


def below(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
