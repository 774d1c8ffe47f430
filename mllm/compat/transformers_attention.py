"""transformers' attention functions, which ours call where rows are not packed."""

from __future__ import annotations

from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["flex_attention_forward", "sdpa_attention_forward", "sdpa_mask"]
