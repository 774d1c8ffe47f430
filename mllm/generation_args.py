"""Arguments of generate(), in a config and in a folder's generation_config.json: which there are, and what they may be.

What transformers would only stumble over in the middle of a run is refused when it is read, and so is what it would
take without a word, such as `do_sample: "maybe"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from mllm.errors import ModelError
from mllm.fields import (
    FULL,
    Count,
    Fits,
    NonNegative,
    Positive,
    PositiveInt,
    Probability,
    Range,
    check,
    in_field,
    show,
)
from mllm.signatures import parameters_of

Token = Count
Tokens = Token | Annotated[Sequence[Token], FULL]
Phrase = Annotated[Sequence[Token], FULL]
Phrases = Annotated[Sequence[Phrase], FULL]
Zero = Annotated[float, Fits("0", lambda value: value == 0)]
One = Annotated[float, Fits("1", lambda value: value == 1)]
Share = Annotated[float, Range(above=0, most=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationArgs:
    """The fields of transformers' GenerationConfig; of what images in the prompt rule out, only the value for none.

    `stop_strings` is among these: the template says where an answer ends.
    """

    max_new_tokens: PositiveInt | None = None
    min_new_tokens: Count | None = None
    max_length: PositiveInt | None = None
    min_length: Count | None = None
    max_time: Positive | None = None
    stop_strings: None = None
    do_sample: bool | None = None
    num_beams: Annotated[int, Range(least=1, most=4096)] | None = None
    num_return_sequences: Literal[1] | None = None
    early_stopping: bool | Literal["never"] | None = None
    use_mtp: bool | None = None
    use_cache: bool | None = None
    cache_implementation: str | None = None
    cache_config: Mapping[str, object] | None = None
    max_cache_len: PositiveInt | None = None
    temperature: Positive | None = None
    top_k: Count | None = None
    top_p: Probability | None = None
    min_p: Probability | None = None
    top_h: Share | None = None
    typical_p: Share | None = None
    epsilon_cutoff: Probability | None = None
    eta_cutoff: Probability | None = None
    repetition_penalty: Positive | None = None
    encoder_repetition_penalty: Positive | None = None
    length_penalty: float | None = None
    guidance_scale: One | None = None
    no_repeat_ngram_size: Count | None = None
    encoder_no_repeat_ngram_size: Count | None = None
    exponential_decay_length_penalty: tuple[float, float] | None = None
    sequence_bias: Annotated[Sequence[tuple[Phrase, float]], FULL] | None = None
    watermarking_config: Mapping[str, object] | None = None
    bad_words_ids: Phrases | None = None
    suppress_tokens: Sequence[Token] | None = None
    begin_suppress_tokens: Sequence[Token] | None = None
    renormalize_logits: bool | None = None
    remove_invalid_values: bool | None = None
    token_healing: Literal[False] | None = None
    pad_token_id: Token | None = None
    bos_token_id: Tokens | None = None
    eos_token_id: Tokens | None = None
    decoder_start_token_id: Tokens | None = None
    forced_bos_token_id: Token | None = None
    forced_eos_token_id: Tokens | None = None
    return_dict_in_generate: Literal[False] | None = None
    output_attentions: Literal[False] | None = None
    output_hidden_states: Literal[False] | None = None
    output_scores: Literal[False] | None = None
    output_logits: Literal[False] | None = None
    disable_compile: bool | None = None
    compile_config: None = None
    continuous_batching_config: None = None
    prefill_chunk_size: None = None
    # of drafts by another model or by the prompt
    is_assistant: Literal[False] | None = None
    num_assistant_tokens: PositiveInt | None = None
    num_assistant_tokens_schedule: str | None = None
    assistant_confidence_threshold: Probability | None = None
    prompt_lookup_num_tokens: None = None
    max_matching_ngram_size: PositiveInt | None = None
    assistant_early_exit: PositiveInt | None = None
    assistant_lookbehind: PositiveInt | None = None
    target_lookbehind: PositiveInt | None = None
    assistant_ensemble_weight: Annotated[float, Range(above=0, below=1)] | None = None
    speculation_type: str | None = None
    # ways to search that transformers 5 has no longer
    low_memory: Literal[False] | None = None
    penalty_alpha: Zero | None = None
    dola_layers: None = None
    diversity_penalty: Zero | None = None
    num_beam_groups: Literal[1] | None = None
    constraints: None = None
    force_words_ids: None = None
    transformers_version: str | None = None


SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Read with `do_sample` only; some folders hold them without it, as 0 or 1."""
OF_BEAMS = ("early_stopping", "length_penalty")
"""Read with several beams only."""
OUTPUT = ("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate")
"""What generate() returns beside the tokens, which nothing reads."""
FRACTIONS = ("temperature", "repetition_penalty", "encoder_repetition_penalty")
"""transformers takes no whole number for these."""
MOST_TOKENS = 2**20
"""Of an answer, where the model does not say how long a text may be."""
IDS = (
    *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id"),
    *("forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids"),
)


def check_generation_file(settings: Mapping[str, object], where: str) -> None:
    """Check the settings of a generation_config.json; names that transformers does not know are left alone.

    Raises:
        ModelError: names the file and the key.
    """
    known = parameters_of(GenerationArgs)
    for name, value in settings.items():
        kind: Any = known[name].annotation if name in known else object
        if value is not None and name in OUTPUT:
            kind = bool
        elif value is not None and name in SAMPLING and settings.get("do_sample") is not True:
            kind = NonNegative
        try:
            in_field(name, check, value, kind, ModelError)
        except ModelError as error:
            raise error.at(where) from None


def check_ids(settings: Mapping[str, Any], rows: int) -> None:
    """Of a model that has so many embeddings: ids beyond them end no answer, and forbid nothing.

    Raises:
        ModelError: names the key.
    """
    biased = [phrase for phrase, _ in settings.get("sequence_bias") or ()]
    for name, ids in (*((name, settings.get(name)) for name in IDS), ("sequence_bias", biased)):
        for number in _numbers(ids):
            if number >= rows:
                raise ModelError(field=name, expected=f"ids below {rows:,}, the model's embeddings", found=show(number))


def check_room(settings: Mapping[str, Any], context: int | None) -> None:
    """Of a model that was made for texts of so many tokens, `context`; None: it does not say, and `MOST_TOKENS` counts.

    Raises:
        ModelError: an answer may become longer, of which a model that never ends it would write for ever.
    """
    most = context or MOST_TOKENS
    for name in ("max_new_tokens", "max_length"):
        if (settings.get(name) or 0) > most:
            made_for = ", the tokens that the language model was made for" if context else ""
            raise ModelError(field=name, expected=f"at most {most:,}{made_for}", found=show(settings[name]))


def as_generate_takes_them(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings without those that have no effect, and with fractions where transformers takes no whole number."""
    return with_fractions({name: value for name, value in settings.items() if not _lacks(name, settings)})


def without_effect(settings: Mapping[str, object], field: str) -> Iterator[str]:
    """What to say of each setting, in `field`, that changes nothing beside the others."""
    for name in settings:
        if needed := _lacks(name, settings):
            yield f"{field}.{name} has no effect: it needs {needed}"


def _lacks(name: str, settings: Mapping[str, object]) -> str:
    """What a setting needs and the others do not give."""
    if name in SAMPLING and not settings.get("do_sample"):
        return "do_sample=True"
    if name in OF_BEAMS and (settings.get("num_beams") or 1) == 1:
        return "num_beams above 1"
    return ""


def with_fractions(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings, with those numbers as fractions that transformers wants so."""
    return {
        name: float(value) if name in FRACTIONS and isinstance(value, int) else value
        for name, value in settings.items()
    }


def _numbers(value: object) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, (list, tuple)):
        for entry in cast("Sequence[Any]", value):
            yield from _numbers(entry)
