"""A tokenizer trained on the spot, for models that start from nothing: byte-level BPE, so no text is unknown."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPLIT = r" ?\d| ?\p{L}+:?| ?[^\s\p{L}\d]|\s+"
"""Digits one by one, so that coordinates are read and written digit by digit; words and signs with the space before
them, and a colon with its word, as in `USER:`."""


BLANK_CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def blank_tokenizer(vocab_size: int = 0) -> PreTrainedTokenizerFast:
    """A token for each byte, filled up to `vocab_size` with tokens that no text has; with a chat template."""
    tokenizer = train_tokenizer([], vocab_size=0)
    tokenizer.add_tokens([f"<{number}>" for number in range(len(tokenizer), vocab_size)])
    tokenizer.chat_template = BLANK_CHAT
    return tokenizer


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn at most `vocab_size` tokens from `texts`: 256 bytes, `<s>`, `</s>`, `<pad>`, the most frequent words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
