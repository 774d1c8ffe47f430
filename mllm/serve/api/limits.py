"""What one client may ask of the server: most bounds are flags of `mllm serve`."""

from __future__ import annotations

from dataclasses import dataclass

from mllm.fields import Positive, PositiveInt


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on requests; one that exceeds them is refused with the bound's name."""

    max_body_mb: Positive = 32.0
    """Bytes of a request, images as data URLs included, in millions."""
    max_images: PositiveInt = 16
    """Images of a conversation."""
    max_pixels: PositiveInt = 50_000_000
    """Width x height of an image."""
    max_prompt_tokens: PositiveInt = 32_768
    """Tokens of a question with all turns before it, those of the images included."""
    max_new_tokens: PositiveInt = 4_096
    """Tokens of an answer."""
    max_choices: PositiveInt = 8
    """Answers to one question (`n`)."""
    max_rows: PositiveInt = 16
    """Answers that are generated at once."""
    max_waiting: PositiveInt = 64
    """Answers that wait for a place among them; further requests are refused with 429."""
    max_batch_tokens: PositiveInt | None = None
    """Tokens of all answers that are generated at once, with their questions: a bound on memory; None: any number."""
    prefix_cache_gb: Positive = 1.0
    """Keys and values of images that were read, kept for further questions about them; of each model."""
    timeout_s: Positive = 300.0
    """Seconds for a request, from its arrival to its last token."""
    drain_s: PositiveInt = 30
    """Seconds that running requests get to finish when the server is told to stop."""
    url_timeout_s: Positive = 10.0
    """Seconds to fetch an image from a URL, where that is allowed."""
    url_mb: Positive = 16.0
    """Bytes of an image at a URL, in millions."""
    reports_mb: Positive = 1_000.0
    """Bytes of all reported answers with their images, in millions."""

    @property
    def max_body(self) -> int:
        return int(self.max_body_mb * 1e6)
