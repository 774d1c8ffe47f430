"""Models of transformers from their folders, where no weight may be left at random."""

from __future__ import annotations

import copy
import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mllm.errors import ModelError, listing
from mllm.model_files import ADAPTER_CONFIG
from mllm.models.auto import LOCAL
from mllm.models.checkpoints.finite import require_finite_files, require_finite_model
from mllm.models.checkpoints.lazy import UNREADABLE, open_folder, why_unreadable
from mllm.models.meta_device import check_described, from_config_on_meta, without_storage
from mllm.models.vision.encoders import missing_library


def load_strictly(model_class: Any, folder: str, *, whole: bool = False, **arguments: Any) -> Any:
    """`model_class.from_pretrained`, but no weight may be left at random.

    `whole`: no weight of the folder may be left unread either.

    Raises:
        ModelError: lists all tensors that are missing, of another shape, and with `whole` unexpected; or some are nan
            or infinite.
    """
    if without_storage():
        for name in ("quantization_config", "key_mapping"):  # settle_quantization puts stand-ins; no weights are read
            arguments.pop(name, None)
        return from_config_on_meta(model_class, folder, **arguments)
    if Path(folder, ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"holds {ADAPTER_CONFIG} beside a whole model, and transformers would apply it: merge it, or move it "
            "elsewhere and name it as model_args.adapters.from_pretrained",
            where=folder,
        )
    check_described(
        folder, lambda: from_config_on_meta(model_class, folder, config=copy.deepcopy(arguments.get("config")))
    )
    try:
        with _without_report():
            model, info = model_class.from_pretrained(
                folder, ignore_mismatched_sizes=True, output_loading_info=True, **LOCAL, **arguments
            )
    except ImportError as error:
        raise missing_library("it", error).at(folder) from error
    except UNREADABLE as error:
        raise ModelError(why_unreadable(error), where=folder) from error
    wrong = [f"missing {name}" for name in sorted(info["missing_keys"])]
    wrong += [f"{name}: {list(a)} instead of {list(b)}" for name, a, b in sorted(info["mismatched_keys"])]
    if whole:
        wrong += [f"unexpected {name}" for name in sorted(info["unexpected_keys"])]
    if wrong:
        raise ModelError(f"does not hold a {type(model).__name__}: {listing(wrong)}", where=folder)
    weights = open_folder(Path(folder))
    kinds = [
        f"{name} of {str(lazy.dtype).removeprefix('torch.')}"
        for name, lazy in weights.items()
        if not lazy.dtype.is_floating_point and name.endswith((".weight", ".bias"))
    ]
    if kinds and getattr(model, "hf_quantizer", None) is None:
        raise ModelError(where=folder, field="weights", expected="floating-point numbers", found=listing(sorted(kinds)))
    if "quantization_config" in arguments:  # few bits have no nan: what was read decides
        require_finite_files(weights)
    else:
        require_finite_model(model, folder)
    return model


@contextmanager
def _without_report() -> Generator[None, None, None]:
    """Without transformers' table of tensors that do not fit, on stderr: what is wrong, `load_strictly` raises."""
    library = logging.getLogger("transformers.modeling_utils")

    def keep(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    library.addFilter(keep)
    try:
        yield
    finally:
        library.removeFilter(keep)
