"""Started by `accelerate launch`: training runs, given as a JSON list of arguments; each rank writes what it found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers.utils import logging

from mllm.config.command_line import parse
from mllm.config.config import load
from mllm.pipeline.build import build

if __name__ == "__main__":
    for argv in json.loads(sys.argv[1]):
        cfg, args = load(parse(argv))
        torch.manual_seed(args.seed)
        trainer = build(cfg.to_dict(), args)
        trainer.train()
        ddp = trainer.accelerator.ddp_handler
        assert ddp is not None
        found = {
            "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
            "weights": {name: weight.tolist() for name, weight in trainer.model.named_parameters()},
            "ddp": ddp.to_dict() | {"find_unused_parameters": trainer.model_wrapped.find_unused_parameters},
            "static": trainer.model_wrapped.static_graph,
            "buffers": trainer.model_wrapped.broadcast_buffers,
            "timeout": args.ddp_timeout_delta.total_seconds(),
            "backend": torch.distributed.get_backend(),
            "verbosity": logging.get_verbosity(),
        }
        Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        Path(args.output_dir, f"rank_{args.process_index}.json").write_text(json.dumps(found))
        torch.distributed.barrier()
    torch.distributed.destroy_process_group()
