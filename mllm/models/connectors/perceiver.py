"""A fixed number of learned queries read the image, however many patches it has.

The resampler of Flamingo (Alayrac et al. 2022, arXiv 2204.14198). With fewer `kv_heads` than `heads`, groups of queries
share a key and a value, as in the resampler of Idefics2 (Laurençon et al. 2024, arXiv 2405.02246).

Shape suffixes: M images, P patches, L latents, K keys, N heads, G heads of keys and values, D width, H head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mllm.errors import ConfigError
from mllm.models.flamingo.perceiver import Depth, Heads, Width
from mllm.registry import CONNECTORS


@CONNECTORS.register_module("perceiver")
class Perceiver(nn.Module):
    """A perceiver resampler: a fixed number of tokens, whatever the number of patches.

    [M, P, vision_width] -> [M, latents, text_width].

    Args:
        vision_width: given by the vision tower.
        text_width: given by the language model.
        latents: tokens of an image.
        depth: layers of attention and feed-forward.
        heads: of the queries.
        head_width: of each head.
        kv_heads: heads of the keys and values, each shared by a group of queries; default: one for each query head.
        latents_in_keys: the latents attend to one another too, as in Flamingo.
        width: inside; default: that of the features, else they are projected first.

    Raises:
        ConfigError: heads that do not part into groups.
    """

    def __init__(
        self,
        *,
        vision_width: int,
        text_width: int,
        latents: Width = 64,
        depth: Depth = 2,
        heads: Heads = 8,
        head_width: Width = 64,
        kv_heads: Heads | None = None,
        latents_in_keys: bool = True,
        width: Width | None = None,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        width = vision_width if width is None else width
        if heads % kv_heads:
            raise ConfigError(field="kv_heads", expected=f"a divisor of the {heads} heads", found=str(kv_heads))
        self.project = nn.Identity() if width == vision_width else nn.Linear(vision_width, width)
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.layers = nn.ModuleList(
            _Layer(width, heads, kv_heads, head_width, latents_in_keys=latents_in_keys) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.to_text = nn.Linear(width, text_width)

    def tokens(self, patches: int) -> int:
        """Tokens of an image: as many as latents."""
        return len(self.latents)

    def forward(self, features_MPD: Tensor) -> Tensor:
        features_MPD = self.project(features_MPD)
        latents_MLD = self.latents.expand(len(features_MPD), -1, -1)
        for layer in self.layers:
            latents_MLD = layer(latents_MLD, features_MPD)
        return self.to_text(self.norm(latents_MLD))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, head_width: int, *, latents_in_keys: bool) -> None:
        super().__init__()
        self.attention = _Attention(width, heads, kv_heads, head_width, latents_in_keys=latents_in_keys)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, latents_MLD: Tensor, features_MPD: Tensor) -> Tensor:
        latents_MLD = latents_MLD + self.attention(latents_MLD, features_MPD)
        return latents_MLD + self.feed_forward(latents_MLD)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, head_width: int, *, latents_in_keys: bool) -> None:
        super().__init__()
        self.head_width = head_width
        self.latents_in_keys = latents_in_keys
        self.features_norm = nn.LayerNorm(width)
        self.latents_norm = nn.LayerNorm(width)
        self.to_query = nn.Linear(width, heads * head_width, bias=False)
        self.to_key = nn.Linear(width, kv_heads * head_width, bias=False)
        self.to_value = nn.Linear(width, kv_heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, latents_MLD: Tensor, features_MPD: Tensor) -> Tensor:
        latents_MLD = self.latents_norm(latents_MLD)
        read_MKD = self.features_norm(features_MPD)
        if self.latents_in_keys:
            read_MKD = torch.cat([read_MKD, latents_MLD], dim=1)
        query_MNLH = self._heads(self.to_query(latents_MLD))
        key_MGKH, value_MGKH = self._heads(self.to_key(read_MKD)), self._heads(self.to_value(read_MKD))
        grouped = query_MNLH.shape[1] != key_MGKH.shape[1]
        read_MNLH = scaled_dot_product_attention(query_MNLH, key_MGKH, value_MGKH, enable_gqa=grouped)
        return self.to_out(read_MNLH.transpose(1, 2).flatten(2))

    def _heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
