"""A model without storage: what its weights are called and how large they are."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModel

from mllm.errors import ConfigError, ModelError, listing
from mllm.models.auto import build
from mllm.models.checkpoints.lazy import Weights, same_tensor


class Skeleton:
    """The names and shapes of the weights that a model of this config has.

    Attributes:
        shapes: of all of them, tied ones under each of their names.
        tied: second names, each with the first.
        tables: what has a row for each token: input embeddings, and the head with its bias.

    Raises:
        ModelError: there is no such model.
    """

    def __init__(self, config: Any) -> None:
        try:
            with torch.device("meta"):
                model: Any = build(AutoModel, config)
        except (ConfigError, ValueError) as error:
            raise ModelError(f"cannot build a model from this config: {error}") from error
        model.tie_weights()
        self.kind = type(model).__name__
        self.shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        first = {id(parameter): name for name, parameter in model.named_parameters()}
        everything = dict(model.named_parameters(remove_duplicate=False))
        self.tied = {name: first[id(p)] for name, p in everything.items() if first[id(p)] != name}
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        theirs = {id(parameter) for end in ends for parameter in end.parameters()}
        self.tables = [name for name, parameter in everything.items() if id(parameter) in theirs]

    def check(self, weights: Weights, path: str) -> None:
        """Weights and model must be of the same names and shapes.

        Raises:
            ModelError: counts and lists all that are missing, unexpected, or of another shape.
        """
        missing = [
            f"missing {name} {list(self.shapes[name])}"
            for name in self.shapes.keys() - weights.keys() - self.tied.keys()
        ]
        unexpected = [f"unexpected {name} ({weights[name].origin})" for name in weights.keys() - self.shapes.keys()]
        shapes = [
            f"{name}: {list(weights[name].shape)} instead of {list(self.shapes[name])} ({weights[name].origin})"
            for name in weights.keys() & self.shapes.keys()
            if weights[name].shape != self.shapes[name]
        ]
        if missing or unexpected or shapes:
            counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(shapes)} of another shape"
            lines = [*sorted(missing), *sorted(shapes), *sorted(unexpected)]
            raise ModelError(f"does not make a {self.kind}: {counts}: {listing(lines)}", where=str(path))

    def differing(self, weights: Weights) -> list[str]:
        """Names that the model ties to others, but whose weights are not the same as theirs."""
        return [
            name
            for name, first in self.tied.items()
            if name in weights and not same_tensor(weights[name], weights[first])
        ]
