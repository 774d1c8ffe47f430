"""Signals that ask a process to end: it ends in good order, at once or after what it is in the middle of.

SIGINT is Ctrl-C; SIGTERM comes from schedulers, launchers and `kill`; SIGHUP from a terminal that closes; SIGUSR1 from
slurm, some time before a job's limit.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end, and it ends in good order.

    Attributes:
        signum: the signal, which decides the exit status.
        message: what is kept, and how to go on.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum
        self.message = message


class Interrupts:
    """The signals of this process.

    The first one raises `Interrupted` wherever the process is, or is only noted while somebody holds it off. After
    Ctrl-C another signal ends the process at once, and so does Ctrl-C after any other; the others may come from a
    launcher and from its scheduler, both of them, and count once.

    Attributes:
        signum: the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._before: dict[int, Any] = {}
        self._holders: list[str] = []
        self._follows_forks = False

    @contextmanager
    def caught(self) -> Generator[None, None, None]:
        """Inside, signals come here. Nothing changes where they do already, and in other threads than the main one."""
        if self._before or threading.current_thread() is not threading.main_thread():
            yield
            return
        if not self._follows_forks:
            os.register_at_fork(after_in_child=self.forked)
            self._follows_forks = True
        for signum in SIGNALS:
            handler = signal.getsignal(signum)
            # what nohup and background jobs ignore stays ignored; slurm scripts hide SIGUSR1 from launchers alone
            if handler is not signal.SIG_IGN or signum in (signal.SIGTERM, signal.SIGUSR1):
                self._before[signum] = handler
                signal.signal(signum, self._handle)
        try:
            yield
        finally:
            for signum, handler in self._before.items():
                signal.signal(signum, handler)
            self._before = {}
            self.signum = 0

    @contextmanager
    def held(self, promise: str) -> Generator[None, None, None]:
        """Inside, a signal is noted and nothing else: whoever holds it looks at `signum`.

        `promise` says to the user what still happens before the end.
        """
        self._holders.append(promise)
        try:
            yield
        finally:
            self._holders.pop()

    def raise_noted(self) -> None:
        """Raises:
        Interrupted: a signal was noted.
        """
        if self.signum:
            raise Interrupted(self.signum)

    def forked(self) -> None:
        """A forked child: Ctrl-C reaches it too, but what becomes of it is the parent's to decide."""
        for signum in self._before:
            signal.signal(signum, signal.SIG_IGN if signum == signal.SIGINT else signal.SIG_DFL)
        self._before = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        by_hand = signum == signal.SIGINT
        for other in self._before:
            # the default action needs no Python, which may be waiting for another process
            signal.signal(other, signal.SIG_DFL if by_hand or other == signal.SIGINT else signal.SIG_IGN)
        if not self._holders:
            raise Interrupted(signum)
        if os.environ.get("RANK", "0") == "0":
            at_once = "Ctrl-C again" if by_hand else "Ctrl-C"
            line = f"\n{signal.Signals(signum).name}: {self._holders[-1]}; {at_once} ends at once\n"
            os.write(2, line.encode())  # print may be in the middle of another line


INTERRUPTS = Interrupts()


def leave_signals_to_the_parent() -> None:
    """Ignore them in a process that reads data for another, which still needs it to finish what it is doing."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
