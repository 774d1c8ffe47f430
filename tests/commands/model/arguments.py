"""Training arguments of runs that write nothing."""

from __future__ import annotations

from typing import Any

from transformers import Seq2SeqTrainingArguments


def args_of(**arguments: Any) -> Seq2SeqTrainingArguments:
    return Seq2SeqTrainingArguments(output_dir="unused", use_cpu=True, **arguments)
