"""Started by `accelerate launch`: several runs of the pipeline in one process group, given as JSON lists of arguments.

A dict `{"remove": folder}` between them deletes a folder, as a lost checkpoint.
"""

from __future__ import annotations

import json
import shutil
import sys

import torch

from mllm.pipeline.finetune import main

if __name__ == "__main__":
    for step in json.loads(sys.argv[1]):
        if isinstance(step, dict):
            if torch.distributed.get_rank() == 0:
                shutil.rmtree(step["remove"])
        elif main(step) != 0:
            sys.exit(1)
        torch.distributed.barrier()  # the next run reads what the first process may still write
    torch.distributed.destroy_process_group()
