"""`mllm model check DIR`: the self-check of a folder with a transformers vision language model, as a table."""

from __future__ import annotations

from typing import Any

import torch
import typer
from transformers import AutoTokenizer

from mllm.model_files import reading_model_files
from mllm.models.auto import LOCAL
from mllm.models.components import local_folder
from mllm.models.native.builder import build_unchecked
from mllm.models.native.proof import proved
from mllm.models.native.self_check import CheckResult


def print_checks(folder: str, *, compute: bool) -> None:
    """Print every check; ends with status 1 where one fails."""
    folder = local_folder("folder", folder)
    with reading_model_files(folder, "its tokenizer"):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **LOCAL)
    model = build_unchecked(tokenizer=tokenizer, model_name_or_path=folder)
    if torch.cuda.is_available():
        model.to("cuda")
    checks = proved(model, tokenizer, folder, compute=compute)
    print(format_checks(model.config.model_type, checks, listed=model.family.listed))
    if any(check.failed for check in checks):
        raise typer.Exit(1)


def format_checks(kind: str, checks: list[CheckResult], *, listed: bool) -> str:
    """The checks line by line, first those that training requires."""
    width = max(len(check.name) for check in checks)
    lines = [f"{kind}, {'a family with a file' if listed else 'a family without a file, read in the generic way'}"]
    for needed in (True, False):
        chosen = [check for check in checks if check.needed == needed]
        lines += ["", "required:" if needed else "optional (off where it fails):"] if chosen else []
        lines += [f"  {check.name:<{width}}  {check.outcome:<14}  {check.why}".rstrip() for check in chosen]
    return "\n".join(lines)
