"""Text -> token ids, a fragment at a time, each as its tokenizer reads it at that place in a longer text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from mllm.tokenizer_files import SPACES, spaces_after_special_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

Start = Literal["text", "special", "middle"]
"""Where a fragment begins: a text of its own, behind a special token, or in the middle of a text."""


class TextEncoder:
    """One tokenizer, with what follows from its vocabulary worked out once.

    sentencepiece puts a space of its own before the first word of a text, the older (legacy) folders before the first
    word behind each special token too. A fragment in the middle of a text gets none, so that it says what it says.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        untyped: Any = tokenizer
        backend: Tokenizer = untyped.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        added = {token.content: (number, token) for number, token in tokenizer.added_tokens_decoder.items()}
        self.special = {content: number for content, (number, token) in added.items() if token.special}
        unknown: Any = untyped.unk_token_id
        self._obeyed = {*self.special.values()} - {unknown}
        self._added = {content: number for content, (number, _) in added.items()}
        self._marks = re.compile("|".join(_pattern(added[content][1]) for content in _longest_first(self.special)))
        first = backend.encode("a", add_special_tokens=False).tokens[:1]
        prefixed = bool(first) and first[0].startswith(SPACES)
        bare = _without_prefix(backend) if prefixed else backend
        always = prefixed and spaces_after_special_tokens(tokenizer)
        self._backends = {"text": backend, "special": backend if always else bare, "middle": bare}
        whole: list[int] = untyped("a")["input_ids"]
        self.bos: int | None = untyped.bos_token_id
        self.adds_bos = self.bos is not None and whole[:1] == [self.bos]

    def __call__(self, text: str, start: Start) -> list[int]:
        """The ids of a text in which special tokens are spelled out, not obeyed."""
        backend = self._backends[start]
        if not self.special or not self._marks.search(text):
            return backend.encode(text, add_special_tokens=False).ids
        ids = _spelled_out(backend, text)
        if self._obeyed.isdisjoint(ids):
            return ids
        # the vocabulary holds the token as a word too, as T5's: where it is torn, nothing reads it whole
        cuts = [0, *(text.index(text[begin:end].strip(), begin) + 1 for begin, end, _ in self.marks(text)), len(text)]
        parts = [text[begin:end] for begin, end in pairwise(cuts)]
        backends = [backend, *[self._backends["middle"]] * (len(parts) - 1)]
        return [number for part, reads in zip(parts, backends, strict=True) for number in _spelled_out(reads, part)]

    def split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """The text in front of each special token, and the token's id; at last what follows, and None."""
        start = 0
        for begin, end, token in self.marks(text):
            yield text[start:begin], token
            start = end
        yield text[start:], None

    def marks(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Begin, end and id of each special token in a text, with the white space that it takes with it."""
        for match in self._marks.finditer(text) if self.special else ():
            said = match[0] if match[0] in self.special else match[0].strip()
            yield match.start(), match.end(), self.special[said]

    def token_at_end(self, text: str) -> int | None:
        """The id of the added token that the text ends in."""
        for _, end, token in self.marks(text):
            if end == len(text):
                return token
        found = [content for content in _longest_first(self._added) if text.endswith(content)]
        return self._added[found[0]] if found else None


def _spelled_out(backend: Tokenizer, text: str) -> list[int]:
    backend.encode_special_tokens = True
    try:
        return backend.encode(text, add_special_tokens=False).ids
    finally:
        backend.encode_special_tokens = False


def encoder_of(tokenizer: PreTrainedTokenizerBase) -> TextEncoder:
    """The encoder of a tokenizer, made once for each size of its vocabulary."""
    return _encoder(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _encoder(tokenizer: PreTrainedTokenizerBase, size: int) -> TextEncoder:
    return TextEncoder(tokenizer)


def _longest_first(contents: Any) -> list[str]:
    return sorted(contents, key=len, reverse=True)


def _pattern(token: Any) -> str:
    """A special token, with the white space that it takes with it."""
    blanks = r"\s*"
    return blanks * token.lstrip + re.escape(token.content) + blanks * token.rstrip


def _without_prefix(backend: Tokenizer) -> Tokenizer:
    """A tokenizer that puts no space of its own before a text.

    One that drops the white space between words (T5's) cannot say that a word goes on: there it is the same tokenizer.
    """
    from tokenizers import Tokenizer

    said = json.loads(backend.to_str())
    if '"WhitespaceSplit"' in json.dumps(said["pre_tokenizer"]):
        return backend
    for part in ("normalizer", "pre_tokenizer"):
        said[part] = _bare(said[part])
    return Tokenizer.from_str(json.dumps(said))


def _bare(node: Any) -> Any:
    """A normalizer or pre-tokenizer, as tokenizer.json describes it, without what adds a space."""
    if node is None or node["type"] == "Prepend":
        return None
    if node["type"] == "Sequence":
        name = "normalizers" if "normalizers" in node else "pretokenizers"
        return {**node, name: [bare for part in node[name] if (bare := _bare(part)) is not None]}
    if node["type"] == "Metaspace":
        return {**node, "prepend_scheme": "never"}
    return {**node, "add_prefix_space": False} if "add_prefix_space" in node else node
