"""Codec, template and placement: what the folder says, else the type of the model."""

import json
from pathlib import Path
from typing import Any

import pytest

from mllm.errors import ModelError
from mllm.model_files import PROMPT_FORMAT_FILE
from mllm.models.prompt_format import PromptFormat, model_type_of, save_prompt_format, usual_prompt_format


def test_a_type_has_its_own_template() -> None:
    assert usual_prompt_format({"type": "llava"}) == PromptFormat()
    assert usual_prompt_format({"type": "otter"}).template == "otter"
    assert usual_prompt_format({"type": "openflamingo"}).template == "completion"


def test_a_folder_says_it_better_than_its_type(tmp_path: Path) -> None:
    said = PromptFormat(codec={"type": "bins", "bins": 9}, template="otter", placement="squash")
    save_prompt_format(tmp_path, "llava", said)
    assert usual_prompt_format({"type": "llava", "model_name_or_path": str(tmp_path)}) == said
    assert model_type_of(tmp_path) == "llava"


@pytest.mark.parametrize("text", ["{", "[]", '{"colour": "red"}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / PROMPT_FORMAT_FILE).write_text(text)
    with pytest.raises(ModelError, match=PROMPT_FORMAT_FILE):
        usual_prompt_format({"type": "llava", "model_name_or_path": str(tmp_path)})


@pytest.mark.parametrize("empty", [{}, {"codec": None, "template": None}])
def test_what_a_folder_leaves_open_is_that_of_its_type(tmp_path: Path, empty: dict[str, Any]) -> None:
    (tmp_path / PROMPT_FORMAT_FILE).write_text(json.dumps({"type": "otter", **empty}))
    assert usual_prompt_format({"type": "otter", "model_name_or_path": str(tmp_path)}) == PromptFormat(template="otter")


def test_a_folder_remembers_that_images_are_called_by_number(tmp_path: Path) -> None:
    save_prompt_format(tmp_path, "llava", PromptFormat(codec="internvl", image_numbers=True))
    assert usual_prompt_format({"type": "llava", "model_name_or_path": str(tmp_path)}).image_numbers
    save_prompt_format(tmp_path, "llava", PromptFormat(codec="internvl"))
    assert "image_numbers" not in (tmp_path / PROMPT_FORMAT_FILE).read_text()
