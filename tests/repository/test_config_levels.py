"""Configs stay easy to follow: a leaf, its bases, and no bases of bases."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllm.config.arguments import check_training_arguments
from mllm.config.files import bases, read_file

CONFIG = Path(__file__).parents[2] / "config"
FILES = sorted(CONFIG.rglob("*.py"))


def levels(path: Path) -> int:
    return 1 + max((levels(base) for base in bases(path)), default=0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIG)))
def test_at_most_two_levels(path: Path) -> None:
    assert levels(path) <= 2


@pytest.mark.parametrize("path", sorted((CONFIG / "_base_" / "train").glob("*.py")), ids=lambda path: path.stem)
def test_training_bases_name_arguments_that_exist(path: Path) -> None:
    sections = read_file(path)
    assert set(sections) == {"training_args"}
    check_training_arguments(sections["training_args"])


def test_files_were_found() -> None:
    assert {"llava_fsdp.py", "eval.py", "tiny.py"} <= {path.name for path in FILES}
