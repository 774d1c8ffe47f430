"""What a score is of: model, data, prompt, reading and versions, as `results.json` names them beside it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mllm.dataset.resolution import resolutions_in
from mllm.pipeline.manifest import digest

PACKAGES = ("mllm", "torch", "transformers", "tokenizers", "accelerate", "peft", "pillow", "numpy")
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")


def of_model(model_args: Mapping[str, Any]) -> dict[str, Any]:
    """The type of a model, the folder it is loaded from, and a hash of the weights there."""
    folder = model_args.get("model_name_or_path")
    known = {"type": model_args.get("type"), "model_name_or_path": folder}
    if folder and Path(folder).is_dir():
        known["weights"] = _hash(
            f"{path.name} {digest(path)}" for pattern in WEIGHTS for path in sorted(Path(folder).glob(pattern))
        )
    return known


def of_data(items: Any) -> dict[str, Any]:
    """How many items a dataset has, the first question, a hash of all questions, regions and truths, how items were
    drawn where not all are evaluated, and in which resolution of its own its images are seen."""
    first, count = "", 0

    def texts() -> Iterable[str]:
        nonlocal first, count
        for item in (items[index] for index in range(len(items))):
            first, count = first or item.prompt[-1].text, count + 1
            yield repr((item.turns, item.boxes, item.points, item.truth))

    found = _hash(texts())
    more = {"drawn": drawn_from(items), "resolution": [one.given for one in resolutions_in(items)]}
    return {
        **{"items": count, "hash": found, "first_question": first},
        **{name: value for name, value in more.items() if value},
    }


def drawn_from(items: Any) -> list[dict[str, object]]:
    """Of each part that was drawn of a dataset, how, and of how many items; empty where all are evaluated."""
    own = getattr(items, "drawn", None)
    found = [{**own, "of": len(items.dataset)}] if own else []
    inner = getattr(items, "datasets", None) or ([items.dataset] if hasattr(items, "dataset") else [])
    return found + [each for dataset in inner for each in drawn_from(dataset)]


def of_machine(device: torch.device, processes: int, dtype: torch.dtype) -> dict[str, object]:
    """Versions of what computes, and on what."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "device": f"{device.type} ({name})",
        "processes": processes,
        "dtype": str(dtype).removeprefix("torch."),
    }


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def to_json(value: object) -> Any:
    """A config section as JSON holds it."""
    return json.loads(json.dumps(value, default=str))


def _hash(texts: Iterable[str]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for text in texts:
        found.update(text.encode("utf-8", errors="backslashreplace") + b"\n")
    return found.hexdigest()
