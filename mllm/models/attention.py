"""Who sees whom in a row of several branches behind one prefix.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

from torch import Tensor


def branch_mask(segment_ids_BT: Tensor) -> Tensor:
    """bool [B, 1, T, T], True where a token (third axis) may see another (last axis).

    Segments: 0 the prefix, 1, 2, ... the branches, -1 padding. A token sees the prefix and its segment up to itself.
    """
    seen_BTT = segment_ids_BT[:, None, :] == segment_ids_BT[:, :, None]
    seen_BTT |= segment_ids_BT[:, None, :] == 0
    return seen_BTT.tril()[:, None]


def positions(attention_mask_BT: Tensor) -> Tensor:
    """int64 [B, T]: the number of each token in its row, padding left out."""
    return (attention_mask_BT.long().cumsum(1) - 1).clamp(min=0)
