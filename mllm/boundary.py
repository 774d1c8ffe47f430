"""The boundary of every command: an exit status, and one line on stderr for whatever went wrong.

Errors that a user can fix name the place. Of anything unforeseen the traceback is kept in a file that the line names:
the run's log where it has one.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from mllm.compat.notes import without_notes
from mllm.compat.tqdm import close_bars
from mllm.errors import MllmError, UsageError
from mllm.interrupts import INTERRUPTS, Interrupted

LINE = 400
"""Characters of a library's message that are shown."""
SMALLER = (
    "use fewer samples at a time (per_device_train_batch_size, per_device_eval_batch_size), shorter ones "
    "(data_args.max_length), or activation_checkpointing in training"
)
LOGGER = logging.getLogger("mllm")
PACKAGE = Path(__file__).parent


class Ended(BaseException):
    """The command ends with this status, and somebody else says why: another process of the same run."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def reported(work: Callable[[], int | None], *, failed: int = 1) -> int:
    """The exit status of the work (None is 0), or `failed` with one line that says what went wrong.

    A wrong command line gives 2. A signal gives 128 plus its number, as shells count; so does a reader that closes the
    pipe early.
    """
    with _own_log(), without_notes(), INTERRUPTS.caught():
        try:
            status = work() or 0
            sys.stdout.flush()
            if not status:
                INTERRUPTS.raise_noted()  # a library swallowed it
            return status
        except Ended as error:
            return error.status
        except MllmError as error:
            line = f"{type(error).__name__}: {_message(error)}"
            _append(line + "\n")
            _say(line)
            return 2 if isinstance(error, UsageError) else failed
        except Interrupted as error:
            _say(error.message or f"ended by {signal.Signals(error.signum).name}")
            return 128 + error.signum
        except KeyboardInterrupt:
            _say("interrupted")
            return 128 + signal.SIGINT
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001, this is the outermost frame: what passes here ends in a traceback
            return _failure(error, failed)  # what Rust panics with, and the shards of PyTorch, is no Exception


@contextmanager
def _own_log() -> Generator[None, None, None]:
    """Take back what a command did to the package's logger, after its last line."""
    before = LOGGER.handlers, LOGGER.level, LOGGER.propagate
    try:
        yield
    finally:
        for handler in LOGGER.handlers:
            if handler not in before[0]:
                handler.close()
        LOGGER.handlers, LOGGER.level, LOGGER.propagate = before


def _failure(error: BaseException, failed: int) -> int:
    if isinstance(error, BrokenPipeError) and _stdout_is_closed():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
        return 128 + signal.SIGPIPE
    if INTERRUPTS.signum:
        # the same signal may have ended other processes that this one was in the middle of talking to
        _say(f"ended by {signal.Signals(INTERRUPTS.signum).name}; details in {_keep(error)}")
        return 128 + INTERRUPTS.signum
    _say(f"{_known(error) or _unforeseen(error)}; details in {_keep(error)}")
    return failed


def _stdout_is_closed() -> bool:
    """Whether nobody reads the pipe that stdout writes to, as with `| head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _say(line: str) -> None:
    """Print a line, after the rank where there are several, and below whatever progress bars stand there."""
    _end_progress_bars()
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    print(f"rank {os.environ.get('RANK', '0')}: {line}" if several else line, file=sys.stderr, flush=True)


def _end_progress_bars() -> None:
    """Close the bars that the error left open: theirs is the line that stderr is in."""
    close_bars()


def _message(error: BaseException) -> str:
    """A message without the traceback that a DataLoader's worker puts around it."""
    message = error.message if isinstance(error, MllmError) else str(error)
    return message.strip().splitlines()[-1].partition(": ")[2] if message.startswith("Caught ") else str(error)


def _known(error: BaseException) -> str | None:
    """The line for what a machine lacks rather than the program."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    # what torch raises for a GPU, which is not imported here, and says for the CPU
    if {"MemoryError", "OutOfMemoryError"} & kinds or "DefaultCPUAllocator: " in str(error):
        found = _message(error).partition("\n")[0][:LINE]
        return f"out of memory{f': {found}' if found else ''}: {SMALLER}"
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{error.filename}: "
        advice = "; free some, or choose another output_dir" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"{place}{error.strerror}{advice}"
    return None


def _unforeseen(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if PACKAGE in Path(frame.filename).parents]
    place = f"{Path(frames[-1].filename).relative_to(PACKAGE.parent)}:{frames[-1].lineno}"  # at least in this file
    message = next(iter(_message(error).strip().splitlines()), "")[:LINE]
    return f"unexpected error in {place}: {type(error).__name__}: {message}"


def _append(text: str) -> str:
    """Add to the run's log, and say where that is; "" where there is none."""
    for handler in LOGGER.handlers:
        if isinstance(handler, logging.FileHandler):
            with suppress(OSError), open(handler.baseFilename, "a", encoding="utf-8") as file:
                file.write(text)
                return handler.baseFilename
    return ""


def _keep(error: BaseException) -> str:
    """Append the traceback to the run's log, or write a new file; where it is."""
    text = "".join(traceback.format_exception(error))
    if log := _append(text):
        return log
    try:
        with tempfile.NamedTemporaryFile("w", prefix="mllm-", suffix=".log", delete=False, encoding="utf-8") as file:
            file.write(text)
    except OSError:  # no disk takes it
        sys.stderr.write(text)
        return "the traceback above"
    return file.name
