"""The tensors that an image processor makes, through batches: images of all shapes side by side.

A view gives each tensor of an image as a row of numbers and its shape, so that those of several images can be joined
along the first dimension whatever their shapes; the model's own layout comes back when all images of a batch are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import pad

Tensors = Mapping[str, Tensor]
SHAPE = "_shape"
"""Behind the name of a tensor: the name of its shape."""


def flat(tensors: Tensors) -> dict[str, Tensor]:
    """The tensors of one image: the numbers [N] under their name, the shape int64 [1, dimensions] beside them."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found[name] = tensor.reshape(-1)
        found[name + SHAPE] = torch.tensor([tensor.shape])
    return found


def flat_names(tensors: Mapping[str, object]) -> list[str]:
    """Names of the tensors that `flat` made, and of their shapes, among others."""
    return [name for name in tensors if name.endswith(SHAPE) or name + SHAPE in tensors]


def split_images(images: Tensors) -> list[dict[str, Tensor]]:
    """What `flat` made of each image, joined -> the tensors of each image."""
    found: list[dict[str, Tensor]] = []
    for name in [name for name in images if name + SHAPE in images]:
        shapes: list[list[int]] = images[name + SHAPE].tolist()
        found = found or [{} for _ in shapes]
        parts = images[name].split([prod(shape) for shape in shapes])
        for image, part, shape in zip(found, parts, shapes, strict=True):
            image[name] = part.reshape(shape)
    return found


def join_images(images: Sequence[Tensors]) -> dict[str, Tensor]:
    """The images of a batch along the first dimension, the others filled up with zeros at their end.

    That is how processors join images: what was filled up is told by sizes or masks beside the pixels. What no image
    has, such as the tiles of small ones, is left out.
    """
    of = {name: [image[name] for image in images if len(image[name])] for name in images[0]}
    return {name: _joined(tensors) for name, tensors in of.items() if tensors}


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    if len({tensor.shape[1:] for tensor in tensors}) == 1:
        return torch.cat(list(tensors)) if len(tensors) > 1 else tensors[0]
    largest = [max(sides) for sides in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    filled: list[Tensor] = []
    for tensor in tensors:
        missing = [most - side for most, side in zip(largest, tensor.shape[1:], strict=True)]
        filled.append(pad(tensor, [number for most in reversed(missing) for number in (0, most)]))
    return torch.cat(filled)
