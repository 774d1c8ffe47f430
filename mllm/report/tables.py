"""Tables for the terminal, plain where the output is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 160
"""Columns of output that is no terminal."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", numbers: bool = False) -> str:
    """A table as text; `numbers`: every column but the first is aligned to the right."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    shown = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD if console.is_terminal else None)
    for number, column in enumerate(columns):
        right = numbers and number > 0
        shown.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right or number == 0)
    for row in rows:
        shown.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
