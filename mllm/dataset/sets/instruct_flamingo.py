"""Instruct-Flamingo's data: instructions with images anywhere in the text, and its configs of several such files.

Source: the README of ChenDelong1999/instruct_flamingo.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

from mllm.conversation.convention import ConventionConfig
from mllm.dataset.base import LineDataset
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.dataset.questions import plain, text_field
from mllm.dataset.sampling import Mixture, Sampling
from mllm.errors import DataError
from mllm.fields import PathName, Positive, PositiveInt, check, check_names, in_field
from mllm.json_fields import field, number
from mllm.registry import DATASETS
from mllm.types import IMAGE

CONFIG_KEYS = ("dataset_name", "json_path", "img_dir", "ratio")
IMAGE_PATH = re.compile(r"<img_path>(.*?)<img_path>")


@DATASETS.register_module()
class InstructFlamingo(LineDataset):
    """Instructions in Instruct-Flamingo's format.

    Lines: `{input, output}`, with `<img_path>a.png<img_path>` in the input for each image, or for none.

    A legacy `instruction` goes before the input, as it is. `regions` as for Instruct.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        image_folder: str | None = None,
        regions: ConventionConfig | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed, regions=regions)

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        words = field(line, "input", str)
        if "instruction" in line:
            words = field(line, "instruction", str) + words
        # an odd number of parts: words, a path, words, ...
        parts = IMAGE_PATH.split(words)
        answer = text_field(line, "output")
        if "<img_path>" in answer or any("<img_path>" in part for part in parts[::2]):
            expected = "<img_path> before and after each path, and none in the output"
            raise DataError(field="input", expected=expected, kind="image-count")
        question = IMAGE.join(plain(part, "input") for part in parts[::2])
        return {
            "images": parts[1::2],
            "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
        }


@DATASETS.register_module("InstructFlamingoMixture")
def mixture(
    *,
    filename: PathName,
    image_folder: str | None = None,
    regions: ConventionConfig | None = None,
    sampling: Sampling = "ratio",
    train_num_samples: PositiveInt | None = None,
    seed: int = 0,
) -> Mixture:
    """The datasets of a config of Instruct-Flamingo: `[{dataset_name, json_path, img_dir, ratio}]`; see `Mixture`.

    Without `train_num_samples` an epoch holds every item once, whatever the ratios, as theirs does at -1. `filename`
    may be a data file instead, whose images then are in `image_folder`. `regions` as for Instruct, of all files.

    Raises:
        DataError: names the entry and the field.
    """
    entries = IndexedJsonl(filename)
    if "json_path" not in entries[0] and "input" in entries[0]:
        alone = InstructFlamingo(filename=filename, image_folder=image_folder, regions=regions, seed=seed)
        return Mixture(datasets=[alone], train_num_samples=train_num_samples, seed=seed)
    datasets: list[InstructFlamingo] = []
    ratios: list[float] = []
    names: list[str] = []
    for place in range(len(entries)):
        entry = entries[place]
        try:
            name, path, folder, ratio = _entry(entry)
        except DataError as error:
            raise error.at(entries.where(place)) from error
        datasets.append(InstructFlamingo(filename=path, image_folder=folder, regions=regions, seed=seed))
        ratios.append(ratio)
        names.append(name or Path(path).stem)
    return Mixture(
        datasets=datasets,
        sampling=sampling,
        ratios=ratios if sampling == "ratio" and train_num_samples is not None else None,
        train_num_samples=train_num_samples,
        seed=seed,
        names=names,
    )


def _entry(entry: dict[str, Any]) -> tuple[str, str, str | None, float]:
    """Name, file, folder of the images, ratio."""
    check_names(entry, CONFIG_KEYS, DataError)
    ratio = number(entry, "ratio")
    in_field("ratio", check, ratio, Positive, DataError)
    name = field(entry, "dataset_name", str) if "dataset_name" in entry else ""
    return name, field(entry, "json_path", str), field(entry, "img_dir", str) or None, ratio
