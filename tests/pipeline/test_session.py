"""One question to a trained model, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm import cli
from mllm.errors import DataError, ModelError
from mllm.pipeline.builder import build_model
from mllm.pipeline.session import Session
from mllm.registry import DATASETS
from mllm.types import Box
from tests.pipeline.tiny import SCENES, write_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, training_args={"output_dir": str(folder / "model"), "save_steps": 2})
    assert cli.main(["train", str(config), "--save_strategy", "steps"]) == 0
    return folder / "model"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    DATASETS.make({**SCENES, "count": 1})[0].images[0].open().save(path)
    return path


def test_a_folder_says_how_its_model_is_spoken_to(trained: Path) -> None:
    for folder in (trained, trained / "checkpoint-2"):
        session = Session.load(folder)
        assert session.processor.codec.tokens[-1] == "<bin_16>"
        assert session.processor.stop == "</s>"


def test_another_codec_than_the_trained_one_is_said(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    build_model({"type": "llava", "model_name_or_path": str(trained), "codec": "shikra"}, {}, None)
    assert "trained with codec {'type': 'bins', 'bins': 17}; this run uses shikra" in caplog.text


def test_the_answer_is_that_of_the_pipeline(trained: Path) -> None:
    """The prediction file of an evaluation holds the same text for the same question and picture."""
    items = DATASETS.make({**SCENES, "count": 1, "seed": 2})
    turns = items[0].prompt
    session = Session.load(trained)
    answer = session.ask(turns[0].text, [items[0].images[0].open()], generation={"max_new_tokens": 8})
    out = trained.parent / "predicted"
    command = ["predict", str(trained / "config.py"), "--output_dir", str(out), "--cfg-options"]
    options = [f"model_args.model_name_or_path={trained}", "data_args.test.count=1", "data_args.multitest={}"]
    assert cli.main([*command, *options]) == 0
    line = json.loads((out / "test_extra_prediction.jsonl").read_text().splitlines()[0])
    assert answer.text == line["text"]


def test_questions_hold_pictures_and_boxes(trained: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session.load(trained)
    asked: list[str] = []
    generate = session.model.generate

    def spy(input_ids: Any, **arguments: Any) -> Any:
        asked.append(session.processor.tokenizer.decode(input_ids[0]))
        return generate(input_ids, **arguments)

    monkeypatch.setattr(session.model, "generate", spy)
    session.ask("What is in <boxes>?", [photo], boxes=[(0, 0, 32, 32)])
    assert asked[0].count("<image>") == 4
    assert "<bin_0><bin_0><bin_16><bin_16>" in asked[0].replace(" ", "")
    with pytest.raises(DataError, match="1 <boxes> in the text, 0 box"):
        session.ask("What is in <boxes>?", [photo])


def test_the_command_prints_and_draws(
    trained: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Session.ask

    def with_a_box(self: Session, *args: Any, **kwargs: Any) -> Any:
        from dataclasses import replace

        return replace(found(self, *args, **kwargs), text="there", boxes=(Box(x1=4, y1=5, x2=20, y2=21),))

    monkeypatch.setattr(Session, "ask", with_a_box)
    drawn = tmp_path / "drawn.png"
    command = ["predict", "--model", str(trained), "--image", str(photo), "--prompt", "<image>the color is"]
    assert cli.main([*command, "--draw", str(drawn), "--template", "completion"]) == 0
    assert capsys.readouterr().out.splitlines() == ["there", "box   4.0 5.0 20.0 21.0", str(drawn)]
    picture = Image.open(drawn)
    assert picture.getpixel((10, 5)) == picture.getpixel((4, 12)) == (230, 25, 75)
    assert picture.getpixel((10, 10)) == Image.open(photo).convert("RGB").getpixel((10, 10))


def test_a_folder_that_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="which type of model"):
        Session.load(tmp_path)
    assert cli.main(["predict", "--model", str(tmp_path), "--prompt", "hello"]) == 1
    assert "name the type" in capsys.readouterr().err


def test_the_notebook_runs_from_top_to_bottom(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root / "examples")
    monkeypatch.setenv("MLLM_MODEL", str(trained))
    notebook = json.loads((root / "examples" / "ask.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "the notebook is committed without outputs"
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102, our own file
    assert "answered" in capsys.readouterr().out
