"""What is built from a config, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from mllm.errors import ConfigError
from mllm.model_files import PROMPT_FORMAT_FILE
from mllm.pipeline import build as builder
from mllm.pipeline.build import build_model
from mllm.tokenizer_saving import save_tokenizer
from tests.conftest import make_tokenizer
from tests.pipeline.tiny import CONFIG


@pytest.fixture
def folder(tmp_path: Path) -> str:
    save_tokenizer(make_tokenizer(), tmp_path)
    return str(tmp_path)


def test_build_model_copies_the_vocabulary_as_often_for_any_number_of_codec_tokens(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 150,000 tokens a copy takes a tenth of a second."""
    copies: list[int] = []
    get_vocab = PreTrainedTokenizerFast.get_vocab

    def counted(self: PreTrainedTokenizerFast) -> dict[str, int]:
        copies[-1] += 1
        return get_vocab(self)

    monkeypatch.setattr(PreTrainedTokenizerFast, "get_vocab", counted)
    for bins in (8, 200):
        copies.append(0)
        codec = {"type": "bins", "bins": bins}
        processor, _ = build_model({**CONFIG["model_args"], "tokenizer": folder, "codec": codec}, {}, None)
        assert len(processor.tokenizer) >= len(make_tokenizer()) + bins
    assert copies[0] == copies[1] <= 2


@pytest.mark.parametrize(
    ("template", "chat_template", "message"),
    [
        ({"type": "chat"}, "", "has no chat template; name another template"),
        ({"type": "chat"}, "{{ raise_exception('no\nchat') }}", "refuses these 2 turns: no chat; name another"),
        ({"type": "chat", "system": "Be kind."}, "{{ messages[0].content }}", "writes all turns in their order"),
        ({"type": "chat"}, "{{ messages | unknown }}", "refuses these"),
    ],
)
def test_build_model_refuses_a_template_that_cannot_work_before_a_model_is_made(
    template: Any, chat_template: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer: Any = make_tokenizer()
    tokenizer.chat_template = chat_template or None
    save_tokenizer(tokenizer, tmp_path)
    monkeypatch.setattr(builder, "_model", lambda *given, **options: pytest.fail("a model was made"))
    with pytest.raises(ConfigError) as caught:
        build_model({**CONFIG["model_args"], "tokenizer": str(tmp_path), "template": template}, {}, None)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kept", "asked", "said"),
    [
        (
            {},
            {},
            "the model's codec and template; codec 'shikra' and template 'vicuna_v1' are assumed; if that",
        ),
        ({"template": "plain"}, {}, "the model's codec; codec 'shikra' is assumed"),
        ({"template": "plain"}, {"codec": "qwen25_vl"}, ""),
        ({"codec": None, "template": "plain"}, {}, "the model's codec; codec 'shikra' is assumed"),
        ({"codec": "shikra", "template": "plain"}, {}, ""),
    ],
)
def test_build_model_says_what_it_assumes_where_a_folder_does_not_say_how_it_is_spoken_to(
    kept: dict[str, Any], asked: dict[str, Any], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = {
        name: value for name, value in CONFIG["model_args"].items() if name not in ("tokenizer", "codec", "template")
    }
    _, model = build_model(args, {}, None, tokenizer=make_tokenizer())
    model.save_pretrained(tmp_path)
    save_tokenizer(make_tokenizer(), tmp_path)
    (tmp_path / PROMPT_FORMAT_FILE).write_text(json.dumps({"type": "llava", **kept}))
    build_model({"type": "llava", "model_name_or_path": str(tmp_path), **asked}, {}, None)
    found = [record.getMessage() for record in caplog.records if "does not record" in record.getMessage()]
    assert len(found) == bool(said)
    assert said in "".join(found)
