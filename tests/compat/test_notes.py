"""Messages of libraries that are kept back, by what the libraries say today."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import pytest
from transformers import AutoConfig, TrainingArguments

from mllm.compat.notes import LOGGED, without_notes


def test_notes_are_kept_back_and_nothing_else_is(caplog: pytest.LogCaptureFixture) -> None:
    with without_notes():
        for name, text in LOGGED.items():
            logging.getLogger(name).warning("%s, and more", text)
            logging.getLogger(name).warning("something else")
    said = [record.message for record in caplog.records if record.name.startswith("bitsandbytes")]
    assert said == ["something else"]
    logging.getLogger("bitsandbytes.backends.cpu.ops").warning("%s", LOGGED["bitsandbytes.backends.cpu.ops"])
    assert len(caplog.records) > len(said)


def test_a_small_vocabulary_beside_the_usual_ids_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    library = logging.getLogger("transformers")
    library.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING, logger="transformers"):  # runs may have set another
            AutoConfig.for_model("llama", vocab_size=40, eos_token_id=66)
            assert "Model config: eos_token_id" in caplog.text
            caplog.clear()
            with without_notes():
                AutoConfig.for_model("llama", vocab_size=40, eos_token_id=66)
            assert not caplog.text
    finally:
        library.removeHandler(caplog.handler)


def test_the_old_name_of_gradient_checkpointing_is_not_spoken_of() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        TrainingArguments(gradient_checkpointing=True, use_cpu=True)
        assert said
        count = len(said)
        with without_notes():
            TrainingArguments(gradient_checkpointing=True, use_cpu=True)
        assert len(said) == count


def test_no_bars_are_drawn_into_a_file() -> None:
    drawn = "import mllm.compat.notes as n; n.draw_no_bars_into_files(); import huggingface_hub.utils as u; "
    drawn += "print(u.are_progress_bars_disabled())"
    done = subprocess.run([sys.executable, "-c", drawn], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
