"""Tiny text-to-text models, and labelled rows for them."""

from __future__ import annotations

import torch

from mllm.registry import MODELS
from tests.models.tiny import make_tokenizer

SIZES = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}


FAMILIES = {
    "t5": {"model_type": "t5", "feed_forward_proj": "gated-gelu", **SIZES},
    "flan_t5": {"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, **SIZES},
    "mt5": {"model_type": "mt5", **SIZES},
    "umt5": {"model_type": "umt5", **SIZES},
}


IDS = torch.tensor([[5, 6, 7, 8, 2, 9, 10, 2], [11, 12, 2, 13, 2, 3, 3, 3]])


MASK = (IDS != 3).long()


LABELS = torch.tensor([[-100] * 5 + [9, 10, 2], [-100] * 3 + [13, 2] + [-100] * 3])


ROWS = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}


def make(family="t5", **arguments):
    torch.manual_seed(0)
    given = arguments or {"language_model": FAMILIES[family]}
    return MODELS.make({"type": "seq2seq", **given}, tokenizer=make_tokenizer())
