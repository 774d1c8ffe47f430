"""Commands in processes of their own, which start with everything imported, so that a try takes little time.

Each has its own group, so that whatever it started ends with it, and a bound of time and of memory.
"""

from __future__ import annotations

import re
import resource
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mllm.commands.checkpoint.cli
import mllm.commands.data.cli
import mllm.commands.model.cli
import mllm.commands.model.show
import mllm.commands.training
import mllm.pipeline.finetune  # noqa: F401
from mllm.cli import main
from tests.forks import fork

SAYS = re.compile(r"\w+Error: |usage: ")
"""How a line begins that says what is wrong; whatever else stands before it is the log of a run."""
SECONDS = 120
"""After so long a command hangs."""
MEMORY = 12 << 30
"""Bytes of address space that a command may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended; status None where it had to be killed."""

    status: int | None
    out: str
    error: str

    @property
    def lines(self) -> list[str]:
        """What stands on stderr."""
        return self.error.splitlines()

    def fault(self, *places: str) -> str:
        """What is wrong with the way in which it failed, "" where it ends in one line that names one of the places."""
        if self.status is None:
            return "hangs"
        if self.status not in (1, 2):
            return f"exit status {self.status}"
        if "Traceback" in self.error or "unexpected error" in self.error:
            return "not foreseen"
        if not self.error and any(place in self.out for place in places):
            return ""  # `mllm data check` names faults where others name what they found
        said = [line for line in self.lines if SAYS.match(line)]
        if said not in ([], self.lines[-1:]):
            return f"{len(said)} lines of an error"
        if not any(place in line for place in places for line in self.lines[-1:]):
            return f"names none of {', '.join(places)}"
        return ""


def run(argv: Sequence[str], folder: Path, scratch: Path) -> Outcome:
    """Run `mllm ARGV...` in the folder; what it prints, and its temporary files, go to `scratch`."""
    out, error = scratch / "stdout", scratch / "stderr"
    process = fork(_command, list(argv), scratch, folder=folder, out=out, error=error)
    status = process.wait(SECONDS)
    process.kill()
    texts = (path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in (out, error))
    return Outcome(status=status, out=next(texts), error=next(texts))


def _command(argv: list[str], scratch: Path) -> int:
    tempfile.tempdir = str(scratch)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    return main(argv)
