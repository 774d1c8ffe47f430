"""A conversation in a terminal, and through a pipe."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from mllm import cli
from mllm.commands.chat.terminal import TerminalChat
from mllm.serve.chat_model import ChatModel, load
from mllm.serve.generation import AnswerStream, Generator
from mllm.serve.reading import AnswerReader
from tests.commands.chat.terminals import Terminal

MODEL = Path(__file__).parents[2] / "assets" / "saved_before_rooms"
SAID = "There [0.250,0.250,0.500,0.500] and a cat [0.5,0.5]"


@pytest.fixture(scope="module")
def model() -> ChatModel:
    return load(MODEL, device="cpu", codec="shikra")


@pytest.fixture
def photo(tmp_path: Path) -> str:
    Image.new("RGB", (40, 40), "white").save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def chat(model: ChatModel, *, live: bool = False, drawings: Path | None = None) -> tuple[TerminalChat, io.StringIO]:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=live, width=100, highlight=False, color_system="truecolor")
    talk = TerminalChat(
        model,
        console,
        live=live,
        start=model.conversation,
        generation={"max_new_tokens": 4},
        drawings=drawings,
    )
    return talk, screen


@pytest.fixture
def answers_with_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model answers `SAID`, a token at a time."""

    def stream(self: Generator, item: Any, generation: Any, on_answer: Any = None) -> AnswerStream:
        ids: Any = self.processor.tokenizer(SAID, add_special_tokens=False)["input_ids"]

        def work(listener: Any) -> None:
            for token in [*ids, self.processor.end_token_id]:
                listener(token)

        return AnswerStream(work, AnswerReader(self.processor, item), on_answer)

    monkeypatch.setattr(Generator, "stream", stream)


def piped(lines: str, *options: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return cli.main(["chat", str(MODEL), "--device", "cpu", "--max_new_tokens", "4", *options])


def test_lines_of_a_pipe_are_answered_plainly(
    photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "talk.jsonl"
    lines = f"Where is it?\n/box 1 2 30 30\n\nAnd <boxes>?\n/undo\n/save {saved}\n/quit\nnever\n"
    assert piped(lines, "--image", photo, monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    alone = load(MODEL, device="cpu").chat(photo, "Where is it?", max_new_tokens=4)
    assert out.startswith(alone.text)
    assert "taken back: And <boxes>?" in out
    assert "\x1b" not in out
    record = json.loads(saved.read_text())
    assert (record["images"], len(record["conversations"])) == ([photo], 2)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("/boks 1 2 3 4\n", "unknown command /boks; did you mean '/box'"),
        ("/box 1 2\n", "/box: expected 4 numbers, and optionally the number of an image, found '1 2'"),
        ("/point 1 2 x\n", "/point: expected 2 numbers"),
        ("/image\n", "/image: expected a path or a URL, found nothing"),
        ("/image gone.png\n", "gone.png"),
        ("/save\n", "/save: expected the name of a file, found nothing"),
        ("/save a.png\n", "/save: expected an answer to draw, found none yet"),
        ("/undo\n", "expected a question to take back, found none"),
        ("What is in <boxes>?\n", "expected a box for each of its 1 <boxes>, found 0"),
    ],
)
def test_a_line_of_a_pipe_that_cannot_be_done_ends_the_run(
    lines: str, error: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert piped(lines, monkeypatch=monkeypatch) == 1
    assert error in capsys.readouterr().err.splitlines()[-1]


def test_settings_are_checked_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert piped("", "--top_p", "0.5", monkeypatch=monkeypatch) == 1
    assert "generation.top_p has no effect: it needs do_sample=True" in capsys.readouterr().err
    assert piped("", "--system", "Be brief.", "--conversation", "talk.jsonl", monkeypatch=monkeypatch) == 1
    assert "--system: expected no --conversation" in capsys.readouterr().err
    assert piped("Hello\n", "--temperature", "0", "--top_p", "0.5", "--top_k", "3", monkeypatch=monkeypatch) == 0
    assert piped("Hello\n", "--temperature", "2", "--top_k", "3", "--seed", "1", monkeypatch=monkeypatch) == 0


@pytest.mark.usefixtures("answers_with_regions")
def test_answers_are_drawn_and_undone(
    model: ChatModel, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk, screen = chat(model, drawings=tmp_path / "drawn")
    talk.run(iter([f"/image {photo}", "Where?", f"/save {tmp_path / 'last.png'}", "/new"]))
    assert capsys.readouterr().out.splitlines() == [SAID, "box   10.0 10.0 20.0 20.0", "point 20.0 20.0"]
    assert screen.getvalue().splitlines() == [
        f"drawn: {tmp_path / 'drawn' / 'answer_1.png'}",
        f"drawn: {tmp_path / 'last.png'}",
    ]
    assert Image.open(tmp_path / "last.png").getpixel((15, 10)) == (230, 25, 75)
    assert (talk.talk.messages, talk.answers) == ([], [])


@pytest.mark.usefixtures("answers_with_regions")
def test_a_live_answer_has_its_phrases_in_the_colours_of_its_boxes(model: ChatModel, photo: str) -> None:
    talk, screen = chat(model, live=True)
    talk.run(iter([f"/image {photo}", "Where?"]))
    shown = screen.getvalue()
    assert "\x1b[1;38;2;60;180;75ma cat\x1b[0m" in shown
    assert "\x1b[2;38;2;230;25;75m[0.250,0.250,0.500,0.500]\x1b[0m" in shown
    assert "box   10.0 10.0 20.0 20.0" in shown
    drawn = Path(shown.split("drawn: ")[1].strip())
    assert Image.open(drawn).size == (40, 40)


@pytest.mark.usefixtures("answers_with_regions")
def test_a_terminal_that_shows_pictures_shows_the_answer(
    model: ChatModel, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITTY_WINDOW_ID", "1")
    monkeypatch.delenv("TMUX", raising=False)
    talk, screen = chat(model, live=True)
    talk.run(iter([f"/image {photo}", "Where?"]))
    assert "\x1b_Ga=T,f=100,m=0;" in screen.getvalue()
    assert "drawn" not in screen.getvalue()


def test_ctrl_c_ends_an_answer_and_not_the_conversation(
    model: ChatModel, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(self: Generator, item: Any, generation: Any, on_answer: Any = None) -> AnswerStream:
        ids: Any = self.processor.tokenizer("the red circle ", add_special_tokens=False)["input_ids"]

        def work(listener: Any) -> None:
            while not any(listener(token) for token in ids):
                time.sleep(0.01)

        return AnswerStream(work, AnswerReader(self.processor, item), on_answer)

    monkeypatch.setattr(Generator, "stream", stream)
    talk, screen = chat(model, live=True)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    talk.run(iter([f"/image {photo}", "Where?"]))
    timer.join()
    assert talk.answers[0].finish_reason == "cancelled"
    assert talk.answers[0].text.startswith("the red circle the red")
    assert talk.talk.messages[1].text == talk.answers[0].text
    assert "the red circle" in screen.getvalue()


def test_a_live_fault_is_said_and_the_conversation_goes_on(model: ChatModel, photo: str) -> None:
    talk, screen = chat(model, live=True)
    talk.run(iter([f"/image {photo}", "/box 1 2 3 4", "/point 1 2", "/box x", "/help"]))
    assert talk.waiting == "1 image, 1 box, 1 point"
    assert "/box: expected 4 numbers" in screen.getvalue()
    assert "a point for the next <points>" in screen.getvalue()
    talk.run(iter(["/undo", "Hello"]))
    assert "taken back: 1 image, 1 box, 1 point" in screen.getvalue()
    assert "(cut after 4 tokens: --max_new_tokens)" in screen.getvalue()
    assert len(talk.talk.messages) == 2


def test_a_box_may_name_its_image(model: ChatModel, photo: str) -> None:
    talk, _ = chat(model, live=True)
    talk.run(iter([f"/image {photo}", f"/image {photo}", "/box 1,2,3,4 1", "/point 1 2 1", "<boxes> <points>?"]))
    item = talk.talk.item
    assert (item.boxes[0].image, item.points[0].image) == (1, 1)


def test_a_conversation_goes_on_from_its_file(photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = tmp_path / "talk.jsonl"
    assert piped(f"Where?\n/save {saved}\n", "--image", photo, monkeypatch=monkeypatch) == 0
    assert piped(f"And now?\n/save {saved}\n", "--conversation", str(saved), monkeypatch=monkeypatch) == 0
    assert len(json.loads(saved.read_text())["conversations"]) == 4


@pytest.mark.slow  # a fork of a process with threads may hang
def test_a_terminal_is_asked_and_left(photo: str) -> None:
    """Ctrl-C begins a line again, and ends an answer; Ctrl-D leaves."""
    terminal = Terminal(["chat", str(MODEL), "--device", "cpu", "--image", photo, "--max_new_tokens", "4"])
    terminal.wait_for("(1 image) > ")
    terminal.type("half a line")
    terminal.wait_for("half a line")
    terminal.type("\x03")
    terminal.wait_for("(1 image) > ")
    terminal.type("/boks\n")
    terminal.wait_for("did you mean '/box'?")
    terminal.wait_for("(1 image) > ")
    terminal.type("Where is it?\n")
    terminal.wait_for("(cut after 4 tokens")
    terminal.wait_for("\n> ")
    terminal.type("\x04")
    assert terminal.exit_status() == 0
