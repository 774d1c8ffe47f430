import platform
import subprocess
import sys

import pytest

CHANGES = """
import resource
from mllm.pipeline.allocation import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(b"x") * 2**25
    del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given_back = faults()
assert keep_freed_memory()
faults()
print(given_back, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's allocator")
def test_what_is_freed_is_used_again_without_the_kernel() -> None:
    ran = subprocess.run([sys.executable, "-c", CHANGES], capture_output=True, text=True, check=True)
    given_back, kept = map(int, ran.stdout.split())
    assert given_back > 2**25 // 4096 // 2
    assert kept < given_back / 100
