"""A pseudo-terminal with a command in it."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from collections.abc import Sequence

import torch

from mllm import cli

SECONDS = 60
"""For a step, at most."""


class Terminal:
    """`mllm WORDS` as a user of a terminal has it, in a fork of this process, which has imported everything."""

    def __init__(self, words: Sequence[str]) -> None:
        self.screen = ""
        self._seen = 0
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            self._run(words)

    def _run(self, words: Sequence[str]) -> None:
        for name in ("TMUX", "STY", "KITTY_WINDOW_ID", "TERM_PROGRAM", "LC_TERMINAL", "NO_COLOR"):
            os.environ.pop(name, None)
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
        torch.set_num_threads(1)  # the threads of the parent are not here
        status = 99
        try:
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115, they end with it
            status = cli.main(words)
            sys.stdout.flush()
        finally:
            os._exit(status)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait_for(self, text: str) -> str:
        """What comes up to the text, since the last such wait."""
        end = time.monotonic() + SECONDS
        while text not in self.screen[self._seen :]:
            assert time.monotonic() < end, f"no {text!r} behind {self.screen[self._seen :]!r}"
            if select.select([self._fd], [], [], 1)[0]:
                self.screen += os.read(self._fd, 65536).decode(errors="replace")
        place = self.screen.index(text, self._seen) + len(text)
        came, self._seen = self.screen[self._seen : place], place
        return came

    def exit_status(self) -> int:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    self.screen += os.read(self._fd, 65536).decode(errors="replace")
                except OSError:  # Linux says so that the other side has closed
                    break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
