"""Tiny stand-ins, built in milliseconds: no test needs the network or a checkpoint."""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.logging import catching_logs
from hypothesis import settings
from PIL import Image

from mllm.images.settings import ImageSettings, configure
from mllm.records import read_item
from mllm.types import Item
from tests import forks

if TYPE_CHECKING:  # most tests of data, metrics and codecs need neither, whose imports take seconds
    from transformers import PreTrainedTokenizerFast

# time on a shared machine says nothing about an example
settings.register_profile("mllm", deadline=None, max_examples=30)
settings.load_profile("mllm")

CORPUS = [
    "A chat between a curious user and an artificial intelligence assistant. USER: ASSISTANT: Human: Assistant: GPT:",
    "Where is the red circle? the blue square left of the green triangle. Answer: [0.123,0.456] system user assistant",
]


def catch_logs(self: Any) -> Any:
    """What pytest does before each phase of a test, for which it looks at every logger: libraries make thousands.

    Those of torch pass nothing on either, and no test reads them.
    """
    root = logging.getLogger()
    if self.level is not None:
        self.handler.setLevel(self.level)
        self.orig_level = root.level
        root.setLevel(min(root.level, self.level))
    self.attached_loggers.extend([root, *_apart(len(root.manager.loggerDict))])
    for logger in self.attached_loggers:
        logger.addHandler(self.handler)
    return self.handler


@lru_cache(maxsize=1)
def _apart(count: int) -> list[logging.Logger]:
    """The loggers that pass nothing on to the root, found again once there are others than these `count`."""
    every = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    return [logger for logger in every if not logger.propagate and not logger.name.startswith("torch")]


catching_logs.__enter__ = catch_logs
gc.disable()  # until everything is imported: what imports make stays


def pytest_collection_finish() -> None:
    """Keep what imports made out of garbage collection, of which a run asks for several full ones; and fork from it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()
    forks.prepare()


def pytest_unconfigure() -> None:
    forks.finish()


def make_tokenizer() -> PreTrainedTokenizerFast:
    from mllm.conversation.tokenizer_training import train_tokenizer

    tokenizer = train_tokenizer(CORPUS, vocab_size=400)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    return tokenizer


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Those of the tests, of libraries and of processes that tests start are in pytest's folder of this session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        patch.setattr(tempfile, "tempdir", None)
        patch.setenv("MLLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def runs_without_plot() -> None:
    """A tiny run takes half its time for the plot of its losses: left out once it can be drawn.

    `tests/report/test_plots.py` draws, and a run in `tests/pipeline/test_finetune.py`.
    """
    if monitor := sys.modules.get("mllm.pipeline.monitor"):
        monitor.plot_losses = lambda *_: False


@pytest.fixture(autouse=True)
def garbage_is_collected_when_it_is_much() -> None:
    """At the end of each training accelerate looks at all objects of the process, most of which are not its own."""
    if memory := sys.modules.get("accelerate.utils.memory"):
        memory.gc = SimpleNamespace(collect=lambda: 0)


@pytest.fixture(autouse=True)
def configs_are_not_printed() -> None:
    """Whatever transformers loads or saves it writes the config of into a line of its log, which nobody reads here."""
    if configs := sys.modules.get("transformers.configuration_utils"):
        configs.PreTrainedConfig.__repr__ = object.__repr__


@pytest.fixture(autouse=True)
def image_settings() -> Iterator[None]:
    """Those of a new process after each test, which may have configured others."""
    bound = Image.MAX_IMAGE_PIXELS
    yield
    configure(ImageSettings())
    Image.MAX_IMAGE_PIXELS = bound


@pytest.fixture(autouse=True)
def no_autocast_is_left_on() -> Iterator[None]:
    yield
    torch = sys.modules.get("torch")
    assert torch is None or not torch.is_autocast_enabled("cpu")


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture
def uncompiled_flex(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flex attention as it is without a compiler: compiling takes many seconds, and gives no gradients on a CPU.

    PyTorch refuses these of the uncompiled one as well, before it computes them rightly.
    """
    import torch
    from torch.nn.attention import flex_attention as flex
    from transformers.integrations.flex_attention import WrappedFlexAttention

    monkeypatch.setattr(WrappedFlexAttention, "__call__", lambda self: flex.flex_attention)
    monkeypatch.setattr(flex, "_validate_device", lambda *tensors: None)
    torch.compiler.reset()  # it is traced all the same: what another test scaled by would become a variable


@pytest.fixture
def item() -> Item:
    """A photo of 40 x 20 pixels with one referred box in its right half."""
    return read_item(
        {
            "image": Image.new("RGB", (40, 20), "white"),
            "target": {"boxes": [[20, 0, 40, 20]]},
            "conversations": [
                {"from": "human", "value": "<image>\nWhere is the red circle?"},
                {"from": "gpt", "value": "Answer: <boxes> .", "boxes_seq": [[0]]},
            ],
        },
        key="photos.jsonl:1",
    )
