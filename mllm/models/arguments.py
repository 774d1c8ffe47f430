"""What the keys of model_args may hold that several types of model share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from mllm.compat.transformers_models import known_attentions
from mllm.errors import ConfigError, nearest, one_line
from mllm.fields import FULL, Count, Fits, Probability, Range, Reads, check, check_names, in_field, show
from mllm.models.runtime.packed_attention import FLEX, PACKED
from mllm.models.vision.encoders import missing_library

Spec = (
    Annotated[str, Fits("a folder", bool)]
    | Annotated[Mapping[str, Any], Reads("a dict with 'model_type'", lambda spec: check_spec(spec))]
)
"""A local checkpoint folder, or the arguments of a transformers config, `model_type` among them: random weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTokenizer:
    """A tokenizer that is trained on the texts of `data_args.train`."""

    vocab_size: Annotated[int, Range(least=300, most=1_000_000)]


RowMultiple = Annotated[int, Range(least=1, most=65_536)]
"""What the number of embeddings is rounded up to."""
OfPixels = Annotated[float, Range(least=-1_000, most=1_000)]
Spread = Annotated[float, Range(least=0.000_001, most=1_000)]
Dtype = Literal["float32", "bfloat16", "float16", "auto"]
Attention = Annotated[str, Reads("the name of an attention", lambda name: check_attention(name))]
Mean = tuple[OfPixels, OfPixels, OfPixels]
Deviation = tuple[Spread, Spread, Spread]
"""Of pixels, per channel."""
TokenizerConfig = Annotated[str, Fits("a folder", bool)] | NewTokenizer
Checkpoint = Annotated[str, Fits("a file", bool)] | Annotated[Sequence[str], FULL]
"""A file, or several that are loaded one over the other, as a list or as "a.pt,b.pt"."""
ATTENTIONS = ("eager", PACKED, FLEX)
"""Beside transformers' own."""
LARGEST_SETTING, MOST_LAYERS = 100_000_000, 1_000
"""No number of heads, tokens or features is larger, no model deeper."""
OPTIONAL = re.compile("shared|regist|first_k|dense_(layers|replace)|nextn|offset|per_layer_input|window|padding|start")
"""What a model may have none of, though by default it has some."""
DECLARED: Mapping[str, object] = {
    "architectures": Sequence[str] | None,
    "dtype": Literal["float32", "float64", "bfloat16", "float16"] | None,
    "transformers_version": str,
}
"""What config.json says of itself, and what that may be; `model_args` decides."""
OLD_NAMES = ("rope_theta", "rope_scaling")
"""Settings that transformers still takes under these names."""


def check_spec(spec: Mapping[str, Any]) -> None:
    """Check the settings of a transformers config, whose model gets random weights.

    Raises:
        ConfigError: an unknown `model_type` or setting, or a number that is out of range.
    """
    rest = dict(spec)
    if "model_type" not in rest:
        raise ConfigError(expected="a folder, or a dict with 'model_type'", found=show(spec))
    in_field("model_type", _find_model_type, rest.pop("model_type"))
    try:
        defaults = AutoConfig.for_model(spec["model_type"])
    except ImportError as error:
        raise missing_library(spec["model_type"], error) from error
    except (ValueError, StrictDataclassError) as error:
        raise ConfigError(f"{spec['model_type']} has no defaults: {one_line(error)}", field="model_type") from error
    # of those that every config has, none says what the model is: a whole config.json may hold them as they usually are
    common = PreTrainedConfig().to_dict()
    for name in DECLARED.keys() & rest.keys():
        in_field(name, check, rest.pop(name), DECLARED[name])
    rest = {name: value for name, value in rest.items() if (name, value) not in common.items()}
    known = {name: usual for name, usual in defaults.to_dict().items() if name not in common}
    # transformers would take a misspelt size without a word, and use its own
    check_names(rest, {*known, *defaults.attribute_map, *OLD_NAMES})
    for name, value in rest.items():
        own = defaults.attribute_map.get(name, name)
        usual = known.get(own)
        if own.endswith("_token_id") and value != usual:  # a negative number would be read as counted from the end
            in_field(name, check, value, Count | Sequence[Count] | None)
        kind = _kind(own, usual, isinstance(value, (int, float)))
        in_field(name, check, value, kind)


def _kind(name: str, usual: object, is_number: bool) -> Any:
    """What a setting of a config may be, by its usual value; where that says nothing, transformers checks it."""
    if isinstance(usual, bool):
        return bool
    if isinstance(usual, int) and usual > 0 and not name.endswith("_id"):
        return Annotated[
            int, Range(least=int(not OPTIONAL.search(name)), most=MOST_LAYERS if "layer" in name else LARGEST_SETTING)
        ]
    if isinstance(usual, float):
        if "drop" in name:
            return Probability
        return Annotated[float, Range(above=0 if "eps" in name else -LARGEST_SETTING, most=LARGEST_SETTING)]
    if isinstance(usual, str):
        return str
    if isinstance(usual, Mapping):
        return Mapping[Any, Any] | None
    if isinstance(usual, (list, tuple)):
        return Sequence[Any] | int | None
    return Annotated[float, Range(least=-LARGEST_SETTING, most=LARGEST_SETTING)] | bool if is_number else Any


def _find_model_type(model_type: object) -> None:
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        hint = nearest(str(model_type), CONFIG_MAPPING)
        raise ConfigError(hint, expected="one that transformers knows", found=show(model_type))


def check_attention(name: str) -> None:
    """Raises ConfigError unless transformers knows the attention; one of the hub's kernels is not looked up."""
    known = (*ATTENTIONS, *known_attentions())
    if name not in known:
        raise ConfigError(nearest(name, known), expected="an attention of transformers", found=show(name))
