"""transformers' auto classes behind one door: a folder's files are looked at first, and no code in it is ever run.

A folder may name Python files of its own (`auto_map`), which transformers would offer to run. Models that transformers
knows are read by its own classes; others are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, AutoImageProcessor, GenerationConfig

from mllm.errors import MllmError, ModelError
from mllm.files import read_json
from mllm.model_files import CONFIG, GENERATION, check_folder, reading_model_files

PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
LOCAL: dict[str, object] = {"local_files_only": True, "trust_remote_code": False}
"""For every `from_pretrained`: nothing is looked up on a hub, no code of a folder is run."""


def read_config(folder: str | Path) -> Any:
    """The config of a model's folder.

    Raises:
        ModelError: it is not there, asks for something out of bounds, or is of a model that transformers does not know.
    """
    check_folder(folder)
    path = Path(folder) / CONFIG
    found = read_json(path, dict, ModelError)
    model_type = found.get("model_type")
    if model_type not in CONFIG_MAPPING:
        why = "its own code (auto_map) is never run" if "auto_map" in found else ""
        raise ModelError(
            why, where=str(path), field="model_type", expected="one that transformers knows", found=repr(model_type)
        )
    with reading_model_files(path):
        return AutoConfig.from_pretrained(folder, **LOCAL)


def config_for(model_type: str, settings: Mapping[str, object], where: str | Path, error: type[MllmError]) -> Any:
    """The config of these settings, which stand at `where`."""
    with reading_model_files(where, f"a config of {model_type}", error=error):
        return AutoConfig.for_model(model_type, **settings)


def build(auto_class: Any, config: Any, **chosen: Any) -> Any:
    """A model of one of the auto classes with random weights."""
    return auto_class.from_config(config, trust_remote_code=False, **chosen)


def read_generation_config(folder: str | Path) -> GenerationConfig | None:
    """The settings of generation that a folder holds; None where it holds none."""
    if not (Path(folder) / GENERATION).is_file():
        return None
    check_folder(folder)
    with reading_model_files(Path(folder) / GENERATION):
        return GenerationConfig.from_pretrained(folder, local_files_only=True)


def read_image_processor(folder: str | Path, **chosen: object) -> Any:
    """The image processor of a folder, in the version that needs no torchvision.

    Raises:
        ModelError: there is none, it cannot be read, or it is made for torchvision alone, which is not installed.
    """
    with reading_model_files(folder, "its image processor", PROCESSORS):
        try:
            return AutoImageProcessor.from_pretrained(folder, backend="pil", **LOCAL, **chosen)
        except ValueError as error:
            if "torchvision" in str(error) and find_spec("torchvision") is None:
                raise ModelError("its image processor needs torchvision; install it", where=str(folder)) from error
            raise
