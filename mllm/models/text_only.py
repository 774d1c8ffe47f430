"""A language model of transformers alone, in whose own layout it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from mllm.compat.transformers_models import shard_by
from mllm.conversation.preprocessing.image_preprocessor import ImagePreprocessor, NoView
from mllm.errors import ConfigError
from mllm.geometry import PlacementKind
from mllm.models.composite import TextModel, sharding_units

INNER = "language_model."
"""Before each name of the language model's own."""


class TextOnlyModel(TextModel):
    """Around one of transformers' models, which takes no images."""

    part_names: ClassVar[Mapping[str, str]] = {"language_model": "language_model"}

    def __init__(self, inner: Any) -> None:
        super().__init__(inner.config)
        self.language_model = inner
        self.post_init()
        self.loss_type = "ForCausalLM"  # labels are counted from the second token of a row on, as of other models
        shard_by(self, sharding_units(self))
        self.register_load_state_dict_pre_hook(_as_ours)

    def image_preprocessor(self, placement: PlacementKind | None = None) -> ImagePreprocessor:
        return NoView()

    def save_pretrained(self, save_directory: Any, is_main_process: bool = True, **arguments: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A folder that transformers' auto class loads."""
        state: Mapping[str, Tensor] = arguments.pop("state_dict", None) or self.state_dict()
        inner = {name.removeprefix(INNER): tensor for name, tensor in state.items()}
        self.language_model.save_pretrained(save_directory, is_main_process, state_dict=inner, **arguments)


def check_one_source(kind: str, model_name_or_path: object, language_model: object) -> None:
    """
    Raises:
        ConfigError: a model of this type is to come from nowhere, or from a folder and a config at once.
    """
    if (model_name_or_path is None) == (language_model is None):
        found = "neither" if language_model is None else "both"
        expected = f"either model_name_or_path or language_model, for {kind}"
        raise ConfigError(field="model_args", expected=expected, found=found)


def _as_ours(module: TextOnlyModel, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Checkpoints are saved under transformers' names, and tied tensors under one of theirs."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        if not name.startswith(prefix + INNER):
            state_dict[prefix + INNER + name.removeprefix(prefix)] = state_dict.pop(name)
    own = list(module.named_parameters(prefix=prefix.rstrip("."), remove_duplicate=False))
    found = {id(parameter): state_dict[name] for name, parameter in own if name in state_dict}
    for name, parameter in own:
        if name not in state_dict and id(parameter) in found:
            state_dict[name] = found[id(parameter)]
