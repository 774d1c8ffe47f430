"""Token ids -> text, one token at a time, at a cost that does not grow with the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOW = 48
"""Tokens that are decoded again for each new one, at most about so many."""
CONTEXT = 8
"""Tokens before the window that are decoded with it: the first token of a text may lose its space."""
BYTE_TOKEN = 6
"""Characters of sentencepiece's tokens for single bytes, `<0xE4>`."""


def words_of(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """What these tokens say, as they say it: special tokens included, spaces as they are."""
    untyped: Any = tokenizer
    return untyped.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


class Detokenizer:
    """The text of tokens that come one by one; it is `words_of` all of them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._ids: list[int] = []
        self._text = ""
        """Of the tokens before the window."""
        self._start = self._context = 0
        """Where the window begins, and the context before it."""

    def add(self, token_id: int) -> str | None:
        """The text with the next token; None within a row of single bytes, which are characters only together."""
        self._ids.append(token_id)
        if self._is_byte(token_id):
            return None
        text = self.text
        moves = len(self._ids) - self._start >= WINDOW and not text.endswith("\ufffd")
        if moves and not self._is_byte(self._ids[-CONTEXT]):  # no row of bytes is torn
            self._text, self._start, self._context = text, len(self._ids), len(self._ids) - CONTEXT
        return text

    @property
    def text(self) -> str:
        """The text so far; characters of which bytes are missing at its end are U+FFFD."""
        known = words_of(self.tokenizer, self._ids[self._context : self._start])
        return self._text + words_of(self.tokenizer, self._ids[self._context :])[len(known) :]

    def _is_byte(self, token_id: int) -> bool:
        token: Any = self.tokenizer.convert_ids_to_tokens(token_id)
        return token is not None and len(token) == BYTE_TOKEN and token.startswith("<0x")
