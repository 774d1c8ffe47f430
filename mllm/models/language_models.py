"""Which of transformers' causal language models can stand behind an image, and what each of them can do exactly.

Three things save work: prompts of different lengths in one batch (padded on the left), prompts that share one reading
of their beginning, and training samples packed into one row. Each is exact for plain attention. Linear layers, state
spaces and masks of a model's own may mix in what does not belong there. `tests/models/test_language_models.py`
compares all types of transformers with the same prompts alone; `docs/mix_and_match.md` has its table.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args, get_type_hints

from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DummyLayer, DynamicIndexedLayer, DynamicLayer, DynamicSlidingWindowLayer

from mllm.compat.transformers_generation import CACHE
from mllm.compat.transformers_models import is_stateful
from mllm.errors import ConfigError
from mllm.fields import show

_ENCODER = "is an encoder: its tokens attend to later ones"
_DECODER = "is the decoder of a model with an encoder; type='seq2seq' trains such a model on text"
_READS_IDS = "reads the ids of its tokens beside their embeddings, and the features of an image have no ids"
_NO_GENERATION = "cannot generate from embeddings, which is what an image gives"
_DRAFT = "drafts tokens for a larger model, and is none by itself"
UNFIT = {
    **dict.fromkeys(
        (
            *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
            *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm", "xlm-roberta"),
            *("xlm-roberta-xl", "xlnet", "xmod"),
        ),
        _ENCODER,
    ),
    **dict.fromkeys(
        (
            *("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "musicgen"),
            *("musicgen_melody", "mvp", "pegasus", "plbart", "prophetnet", "trocr", "whisper"),
        ),
        _DECODER,
    ),
    **dict.fromkeys(("blt", "cpmant", "deepseek_v4", "gemma3n_text", "git"), _READS_IDS),
    **dict.fromkeys(("ctrl", "openai-gpt", "reformer"), _NO_GENERATION),
    "moshi": "answers otherwise with a cache than without one, beyond its window (transformers 5.23)",
    **dict.fromkeys(("gemma4_assistant", "gemma4_unified_assistant"), _DRAFT),
}
"""Types that `AutoModelForCausalLM` makes and that are no language model here, with the reason."""
OWN_MASKS = {"doge": "leaves keys out with its own mask", "gpt_neo": "counts its window by columns of the cache"}
"""Types whose attention looks plain and is not, with the reason."""
UNLEARNED = {
    **dict.fromkeys(("afmoe", "ernie4_5_moe", "laguna"), r"\.(?:expert_bias|e_score_correction_bias)$"),
    **dict.fromkeys(
        ("axk2", "deepseek_v32", "dots3_note_text", "glm_moe_dsa", "hy_v4", "qwen4_exp_text"), r"\.self_attn\.indexer\."
    ),
    "hrm_text": r"\.z_L_init$",
    "phi4_multimodal": r"\.embed_tokens_extend\.",
}
"""Types with weights that no loss of text reaches: they choose experts or keys, or are of speech; by which names."""
DROPS_ARGUMENTS = ("falcon", "nemotron", "stablelm")
"""Types whose layers hand nothing on to their attention, so that it does not learn of packed rows."""
PADS = (
    *("bailing_hybrid", "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "inkling2_text", "inkling_text"),
    *("jamba", "kimi_linear", "lfm2", "lfm2_moe", "lfm3", "mamba", "mamba2", "minimax", "nemotron_h", "olmo_hybrid"),
    *("qwen3_5_moe_text", "qwen3_5_text", "qwen3_next", "qwen4_exp_text", "zamba", "zamba2", "zaya"),
)
"""Types with a state that tokens masked out leave as it is."""
BASE_ATTRIBUTES = {"llama4_text": "model"}
"""Types whose `base_model_prefix` is no attribute of theirs, with the name that is."""
HANDS_ON = ("bamba", "falcon_h1", "nemotron_h", "zamba", "zamba2")
"""Types whose `prepare_inputs_for_generation` takes embeddings, though its signature does not say so."""
ONE_BEAM = ("rwkv", "xlstm")
"""Types whose state has no place in transformers' cache."""
POSITIONS = ("wpe", "embed_positions", "positions_embed", "position_embeddings")
"""What tables of positions are called: of GPT-2, of OPT and GPT-J, of GPT, of others."""
ATTENTION = (DynamicLayer, DynamicSlidingWindowLayer, DynamicIndexedLayer, DummyLayer)
"""What keeps keys and values and nothing else, or nothing at all."""


def language_half(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config that `AutoModelForCausalLM` makes a language model of: of a larger model that of its language model.

    Raises:
        ConfigError: no causal language model, or none that images can be put before.
    """
    text: Any = config.get_text_config(decoder=True)
    for each in (config, text):
        if each.model_type in UNFIT:
            raise ConfigError(f"language_model: {each.model_type} {UNFIT[each.model_type]}")
    if getattr(text, "hidden_size_per_layer_input", 0):  # the small ones of Gemma 4
        raise ConfigError(f"language_model: {text.model_type} {_READS_IDS}")
    if type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(f"language_model: {text.model_type} is not a causal language model of transformers")
    if text.model_type == "xlstm":
        _check_xlstm(text)
    made: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(text)]
    if not any(attending_layers(text)) and "position_ids" in inspect.signature(made.forward).parameters:
        raise ConfigError(f"language_model: {text.model_type} cannot generate without a layer of attention")
    if text is config:
        return config
    made = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if getattr(made, "config_class", None) is type(text):
        return config  # of which the auto class takes the language model by itself
    text.tie_word_embeddings = config.tie_word_embeddings  # what the larger model says counts
    return text


def _check_xlstm(config: PreTrainedConfig) -> None:
    """Of some sizes transformers 5.23 trains a model whose cache has others, so that it cannot generate.

    Raises:
        ConfigError: names the setting.
    """
    for name, whole in (("qk_dim_factor", config.qk_dim), ("v_dim_factor", config.v_dim)):
        width = int(config.hidden_size * getattr(config, name))
        if width != whole or config.num_heads < 1 or width % config.num_heads:
            raise ConfigError(
                field=f"language_model.{name}",
                expected=f"a multiple of 64, and of num_heads {config.num_heads}, as hidden_size times {name}",
                found=f"{config.hidden_size} * {getattr(config, name)} = {width}",
            )
    for name, value in (
        ("embedding_dim", config.hidden_size),
        ("num_blocks", config.num_hidden_layers),
        ("mode", "inference"),
    ):
        if getattr(config, name) != value:
            raise ConfigError(
                "xlstm cannot generate otherwise",
                field=f"language_model.{name}",
                expected=repr(value),
                found=show(getattr(config, name)),
            )


def language_weight_patterns(text: PreTrainedConfig) -> dict[str, str]:
    """Patterns of the names that a larger model has for the weights of its language model, with those it has alone."""
    prefix = layers_name(text)
    return {
        r"^(model\.)?language_model\.lm_head\.": "lm_head.",
        rf"^(model\.)?language_model\.({prefix}\.)?": f"{prefix}.",
    }


def layers_name(config: PreTrainedConfig) -> str:
    """The attribute of a causal language model that holds all of it but the head."""
    made: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return BASE_ATTRIBUTES.get(config.model_type) or made.base_model_prefix


def cache_obstacle(language_model: PreTrainedModel) -> str | None:
    """Why a model of transformers that looks for keys and values in the outputs of this one cannot hold it."""
    layers = getattr(language_model, layers_name(language_model.config))
    outputs = get_type_hints(type(layers).forward).get("return")
    if any(CACHE in getattr(kind, "__dataclass_fields__", ()) for kind in get_args(outputs) or (outputs,)):
        return None
    return f"{_kind(language_model)} keeps a state of its own instead of keys and values"


def sharing_obstacle(language_model: PreTrainedModel) -> str | None:
    """Why prompts that begin alike cannot share one reading of their beginning; None: they can, exactly."""
    if state := _state(language_model):
        return state
    if not takes_positions(language_model):
        return f"{_kind(language_model)} counts positions by what its cache holds"
    if any(type(layer) is DynamicSlidingWindowLayer for layer in cache_layers(language_model)):
        return f"{_kind(language_model)} has layers with a window, whose cache forgets the beginning"
    return _own_mask(language_model)


def packing_obstacle(language_model: PreTrainedModel) -> str | None:
    """Why samples packed into one row would see each other; None: they do not, or the attention refuses by itself."""
    if state := _state(language_model):
        return state
    kinds = {type(layer) for layer in cache_layers(language_model)}
    if DynamicIndexedLayer in kinds:
        return f"{_kind(language_model)} chooses the keys of a row with its own index"
    if _kind(language_model) in DROPS_ARGUMENTS:
        return f"{_kind(language_model)} does not pass its arguments on to its attention"
    if any(getattr(module, "sinks", None) is not None for module in language_model.modules()):
        return f"{_kind(language_model)} has attention sinks, which PyTorch's own attention lacks"
    if "chunked_attention" in (getattr(_text_config(language_model), "layer_types", None) or ()):
        return f"{_kind(language_model)} has layers whose attention is cut into chunks"
    return _own_mask(language_model)


def padding_obstacle(language_model: PreTrainedModel) -> str | None:
    """Why padding before a prompt would change its answer; None: it does not."""
    state = _state(language_model)
    return None if _kind(language_model) in PADS else state


def continuing_obstacle(language_model: PreTrainedModel) -> str | None:
    """Why a cached prompt cannot go on by several tokens at once; None: it can, exactly."""
    return _state(language_model)


def beams_obstacle(language_model: PreTrainedModel) -> str | None:
    """Why beam search cannot go on from the cache of its best beams; None: it can."""
    kind = _kind(language_model)
    return f"transformers cannot reorder the state of {kind}" if kind in ONE_BEAM else None


def attending_layers(config: PreTrainedConfig) -> list[bool]:
    """Of each layer of a language model: whether it attends to keys, its own or those of another layer."""
    layers = DynamicCache(config=config).layers
    shared = getattr(config, "kv_sharing_modes", None) or ["own"] * len(layers)
    return [
        isinstance(layer, DynamicLayer) or (isinstance(layer, DummyLayer) and mode == "reuse")
        for layer, mode in zip(layers, shared, strict=True)
    ]


def takes_positions(language_model: PreTrainedModel) -> bool:
    """Whether positions are given; MPT and others like it count them by what their own cache holds."""
    return "position_ids" in inspect.signature(type(language_model).forward).parameters


def context_of(language_model: nn.Module | None) -> int | None:
    """The tokens that a language model was made for; None: it does not say.

    Rotary positions go on beyond; answers make no sense there.
    """
    config: Any = getattr(language_model, "config", None)
    tokens = 0 if config is None else getattr(config.get_text_config(), "max_position_embeddings", None) or 0
    return tokens if tokens > 0 else None  # XLNet's is -1


def position_limit(language_model: nn.Module | None) -> int | None:
    """How many tokens a decoder can read: None: any number. Some have a table of positions."""
    config: Any = getattr(language_model, "config", None)
    if language_model is None or config is None or config.is_encoder_decoder:
        return None
    if config.model_type == "mpt":  # its biases are those of so many distances
        return config.max_seq_len
    if config.model_type == "xlstm":  # transformers 5.23 reads more in chunks, between which it rounds the state
        return config.max_inference_chunksize
    return table_limit(language_model)


def freeze_unlearned(model: nn.Module) -> None:
    """Freeze the weights of a language model that never have a gradient: DDP would wait for it in vain."""
    kinds = {module.config.model_type for module in model.modules() if isinstance(module, PreTrainedModel)}
    patterns = [UNLEARNED[kind] for kind in kinds & UNLEARNED.keys()]
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in patterns):
            parameter.requires_grad_(False)


def table_limit(stack: nn.Module) -> int | None:
    """How many positions the table of an encoder or a decoder has; None: it has no table."""
    config: Any = stack.config
    tables = [name for name, module in stack.named_modules() if isinstance(module, nn.Embedding)]
    tables += [name for name, _ in stack.named_buffers()]
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit is None or not any(name.rpartition(".")[2] in POSITIONS for name in tables):
        return None
    if config.model_type == "prophetnet":  # it counts from behind the padding token, and its decoder looks one ahead
        return limit - config.pad_token_id - 1 - config.is_decoder
    return limit


def cache_layers(language_model: PreTrainedModel) -> list[Any]:
    """What transformers' own cache keeps of each layer."""
    return DynamicCache(config=language_model.config).layers


@contextmanager
def taking_embeddings(language_model: Any) -> Iterator[None]:
    """While `generate` runs: let it see that the model takes embeddings, where only its signature hides it."""
    own = language_model.prepare_inputs_for_generation
    if _kind(language_model) not in HANDS_ON or "inputs_embeds" in inspect.signature(own).parameters:
        yield
        return

    def prepare_inputs_for_generation(input_ids: object, inputs_embeds: object = None, **kwargs: object) -> Any:
        return own(input_ids, inputs_embeds=inputs_embeds, **kwargs)

    language_model.prepare_inputs_for_generation = prepare_inputs_for_generation
    try:
        yield
    finally:
        del language_model.prepare_inputs_for_generation


def _state(language_model: PreTrainedModel) -> str | None:
    """What the model remembers beside keys and values."""
    other = [layer for layer in cache_layers(language_model) if type(layer) not in ATTENTION]
    if is_stateful(language_model) or other:
        return f"{_kind(language_model)} has layers that keep a state (linear attention, convolution, state space)"
    return None


def _own_mask(language_model: PreTrainedModel) -> str | None:
    kind = _kind(language_model)
    return f"{kind} {OWN_MASKS[kind]}" if kind in OWN_MASKS else None


def _kind(language_model: PreTrainedModel) -> str:
    return _text_config(language_model).model_type


def _text_config(language_model: PreTrainedModel) -> Any:
    return language_model.config.get_text_config()
