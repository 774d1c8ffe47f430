"""RICES: demonstrations whose images are like the one that is asked about, by the features of a vision encoder.

Yang et al. 2022, An Empirical Study of GPT-3 for Few-Shot Knowledge-Based VQA (arXiv 2109.05014); Alayrac et al. 2022,
Flamingo, appendix A.2. OpenFlamingo takes the image embedding of CLIP ViT-L/14.

Shape suffixes: M images, Q that are asked about, N that may be shown, C channels, H height, W width, D features.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm
from transformers import AutoModel, PreTrainedModel

from mllm.cache import cache_folder, complete, one_at_a_time
from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.errors import ConfigError, ModelError
from mllm.fields import PathName, PositiveInt, show
from mllm.images import FileImage, ImageRef, UrlImage
from mllm.images.names import name_of
from mllm.models.auto import read_config
from mllm.models.components import image_statistics, local_folder
from mllm.models.strict_loading import load_strictly
from mllm.models.vision.encoders import native_size, vision_half
from mllm.registry import SIMILARITIES

logger = logging.getLogger(__name__)
FILE = "features.npy"
ROWS = 256
"""Images that are compared with all others at once."""


@SIMILARITIES.register_module("rices")
class Rices:
    """Cosine similarity of image features.

    Args:
        vision_tower: the folder of a text-image model (CLIP, SigLIP), whose image embedding is taken, or of a vision
            encoder with a pooled output.
        batch_size: images that are encoded at once.

    Images are cropped as CLIP's preprocessing does, and encoded in float32. Features of images in files are kept in
    the cache, and processes on one machine compute them once.
    """

    def __init__(self, *, vision_tower: PathName, batch_size: PositiveInt = 64) -> None:
        self.folder = local_folder("vision_tower", vision_tower)
        self.batch_size = batch_size

    def nearest(self, asked: Sequence[ImageRef], shown: Sequence[ImageRef], count: int) -> NDArray[np.int64]:
        """int64 [Q, count]: of each image the indices of those in `shown` most similar to it, the most similar first.

        Of equally similar ones those that come first in `shown` are taken.

        Raises:
            ConfigError: the encoder gives no feature of the whole image.
            ImageError: an image cannot be read.
            ModelError: the folder does not hold such a model, or its features are not finite.
        """
        distinct = list(dict.fromkeys((*asked, *shown)))
        number_of = {ref: number for number, ref in enumerate(distinct)}
        features_MD = self._features(distinct)
        places: dict[int, list[int]] = {}
        for place, ref in enumerate(shown):
            places.setdefault(number_of[ref], []).append(place)
        images = np.array(list(places))
        found: list[list[int]] = []
        for start in range(0, len(asked), ROWS):
            rows_QD = features_MD[[number_of[ref] for ref in asked[start : start + ROWS]]]
            order_QN = np.argsort(-(rows_QD @ features_MD[images].T), axis=1, kind="stable")[:, :count]
            for order in order_QN:
                found.append([place for image in images[order].tolist() for place in places[image]][:count])
        return np.array(found, np.int64).reshape(len(asked), count)

    def _features(self, refs: Sequence[ImageRef]) -> NDArray[np.float32]:
        """float32 [M, D], of length 1."""
        key = self._key(refs)
        if key is None:
            return self._encoded(refs)
        target = cache_folder() / f"rices.{key}.{FILE}"
        with one_at_a_time(target):
            found = _kept(target, len(refs))
            if found is None:
                found = self._encoded(refs)
                with complete(target, "image features") as file:
                    np.save(file, found)
        return found

    def _key(self, refs: Sequence[ImageRef]) -> str | None:
        """Of the features of these images, as their files are now; None where one may change unnoticed."""
        if not all(isinstance(ref, (FileImage, UrlImage)) for ref in refs):
            return None
        digest = hashlib.sha256()
        weights = sorted(path for path in Path(self.folder).resolve().iterdir() if path.is_file())
        files = [Path(ref.path) if isinstance(ref, FileImage) else None for ref in refs]
        for name, path in [*((str(path), path) for path in weights), *zip(map(name_of, refs), files, strict=True)]:
            state = path.stat() if path is not None and path.is_file() else None
            digest.update(f"{name}\0{state.st_size if state else 0}\0{state.st_mtime_ns if state else 0}\n".encode())
        return digest.hexdigest()[:24]

    def _encoded(self, refs: Sequence[ImageRef]) -> NDArray[np.float32]:
        config = read_config(self.folder)
        encoder = vision_half(config)
        mean, std = image_statistics(self.folder, encoder)
        size = native_size(encoder)
        if size is None:
            raise ConfigError(
                field="vision_tower", expected="an encoder made for one size of images", found=show(encoder.model_type)
            )
        view = SquarePreprocessor(size=size, mean=mean, std=std, tokens=1, placement="crop")
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
        model = load_strictly(AutoModel, self.folder, config=config, dtype=torch.float32).eval().to(device)
        logger.info("image features of %d images by %s", len(refs), self.folder)

        def seen(ref: ImageRef) -> Tensor:
            return view(ref.open())["pixels"]

        found: list[Tensor] = []
        starts = range(0, len(refs), self.batch_size)
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool, torch.no_grad():
            for start in tqdm(starts, desc="image features", unit="batch", disable=None):
                pixels_MCHW = torch.cat(list(pool.map(seen, refs[start : start + self.batch_size]))).to(device)
                features_MD = self._pooled(model, pixels_MCHW).float()
                found.append(torch.nn.functional.normalize(features_MD, dim=-1).cpu())
        features = torch.cat(found).numpy()
        if not np.isfinite(features).all():
            raise ModelError(where=self.folder, expected="image features that are finite", found="nan or infinite ones")
        return features

    def _pooled(self, model: PreTrainedModel, pixels_MCHW: Tensor) -> Tensor:
        embed = getattr(model, "get_image_features", None)
        if embed is None and "pixel_values" not in inspect.signature(model.forward).parameters:
            expected, found = "a text-image model or a vision encoder", show(model.config.model_type)
            raise ConfigError(field="vision_tower", expected=expected, found=found)
        features = (embed or model)(pixel_values=pixels_MCHW).pooler_output
        if features is None:
            raise ConfigError(
                field="vision_tower",
                expected="an encoder with a feature of the whole image",
                found=f"{type(model).__name__}, which has none",
            )
        return features


def _kept(file: Path, images: int) -> NDArray[np.float32] | None:
    """The features in a file of the cache; None where there are none, or others, or it was cut."""
    if not file.is_file():  # a pipe would be waited for
        return None
    try:
        found: Any = np.asarray(np.lib.format.open_memmap(file, mode="r"))
    except (OSError, ValueError):
        return None
    fits = found.dtype == np.float32 and found.ndim == 2 and len(found) == images and np.isfinite(found).all()
    return found if fits else None
