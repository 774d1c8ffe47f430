"""Commands of the project in processes of their own, and what the kernel says that they took."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def usage_of(command: Sequence[str]) -> resource.struct_rusage:
    """Of a command and the processes that it waited for; where it fails, its last output ends this process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"\n{' '.join(command)} failed:\n{output.read().decode(errors='replace')[-4000:]}")
    return usage


def cpu(usage: resource.struct_rusage) -> float:
    """Seconds, user and system together."""
    return usage.ru_utime + usage.ru_stime
