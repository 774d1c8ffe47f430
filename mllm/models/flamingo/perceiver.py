"""Perceiver resampler: features of an image, or of the frames of a video -> a fixed number of latents.

Alayrac et al. 2022, Flamingo, appendix A.1.1. Parameters carry the names of the OpenFlamingo checkpoints.

Shape suffixes: M media, F frames, P patches of a frame, L latents, K keys, H heads, E width of a head, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mllm.errors import ModelError
from mllm.fields import Range, Reads, check_arguments

Depth = Annotated[int, Range(least=1, most=256)]
Heads = Annotated[int, Range(least=1, most=1024)]
Width = Annotated[int, Range(least=1, most=65_536)]


class PerceiverResampler(nn.Module):
    """The latents read the features layer by layer.

    `max_frames` and `max_media` add learned embeddings of a frame's number in its video, and of a medium's number in
    its row; None, as in all released OpenFlamingo checkpoints, for none.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: Depth = 6,
        latents: Width = 64,
        heads: Heads = 8,
        head_width: Width = 64,
        max_frames: Width | None = None,
        max_media: Width | None = None,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.frame_embs = None if max_frames is None else nn.Parameter(torch.randn(max_frames, width))
        self.media_time_embs = None if max_media is None else nn.Parameter(torch.randn(max_media, 1, width))
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(width, heads, head_width), feed_forward(width)]) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, features_MFPD: Tensor, number_M: Tensor | None = None) -> Tensor:
        """[M, L, D]; `number_M` is each medium's number in its row, needed with `max_media` only.

        Raises:
            ModelError: more frames, or more media in a row, than there are embeddings for.
        """
        if self.frame_embs is not None:
            frames = features_MFPD.shape[1]
            _check_count("frames", frames, len(self.frame_embs))
            features_MFPD = features_MFPD + self.frame_embs[:frames, None]
        features_MKD = features_MFPD.flatten(1, 2)
        if self.media_time_embs is not None:
            assert number_M is not None, "max_media needs the number of every medium"
            _check_count("media in a row", int(number_M.max()) + 1, len(self.media_time_embs))
            features_MKD = features_MKD + self.media_time_embs[number_M]
        latents_MLD = self.latents.expand(len(features_MKD), -1, -1)
        for layer in self.layers:
            attention, mlp = layer.children()
            latents_MLD = attention(features_MKD, latents_MLD) + latents_MLD
            latents_MLD = mlp(latents_MLD) + latents_MLD
        return self.norm(latents_MLD)


def flat_frames(pixels: Tensor, frames_M: Tensor | None) -> tuple[Tensor, Tensor]:
    """Frames one after the other [N, C, H, W], and how many each medium has."""
    if pixels.dim() == 5:
        frames_M = torch.full((len(pixels),), pixels.shape[1], device=pixels.device)
        pixels = pixels.flatten(0, 1)
    elif frames_M is None:
        frames_M = torch.ones(len(pixels), dtype=torch.long, device=pixels.device)
    if int(frames_M.sum()) != len(pixels):
        raise ModelError(expected=f"{int(frames_M.sum())} frames in pixels, as the media have", found=str(len(pixels)))
    return pixels, frames_M


class PerceiverAttention(nn.Module):
    """Latents attend to the features and to themselves."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(width, heads * head_width * 2, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, features_MKD: Tensor, latents_MLD: Tensor) -> Tensor:
        latents_MLD = self.norm_latents(latents_MLD)
        keys_MKD = torch.cat([self.norm_media(features_MKD), latents_MLD], 1)
        query_MHLE = split_heads(self.to_q(latents_MLD), self.heads)
        key_MHKE, value_MHKE = (split_heads(half, self.heads) for half in self.to_kv(keys_MKD).chunk(2, -1))
        read_MHLE = scaled_dot_product_attention(query_MHLE, key_MHKE, value_MHKE)
        return self.to_out(join_heads(read_MHLE))


def feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, width * 4, bias=False),
        nn.GELU(),
        nn.Linear(width * 4, width, bias=False),
    )


def split_heads(rows_BTD: Tensor, heads: int) -> Tensor:
    return rows_BTD.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(rows_BHTE: Tensor) -> Tensor:
    return rows_BHTE.transpose(1, 2).flatten(2)


def _check_count(what: str, found: int, known: int) -> None:
    if found > known:
        raise ModelError(expected=f"at most {known} {what}, as the perceiver has embeddings for", found=str(found))


PerceiverConfig = Annotated[
    Mapping[str, Any],
    Reads("a dict of settings", lambda settings: check_arguments(settings, PerceiverResampler, also=("width",))),
]
