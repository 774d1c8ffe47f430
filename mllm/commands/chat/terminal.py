"""A conversation in the terminal: lines in, answers out; a line that begins with `/` is a command."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mllm.commands.chat.coloured import coloured, region_lines
from mllm.commands.chat.pictures import escapes, protocol_of
from mllm.errors import ConfigError, MllmError, nearest, printable
from mllm.files import writing_to
from mllm.images import image_ref
from mllm.interrupts import Interrupted
from mllm.serve.ask import draw_answer, print_answer
from mllm.serve.chat_model import ChatModel
from mllm.serve.conversation import Conversation
from mllm.serve.generation import AnswerStream
from mllm.serve.reading import Answer, Region
from mllm.types import Box, Point

HELP = {
    "/image PATH": "an image, by path or URL, that comes with the next question",
    "/box X1 Y1 X2 Y2 [IMAGE]": "a box for the next <boxes>, in pixels of the image that was shown last, or of number "
    "IMAGE, from 0",
    "/point X Y [IMAGE]": "a point for the next <points>",
    "/undo": "take back what is waiting; else the last question and its answer",
    "/save FILE": "the conversation as a line of a dataset; with the ending of an image file, the last answer drawn",
    "/new": "begin again",
    "/help": "this list",
    "/quit": "end; so does Ctrl-D. Ctrl-C ends an answer",
}


class TerminalChat:
    """One conversation and what waits for its next question.

    Args:
        lines: what the user says.
        live: show answers as they come, in colour, and their pictures; else as plain lines when they are whole. A fault
            is then an error, of which the user of a terminal is told.
        drawings: a folder for answers that are drawn on their images; None: a temporary one, for a terminal that shows
            no pictures.
    """

    def __init__(
        self,
        model: ChatModel,
        console: Console,
        *,
        live: bool,
        start: Callable[[], Conversation],
        generation: Mapping[str, Any],
        drawings: Path | None = None,
    ) -> None:
        self.model = model
        self.console = console
        self.live = live
        self.start = start
        self.generation = dict(generation)
        self.drawings = drawings
        self.drawn = 0
        self.commands: dict[str, Callable[[str], None]] = {
            "/image": self.add_image,
            "/box": self.add_box,
            "/point": self.add_point,
            "/undo": self.undo,
            "/save": self.save,
            "/new": self.begin,
            "/help": self.help,
        }
        self.begin("")

    def begin(self, _: str) -> None:
        self.talk = self.start()
        self.answers: list[Answer] = []
        self._forget()

    def _forget(self) -> None:
        self.images: list[str] = []
        self.boxes: list[Any] = []
        self.points: list[Any] = []

    @property
    def waiting(self) -> str:
        """What comes with the next question: `1 image, 2 boxes`."""
        counts = ((len(self.images), "image", "images"), (len(self.boxes), "box", "boxes"))
        counts += ((len(self.points), "point", "points"),)
        return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count)

    def run(self, lines: Iterator[str]) -> None:
        """Answer line by line, to the end of the lines or `/quit`.

        Raises:
            MllmError: what a line asks cannot be done; if `live`, it is printed.
        """
        with _own_interrupt():
            for line in lines:
                line = line.strip()
                if line == "/quit":
                    return
                try:
                    self.obey(line)
                except MllmError as error:
                    if not self.live:
                        raise
                    self.console.print(Text(str(error), style="red"))

    def obey(self, line: str) -> None:
        """One line: a command, a question, or nothing."""
        if not line:
            return
        if not line.startswith("/"):
            return self.ask(line)
        name, _, rest = line.partition(" ")
        command = self.commands.get(name)
        if command is None:
            raise ConfigError(f"unknown command {name}; {nearest(name, [*self.commands, '/quit'])}")
        command(rest.strip())

    def ask(self, text: str) -> None:
        """Ask what the line says, about what waits."""
        stream = self.talk.ask(text, self.images, boxes=self.boxes, points=self.points, stream=True, **self.generation)
        answer = self._shown(stream) if self.live else stream.answer
        self.answers.append(answer)
        self._forget()
        if self.live:
            for line in region_lines(answer.regions):
                self.console.print(line)
            if answer.finish_reason == "length":
                self.console.print(Text(f"(cut after {answer.tokens} tokens: --max_new_tokens)", style="dim"))
        else:
            print_answer(answer)
        self._draw(answer)

    def _shown(self, stream: AnswerStream) -> Answer:
        """The whole answer, which is shown as it comes; Ctrl-C ends it where it is."""
        text, regions = "", list[Region]()
        with Live(console=self.console, auto_refresh=False) as live:
            while True:
                try:
                    for piece in stream:
                        text += piece.text
                        regions += piece.regions
                        live.update(coloured(text, regions), refresh=True)
                    return stream.answer
                except Interrupted:
                    raise
                except KeyboardInterrupt:
                    stream.stop()

    def _draw(self, answer: Answer) -> None:
        if not any(region.boxes or region.points for region in answer.regions):
            return
        protocol = protocol_of(os.environ) if self.live else None
        if protocol is not None:
            for number in sorted({region.image for region in answer.regions}):
                self.console.file.write(escapes(answer.draw(number), protocol))
            self.console.file.flush()
        if self.live and protocol is None and self.drawings is None:
            self.drawings = Path(tempfile.mkdtemp(prefix="mllm_chat_"))
        if self.drawings is not None:
            with writing_to(self.drawings):
                self.drawings.mkdir(parents=True, exist_ok=True)
            self.drawn += 1
            for path in draw_answer(answer, self.drawings / f"answer_{self.drawn}.png"):
                self._say(f"drawn: {path}")

    def add_image(self, source: str) -> None:
        if not source:
            raise ConfigError(where="/image", expected="a path or a URL", found="nothing")
        width, height = image_ref(source).size
        self.images.append(source)
        if self.live:
            self._say(f"{printable(source)}: {width} x {height} pixels")

    def add_box(self, words: str) -> None:
        (x1, y1, x2, y2), image = _numbers("/box", words, 4)
        self.boxes.append((x1, y1, x2, y2) if image is None else Box(x1=x1, y1=y1, x2=x2, y2=y2, image=image))

    def add_point(self, words: str) -> None:
        (x, y), image = _numbers("/point", words, 2)
        self.points.append((x, y) if image is None else Point(x=x, y=y, image=image))

    def undo(self, _: str) -> None:
        if self.waiting:
            self._say(f"taken back: {self.waiting}")
            return self._forget()
        question = self.talk.messages[-2].text if len(self.talk.messages) > 1 else ""
        self.talk.undo()
        self.answers = self.answers[:-1]
        self._say(f"taken back: {printable(question)}")

    def save(self, path: str) -> None:
        if not path:
            raise ConfigError(where="/save", expected="the name of a file", found="nothing")
        if Path(path).suffix.lower() not in Image.registered_extensions():
            self.talk.save(path)
            return self._say(f"saved: {path}")
        if not self.answers:
            raise ConfigError(where="/save", expected="an answer to draw", found="none yet")
        for drawn in draw_answer(self.answers[-1], Path(path)):
            self._say(f"drawn: {drawn}")

    def help(self, _: str) -> None:
        table = Table.grid(padding=(0, 2))
        for command, meaning in HELP.items():
            table.add_row(Text(command), Text(meaning))
        self.console.print(table)
        self._say("Anything else is a question. <image>, <boxes> and <points> in it stand for what you have added.")

    def _say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)


def typed_lines(chat: TerminalChat) -> Iterator[str]:
    """What is typed at a prompt, to Ctrl-D; Ctrl-C begins the line again."""
    import readline  # noqa: F401, input() has arrow keys and a history with it

    while True:
        try:
            yield input(f"({chat.waiting}) > " if chat.waiting else "> ")
        except EOFError:
            print()
            return
        except Interrupted:
            raise
        except KeyboardInterrupt:
            print()


def _numbers(where: str, words: str, count: int) -> tuple[list[float], int | None]:
    """So many numbers, and the index of an image where one more follows."""
    given = words.replace(",", " ").split()
    try:
        numbers = [float(word) for word in given[:count]]
        image = int(given[count]) if len(given) == count + 1 else None
    except ValueError:
        numbers, image = [], None
    if len(numbers) != count or len(given) > count + 1:
        raise ConfigError(
            where=where, expected=f"{count} numbers, and optionally the number of an image", found=f"{words!r:.80}"
        )
    return numbers, image


@contextmanager
def _own_interrupt() -> Generator[None, None, None]:
    """Inside, Ctrl-C is a KeyboardInterrupt each time it comes, and ends nothing by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
