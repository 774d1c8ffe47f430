"""A tiny folder of a causal language model, as it would be downloaded."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from mllm.conversation.tokenizer_training import train_tokenizer
from tests.conftest import CORPUS

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_text(folder: Path, *, model_type: str = "olmo2", chat: bool = True, tied: bool = False) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(CORPUS, vocab_size=400)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML if chat else None
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    sizes = {**SIZES, "num_key_value_heads": 1, "initializer_range": 0.2, "tie_word_embeddings": tied}
    config = AutoConfig.for_model(model_type, vocab_size=len(tokenizer), **ids, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
