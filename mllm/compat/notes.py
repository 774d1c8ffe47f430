"""What libraries say on stderr that no user can do anything about: each message by its beginning, with the reason."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager

LOGGED = {
    # bitsandbytes on CPUs with bfloat16: what only makes something slower that a run may never use
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
    # of the usual ids of a model type beside a small vocabulary: a new model gets its tokenizer's, and ids that are
    # given are checked against the embeddings
    "transformers.configuration_utils": "Model config: ",
}
"""Logger -> the beginning of the message."""
WARNED = (
    # gradient_checkpointing and its kin, which every bounded release of transformers takes; PEFT calls them too
    (FutureWarning, r"`\w*gradient_checkpointing\w*` is deprecated and will be removed in v6"),
)
"""Category and pattern of messages of `warnings`."""


NO_BARS = "HF_HUB_DISABLE_PROGRESS_BARS"
"""Variable that huggingface_hub, and transformers with it, reads when it is imported."""


def draw_no_bars_into_files() -> None:
    """Have transformers draw no bar of loading weights where stderr is no terminal; before it is imported."""
    if not sys.stderr.isatty():
        os.environ.setdefault(NO_BARS, "1")


class _Beginning(logging.Filter):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.text)


@contextmanager
def without_notes() -> Generator[None, None, None]:
    """Keep these messages back; no library is imported."""
    filters = {logging.getLogger(name): _Beginning(text) for name, text in LOGGED.items()}
    for library, beginning in filters.items():
        library.addFilter(beginning)
    try:
        with warnings.catch_warnings():
            for category, pattern in WARNED:
                warnings.filterwarnings("ignore", pattern, category)
            yield
    finally:
        for library, beginning in filters.items():
            library.removeFilter(beginning)
