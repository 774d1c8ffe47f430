"""What importing a module brings with it: nothing that changes outside of it, and no neighbour."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.slow
WALK = """
import gc, importlib, json, logging, os, pkgutil, random, signal, sys, threading, warnings
import accelerate, bitsandbytes, datatrove.executor, fsspec, matplotlib.pyplot, mmengine.config, mmengine.registry
import peft, PIL.Image, PIL.ImageFile, torch, torch._dynamo, transformers, transformers.integrations.flex_attention
import transformers.trainer_seq2seq
from transformers.models.auto import auto_factory, configuration_auto, modeling_auto

ours = []
for name in ("register_at_fork",):
    setattr(os, name, lambda **given: ours.append(name))


def mappings():
    for name in dir(transformers):
        auto = getattr(transformers, name) if name.startswith("Auto") else None
        mapping = getattr(auto, "_model_mapping", None)
        if mapping is not None:
            kept = {config: kind for config, kind in mapping._extra_content.items() if "mllm." not in str(config)}
            yield name, str(kept)
    yield "AutoConfig", str([name for name in transformers.CONFIG_MAPPING._extra_content if "mllm" not in name])


def state():
    loggers = {name: logger for name, logger in logging.root.manager.loggerDict.items() if hasattr(logger, "handlers")}
    return {
        "auto classes": dict(mappings()),
        "attention": {
            name: str(function)
            for name, function in transformers.AttentionInterface._global_mapping.items()
            if not name.startswith("mllm_")
        },
        "loggers": {
            name: [str(logger.handlers), logger.level, logger.propagate, logger.disabled]
            for name, logger in {"root": logging.root, **loggers}.items()
            if logger.handlers or logger.level
        },
        "warnings": [str(each) for each in warnings.filters],
        "environment": dict(os.environ),
        "signals": {str(each): str(signal.getsignal(each)) for each in signal.valid_signals()},
        "Pillow": [PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES, PIL.Image.WARN_POSSIBLE_FORMATS],
        "hooks": [str(each) for each in (sys.excepthook, threading.excepthook, sys.meta_path, sys.path_hooks)],
        "path": list(sys.path),
        "torch": [
            torch.get_num_threads(), str(torch.get_default_dtype()), str(torch.get_default_device()),
            torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(), torch.initial_seed(),
            torch.backends.cuda.matmul.allow_tf32, torch.multiprocessing.get_sharing_strategy(),
        ],
        "random": [hash(random.getstate()), hash(torch.get_rng_state().numpy().tobytes())],
        "start method": torch.multiprocessing.get_start_method(allow_none=True),
        "garbage": [gc.isenabled(), *gc.get_threshold(), gc.get_freeze_count()],
        "forks": list(ours),
    }


before = state()
import mllm
from mllm.registry import MODELS

MODELS.find("llava")
with_llava = [name for name in sys.modules if name.startswith("mllm.")]
names = [module.name for module in pkgutil.walk_packages(mllm.__path__, "mllm.")]
for name in names:
    importlib.import_module(name)
after = state()
changed = {name: [before[name], after[name]] for name in before if before[name] != after[name]}
print(json.dumps({"count": len(names), "changed": changed, "with llava": with_llava}))
"""


@pytest.fixture(scope="module")
def walked() -> dict[str, Any]:
    """What a process of its own finds, since the other tests have imported everything."""
    ran = subprocess.run([sys.executable, "-c", WALK], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_importing_every_module_leaves_the_process_as_it_was(walked: dict[str, Any]) -> None:
    assert walked["count"] > 200
    assert walked["changed"] == {}


def test_find_llava_imports_no_neighbour(walked: dict[str, Any]) -> None:
    loaded = {*walked["with llava"]}
    assert "mllm.models.llava.builder" in loaded
    assert not {"mllm.models.flamingo.model", "mllm.models.native.model", "mllm.models.connectors.ldp"} & loaded
