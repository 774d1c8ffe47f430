"""What the process imports from which the commands are forked."""

import mllm.commands.ask
import mllm.commands.checkpoint
import mllm.commands.data
import mllm.commands.model
import mllm.pipeline.finetune
import mllm.pipeline.model_map  # noqa: F401
