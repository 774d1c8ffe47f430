"""The contract between models and everything that trains, evaluates, saves and serves them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from mllm.conversation.preprocessing.image_preprocessor import ImagePreprocessor
from mllm.geometry import PlacementKind
from mllm.models.runtime.prefix_cache import PrefixRows
from mllm.models.vision.kept_features import KeptFeatures


class VisionLanguageModel(Protocol):
    """What the pipeline asks of a model: a `torch.nn.Module` with the following beside.

    A new model keeps it by deriving from `Composite` (a vision tower, parts between, a language model), from
    `TextModel` (a language model alone) or from `Native` (a model of transformers as it is).

    Shape suffixes: B rows, T tokens.
    """

    config: Any
    training: bool
    frozen: tuple[str, ...]
    """Parts that are not trained, and so drop nothing out."""
    kept: KeptFeatures | None
    """Features of images that the model takes from a cache, where it is told their keys; None: it makes all."""

    @property
    def generation_config(self) -> GenerationConfig: ...

    # training

    def __call__(self, input_ids: Tensor, *, labels: Tensor | None = None, **batch: Any) -> Any:
        """The `loss` of a `Batch` with labels, divided by `num_items_in_batch` or else by its labels; else `logits`.

        With `scoring` (`mllm.models.runtime.loss`) the `log_probs` and `entropies` of the labels, in place of the loss.
        """
        ...

    def check_packing(self) -> None:
        """
        Raises:
            ModelError: samples packed into one row would see each other.
        """
        ...

    @property
    def features_obstacle(self) -> str | None:
        """Why features of images cannot be kept across epochs; None: they can."""
        ...

    # evaluation

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **arguments: Any) -> Tensor:
        """The ids that continue left-padded prompts, int64 [B, new tokens].

        `arguments`: the tensors of the images, as in the `Batch`, and those of transformers' generate.
        """
        ...

    @property
    def supports_prefix_sharing(self) -> bool:
        """Whether `generate_with_shared_prefix` answers exactly as `generate` does."""
        ...

    @property
    def branches_hold_images(self) -> bool:
        """Whether the suffixes of `generate_with_shared_prefix` may hold images, too."""
        ...

    @property
    def sharing_obstacle(self) -> str | None:
        """Why prompts that begin alike cannot share one reading of the beginning; None: they can."""
        ...

    @property
    def padding_obstacle(self) -> str | None:
        """Why prompts of different lengths cannot be answered in one batch; None: they can."""
        ...

    @property
    def continuing_obstacle(self) -> str | None:
        """Why a cached prompt cannot go on by several tokens at once, as candidates do; None: it can."""
        ...

    def read_prefixes(self, input_ids: Tensor, attention_mask: Tensor, **images: Tensor) -> PrefixRows:
        """Read beginnings of prompts, which `generate_with_shared_prefix` can take.

        Args:
            input_ids: int64 [G, P], left-padded beginnings; attention_mask likewise.
            images: the tensors of their images, as in the `Batch`.

        Raises:
            ModelError: the model cannot do it exactly, see `sharing_obstacle`.
        """
        ...

    def generate_with_shared_prefix(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        suffix_ids: Tensor,
        suffix_mask: Tensor,
        suffix_prefix: Tensor,
        *,
        prefixes: PrefixRows | None = None,
        **arguments: Any,
    ) -> Tensor:
        """As `generate`, for prompts of which several begin alike: each beginning is read once.

        Args:
            input_ids: int64 [G, P], left-padded beginnings, which hold all images where not `branches_hold_images`;
                attention_mask likewise.
            suffix_ids: int64 [B, S], left-padded rests of the prompts; suffix_mask likewise. `image_index` gives the
                images of the beginnings, then those of the rests.
            suffix_prefix: int64 [B], the beginning of each.
            prefixes: the beginnings as they were read before, which this changes; `arguments` then hold no images of
                theirs.

        Raises:
            ModelError: the model cannot do it exactly, see `sharing_obstacle`.
        """
        ...

    # parts

    @property
    def part_names(self) -> Mapping[str, str]:
        """What `freeze` calls each part of the model -> the part, see `mllm.models.parts`."""
        ...

    @property
    def text_model(self) -> Any:
        """The language model."""
        ...

    def freeze(self, parts: Sequence[str]) -> None:
        """Train all parts but these.

        Raises:
            ConfigError: an unknown part.
        """
        ...

    def freeze_untrained(self) -> None:
        """Have the parts that hold no trained parameter drop nothing out."""
        ...

    def get_input_embeddings(self) -> nn.Module: ...
    def get_output_embeddings(self) -> nn.Module: ...

    # data

    def image_preprocessor(self, placement: PlacementKind | None = None) -> ImagePreprocessor:
        """How the model takes images; `placement` None: its own choice.

        Raises:
            ConfigError: it cannot place images this way.
        """
        ...

    # what a torch.nn.Module and a transformers model have anyway

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...
    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def named_modules(self) -> Iterable[tuple[str, nn.Module]]: ...
    def state_dict(self) -> dict[str, object]: ...
    def train(self, mode: bool = True) -> Any: ...
    def eval(self) -> Any: ...
    def to(self, device: torch.device) -> Any: ...
    def requires_grad_(self, requires_grad: bool = True) -> Any: ...
    def save_pretrained(self, save_directory: Any) -> None: ...
