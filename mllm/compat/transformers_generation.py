"""The steps of transformers' `generate`, for a loop of our own in their place.

`missing_steps` says whether they are there; where they are not, `generate` decodes by itself.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
"""What models call their cache, as an argument and in their outputs: `past_key_values` before transformers 5.24."""
PRIVATE_STEPS = ("_prefill", "_update_model_kwargs_for_generation", "_beam_search")


def missing_steps() -> list[str]:
    """Names that a loop of our own needs and this version of transformers lacks."""
    return [name for name in PRIVATE_STEPS if not hasattr(GenerationMixin, name)]


def prefill(model: Any, input_ids: Tensor, generation_config: GenerationConfig, arguments: dict[str, Any]) -> Any:
    """What the model says of whole prompts: logits, and a cache of them."""
    return model._prefill(input_ids, generation_config, arguments)


def arguments_after(model: Any, outputs: object, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the next step: mask and positions are one longer, the cache is that of `outputs`."""
    return model._update_model_kwargs_for_generation(
        outputs, arguments, is_encoder_decoder=model.config.is_encoder_decoder
    )


def faster_steps(model: PreTrainedModel) -> AbstractContextManager[object]:
    """Around steps of one token: experts are computed in the way that suits few tokens, where transformers has one."""
    return getattr(model, "_optimize_model_for_decode", nullcontext)()


def beam_search(model: Any, input_ids: Tensor, **arguments: Any) -> Tensor:
    """The ids of the best beam of each prompt; arguments are those that `generate` gives its `custom_generate`."""
    return type(model)._beam_search(model, input_ids, **arguments)
