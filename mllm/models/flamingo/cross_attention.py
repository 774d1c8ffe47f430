"""Gated cross-attention to media, put before every n-th layer of a causal language model.

Alayrac et al. 2022, Flamingo. Parameters carry the names of the OpenFlamingo checkpoints.

Shape suffixes: B rows, T tokens, S media of a row, L latents of a medium, K = S * L, H heads, E width of a head,
D width of the language model, W width of the media.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from mllm.compat.transformers_models import mark_initialised
from mllm.errors import ModelError
from mllm.models.flamingo.perceiver import feed_forward, join_heads, split_heads

Attend = Literal["immediate", "next", "all_previous", "all_previous_leaky"]
ATTEND: tuple[Attend, ...] = ("immediate", "next", "all_previous", "all_previous_leaky")
"""Which media a token reads: the last one so far (OpenFlamingo 2, Otter), the one that follows (a variant of
OpenFlamingo 1), or all so far; "leaky" has tokens with none before them read all media of the row evenly, as
OpenFlamingo's own code does in that mode."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Who belongs together in packed rows; of other rows all is one segment.

    A segment continues those that a walk through the row is in when it enters it, see `PackedAttentionMask.tour`.
    """

    enter_BT: Tensor
    """int64: when the segment of a token, or of a medium, is entered."""
    leave_BT: Tensor
    """int64: when it is left; 0 of a medium that no token reads."""

    @classmethod
    def whole(cls, like_BT: Tensor) -> Segments:
        return cls(torch.zeros_like(like_BT), torch.ones_like(like_BT))

    def sees(self, media_BS: Segments) -> Tensor:
        """bool [B, T, S]: which media stand in a token's own segment or in one that it continues, wherever."""
        now_BT1 = self.enter_BT[:, :, None]
        return (media_BS.enter_BT[:, None] <= now_BT1) & (now_BT1 < media_BS.leave_BT[:, None])


@dataclass(frozen=True, slots=True)
class Media:
    """The media of a batch of rows, and where in the text they stand."""

    latents_BSLW: Tensor
    text_time_BT: Tensor
    """int64: the medium that a token is at, counted from 1 in its row; 0 for none."""
    segments: Segments
    """Of the tokens."""
    media_segments: Segments
    attend: Attend
    blind_decoding: bool = False
    """New tokens of a cached generation read no media."""


def media_places(slots_BT: Tensor) -> Tensor:
    """int64 [B, S]: the column of each medium of a row in reading order, T where the row has no such medium."""
    tokens = slots_BT.shape[1]
    column_T = torch.arange(tokens, device=slots_BT.device)
    most = max(int(slots_BT.sum(1).max()), 1)
    return torch.where(slots_BT, column_T, tokens).sort(1).values[:, :most]


def media_segments(slots_BT: Tensor, segments: Segments) -> Segments:
    """Of each medium, [B, S]; no token reads one that the row does not have."""
    place_BS = media_places(slots_BT)
    enter_BS, leave_BS = (pad(times, (0, 1)).gather(1, place_BS) for times in (segments.enter_BT, segments.leave_BT))
    return Segments(enter_BS, leave_BS)


def media_so_far(slots_BT: Tensor, segments: Segments) -> Tensor:
    """bool [B, T, S]: which media of its own segment and of those it continues stand at a token or before it."""
    column_T1 = torch.arange(slots_BT.shape[1], device=slots_BT.device)[:, None]
    return segments.sees(media_segments(slots_BT, segments)) & (media_places(slots_BT)[:, None] <= column_T1)


def text_time(slots_BT: Tensor, attend: Attend, segments: Segments) -> Tensor:
    """The medium that each token is at, int64 [B, T], counted from 1 in the row; 0 where there is none.

    The slot's own token is at its medium. A token of a packed row is at media of its segment or of those that this
    continues.
    """
    place_B1S = media_places(slots_BT)[:, None]
    number_S = torch.arange(1, place_B1S.shape[-1] + 1, device=slots_BT.device)
    if attend != "next":
        return (media_so_far(slots_BT, segments) * number_S).amax(-1)
    column_T1 = torch.arange(slots_BT.shape[1], device=slots_BT.device)[:, None]
    ahead_BTS = segments.sees(media_segments(slots_BT, segments)) & (place_B1S >= column_T1)
    first_BT = torch.where(ahead_BTS, number_S, len(number_S) + 1).amin(-1)
    return first_BT.masked_fill(first_BT > len(number_S), 0)


class MediaState:
    """The media that the layers read in the call at hand; empty outside of it.

    Shared by all layers of a model: a language model hands nothing through its layers that it does not know.
    """

    def __init__(self) -> None:
        self.media: Media | None = None
        self.continues = False
        """Whether the tokens of the call at hand follow the text, whose keys and values are cached."""
        self.new_time_B: Tensor | None = None
        """Where set: the medium that new tokens are at, instead of that of the text's last token."""

    @contextmanager
    def reading(self, media: Media | None) -> Iterator[None]:
        self.media = media
        try:
            yield
        finally:
            self.media = self.new_time_B = None
            self.continues = False

    def for_rows(self, rows: int, tokens: int) -> tuple[Tensor, Tensor, bool] | None:
        """What a block takes beside the text, for `tokens` tokens of `rows` rows.

        Fewer tokens than the text has, and any that continue it, are the next ones of a cached generation; others are
        the text and what follows. More rows are beams: those of one row stand together.
        """
        media = self.media
        if media is None:
            return None
        known_rows, known = media.text_time_BT.shape
        if rows % known_rows:
            raise ModelError(
                expected=f"text in rows of {known_rows} or beams of them, as the media have", found=f"{rows} rows"
            )
        beams = rows // known_rows
        latents_BSLW = _repeated(media.latents_BSLW, beams)
        time_BT = _repeated(media.text_time_BT, beams)
        segments, media_segments = (_repeated_segments(each, beams) for each in (media.segments, media.media_segments))
        first = known if self.continues or tokens < known else 0
        last_time_B = time_BT[:, -1] if self.new_time_B is None else self.new_time_B
        new = first + tokens - known
        time_BT = torch.cat([time_BT, last_time_B[:, None].expand(-1, new)], 1)[:, first:]
        enter_BT, leave_BT = (
            torch.cat([times, times[:, -1:].expand(-1, new)], 1)[:, first:]
            for times in (segments.enter_BT, segments.leave_BT)
        )
        allowed_BTS = _allowed(time_BT, Segments(enter_BT, leave_BT), media_segments, media.attend)
        if media.blind_decoding and first:
            allowed_BTS = torch.zeros_like(allowed_BTS)
        return latents_BSLW, allowed_BTS, media.attend == "all_previous_leaky"


def _allowed(time_BT: Tensor, segments: Segments, media_segments: Segments, attend: Attend) -> Tensor:
    media_time_S = torch.arange(1, media_segments.enter_BT.shape[1] + 1, device=time_BT.device)
    same_BTS = segments.sees(media_segments)
    if attend in ("immediate", "next"):
        return same_BTS & (time_BT[:, :, None] == media_time_S)
    return same_BTS & (time_BT[:, :, None] >= media_time_S)


def _repeated(rows: Tensor, times: int) -> Tensor:
    return rows if times == 1 else rows.repeat_interleave(times, 0)


def _repeated_segments(segments: Segments, times: int) -> Segments:
    return Segments(_repeated(segments.enter_BT, times), _repeated(segments.leave_BT, times))


class MaskedCrossAttention(nn.Module):
    """Text attends to the latents of the media it may read."""

    def __init__(self, *, width: int, media_width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(media_width, heads * head_width * 2, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, text_BTD: Tensor, media_BSLW: Tensor, allowed_BTS: Tensor, leaky: bool = False) -> Tensor:
        """A token that may read none gets zeros; with `leaky` the mean of all media of its row."""
        none_BT1 = ~allowed_BTS.any(-1, keepdim=True)
        query_BTQ = self.to_q(self.norm(text_BTD)).masked_fill(none_BT1, 0)
        query_BHTE = split_heads(query_BTQ, self.heads)
        key_BHKE, value_BHKE = (split_heads(x, self.heads) for x in self.to_kv(media_BSLW.flatten(1, 2)).chunk(2, -1))
        # a mask without any key for a token would be NaN in some kernels; a query of zeros reads all evenly
        mask_BTK = (allowed_BTS | none_BT1).repeat_interleave(media_BSLW.shape[2], -1)
        read_BTQ = join_heads(
            scaled_dot_product_attention(query_BHTE, key_BHKE, value_BHKE, attn_mask=mask_BTK[:, None])
        )
        return self.to_out(read_BTQ if leaky else read_BTQ.masked_fill(none_BT1, 0))


class GatedCrossAttentionBlock(GradientCheckpointingLayer):
    """Cross-attention and a feed-forward layer, each behind a gate tanh(g) that starts closed, g = 0."""

    def __init__(self, *, width: int, media_width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.attn = MaskedCrossAttention(width=width, media_width=media_width, heads=heads, head_width=head_width)
        self.attn_gate = nn.Parameter(torch.zeros(1))
        self.ff = feed_forward(width)
        self.ff_gate = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        text_BTD: Tensor,
        media_BSLW: Tensor | None = None,
        allowed_BTS: Tensor | None = None,
        leaky: bool = False,
    ) -> Tensor:
        """Without media only the feed-forward layer acts, as it does on tokens that may read none."""
        if media_BSLW is not None and allowed_BTS is not None:
            text_BTD = self.attn(text_BTD, media_BSLW, allowed_BTS, leaky) * self.attn_gate.tanh() + text_BTD
        return self.ff(text_BTD) * self.ff_gate.tanh() + text_BTD


class FlamingoLayer(nn.Module):
    """A layer of the language model behind its cross-attention, where it has one."""

    def __init__(self, decoder_layer: nn.Module, block: GatedCrossAttentionBlock | None, state: MediaState) -> None:
        super().__init__()
        self.gated_cross_attn_layer = block
        self.decoder_layer = decoder_layer
        self.state = state

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.gated_cross_attn_layer is not None:
            media = self.state.for_rows(*hidden_states.shape[:2])
            hidden_states = self.gated_cross_attn_layer(hidden_states, *(media or ()))
        return self.decoder_layer(hidden_states, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Some language models read settings off their layers (Gemma 2: `attention_type`)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("decoder_layer"), name)


def insert_cross_attention(
    language_model: PreTrainedModel, *, every: int, media_width: int, heads: int = 8, head_width: int = 64
) -> MediaState:
    """Wrap every layer of a causal language model in place; layers number `every`, 2 * `every`, ... get a block.

    Raises:
        ModelError: no layers were found, or fewer than `every`.
    """
    config: Any = language_model.config.get_text_config()
    layers = decoder_layers(language_model)
    if not 1 <= every <= len(layers):
        raise ModelError(
            field="cross_attn_every_n_layers",
            expected=f"1 to {len(layers)}, the layers of the language model",
            found=str(every),
        )
    state = MediaState()
    for number, layer in enumerate(layers):
        block = None
        if (number + 1) % every == 0:
            block = GatedCrossAttentionBlock(
                width=config.hidden_size, media_width=media_width, heads=heads, head_width=head_width
            )
            mark_initialised(block)
        layers[number] = FlamingoLayer(layer, block, state)
    return state


def decoder_layers(language_model: PreTrainedModel) -> nn.ModuleList:
    """The one list of as many repeated layers as the config says.

    Raises:
        ModelError: there is none, or more than one.
    """
    config: Any = language_model.config.get_text_config()
    count = getattr(config, "num_hidden_layers", None)
    found = {
        name: module
        for name, module in language_model.named_modules()
        if isinstance(module, nn.ModuleList)
        if len(module) == count
        if all(isinstance(layer, (GradientCheckpointingLayer, FlamingoLayer)) for layer in module)
    }
    if len(found) != 1:
        raise ModelError(
            where=type(language_model).__name__,
            expected=f"one list of {count} decoder layers, for cross-attention before them",
            found=", ".join(found) or "none",
        )
    return next(iter(found.values()))


def cross_attention_blocks(language_model: nn.Module) -> list[GatedCrossAttentionBlock]:
    return [module for module in language_model.modules() if isinstance(module, GatedCrossAttentionBlock)]
