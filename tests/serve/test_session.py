"""One question to a trained model, from Python and from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from mllm import cli
from mllm.conversation.collator import Collator
from mllm.errors import DataError, ModelError
from mllm.pipeline.build import build_model
from mllm.registry import DATASETS
from mllm.serve.session import Session, draw_answer
from mllm.types import Box, GroundTruth, Item, Prediction
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


def test_a_folder_of_an_earlier_version_loads_and_has_its_loss() -> None:
    """Saved, and its loss measured, by the last commit before modules were moved into rooms."""
    session = Session.load(Path(__file__).parents[1] / "assets" / "saved_before_rooms", device="cpu")
    image = Image.new("RGB", (40, 30), (200, 30, 30))
    image.paste((10, 200, 40), (5, 5, 20, 20))
    turns = [
        {"from": "human", "value": "<image>\nWhere is it?"},
        {"from": "gpt", "value": "There <boxes>", "boxes_seq": [[0]]},
    ]
    item = Item.from_dict({"image": image, "target": {"boxes": [[5, 5, 20, 20]]}, "conversations": turns}, key="")
    sample = session.processor.encode(item, 0)
    assert sample.input_ids.tolist()[-9:] == [326, 223, 389, 397, 399, 403, 405, 391, 1]
    batch = dict(Collator(pad_token_id=0)([sample]))
    del batch["index"], batch["label_sources"]
    assert float(session.model(**batch).loss) == pytest.approx(5.990898, abs=1e-4)


def test_a_folder_says_how_its_model_is_spoken_to(trained: Path) -> None:
    for folder in (trained, trained / "checkpoint-2"):
        session = Session.load(folder)
        assert session.processor.codec.tokens[-1] == "<bin_16>"
        assert session.processor.stop == "</s>"


def test_another_codec_than_the_trained_one_is_said(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    build_model({"type": "llava", "model_name_or_path": str(trained), "codec": "shikra"}, {}, None)
    assert "trained with codec {'type': 'bins', 'bins': 17}; this run uses shikra" in caplog.text


def test_the_answer_is_that_of_the_pipeline(trained: Path) -> None:
    """The prediction file of an evaluation holds the same text for the same question and image."""
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


def test_questions_hold_images_and_boxes(trained: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(DataError, match="expected a box for each of its 1 <boxes>, found 0"):
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
    assert capsys.readouterr().out.splitlines() == ["there", "box   4.0 5.0 20.0 21.0", f"drawn: {drawn}"]
    image = Image.open(drawn)
    assert image.getpixel((10, 5)) == image.getpixel((4, 12)) == (230, 25, 75)
    assert image.getpixel((10, 10)) == Image.open(photo).convert("RGB").getpixel((10, 10))


def answer(*boxes: Box) -> Prediction:
    return Prediction(index=0, key="a", text="", boxes=boxes, points=(), failure=None, truth=GroundTruth())


RED = (230, 25, 75)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_draw_answer_draws_on_what_the_model_saw(orientation: int, tmp_path: Path) -> None:
    """A photo that its camera stored turned or mirrored, 30 x 20 upright, its top left corner white."""
    upright = Image.new("RGB", (30, 20), "black")
    upright.paste("white", (0, 0, 10, 10))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Pillow's transpositions, those that turn back
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    (path,) = draw_answer(answer(Box(x1=12, y1=4, x2=26, y2=16)), [str(tmp_path / "a.png")], tmp_path / "b.png")
    drawn = Image.open(path)
    assert drawn.size == (30, 20)
    assert drawn.getpixel((2, 2)) == (255, 255, 255)
    assert drawn.getpixel((12, 10)) == drawn.getpixel((20, 4)) == RED


def test_draw_answer_draws_each_box_on_its_own_image(tmp_path: Path) -> None:
    images = [Image.new("RGB", (20, 20)), Image.new("I;16", (30, 30), 65535)]
    boxes = Box(x1=1, y1=1, x2=9, y2=9), Box(x1=5, y1=5, x2=25, y2=25, image=1)
    paths = draw_answer(answer(*boxes), images, tmp_path / "a.png")
    assert [path.name for path in paths] == ["a.png", "a_2.png"]
    first, second = map(Image.open, paths)
    assert (first.getpixel((1, 5)), first.getpixel((5, 15))) == (RED, (0, 0, 0))
    assert (second.getpixel((5, 15)), second.getpixel((1, 5))) == (RED, (255, 255, 255))


@pytest.mark.parametrize(
    ("drawn", "status", "message"),
    [
        ("answer.txt", 1, "--draw: expected the name of an image file, such as answer.png, found "),
        ("answer", 1, "--draw: expected the name of an image file"),
        ("no/such/folder/a.png", 1, "--draw: expected a file in an existing folder, found "),
    ],
)
def test_a_drawing_that_cannot_be_written_is_one_line(
    drawn: str,
    status: int,
    message: str,
    trained: Path,
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--model", str(trained), "--image", str(photo), "--prompt", "Where?", "--draw", str(tmp_path / drawn)]
    assert cli.main(["predict", *words]) == status
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_folder_that_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="names the type of the model"):
        Session.load(tmp_path)
    assert cli.main(["predict", "--model", str(tmp_path), "--prompt", "hello"]) == 1
    assert "set model_args.type" in capsys.readouterr().err
    assert cli.main(["predict", "--model", str(tmp_path / "gone"), "--prompt", "hello"]) == 1
    assert (
        f"{tmp_path / 'gone'}: expected the folder of a trained model, found no such folder" in capsys.readouterr().err
    )


def test_a_question_has_a_word(trained: Path, photo: Path) -> None:
    with pytest.raises(DataError, match="question: expected a text with a word, found ' '"):
        Session.load(trained).ask(" ", [photo])


def test_a_model_whose_scores_are_not_finite_gives_no_answer(
    trained: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its weights may be finite, and so large that no product of theirs is."""
    folder = shutil.copytree(trained, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["language_model.lm_head.weight"].fill_(3e38)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="scores of the next token are nan or infinite"):
        Session.load(folder).ask("Where?", [photo])
    config = write_config(tmp_path, model_args={"model_name_or_path": str(folder)})
    parts = ("vision_tower", "language_model", "connector", "feature_layer", "tokenizer")
    gone = [f"model_args.{name}=None" for name in parts]
    assert cli.main(["predict", str(config), "--output_dir", str(tmp_path / "out"), "--cfg-options", *gone]) == 1
    assert "ModelError: the scores of the next token are nan or infinite" in capsys.readouterr().err


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


def test_what_a_model_says_does_not_steer_the_terminal(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = Prediction(key="question", index=0, text="red\x1b[31m\x18\nblue", truth=GroundTruth())
    monkeypatch.setattr(Session, "ask", lambda *given, **more: said)
    assert cli.main(["predict", "--model", str(trained), "--prompt", "What colour?"]) == 0
    assert capsys.readouterr().out == "red\\x1b[31m\\x18\nblue\n"
