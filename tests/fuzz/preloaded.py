"""What the process imports from which the commands are forked."""

import mllm.commands.checkpoint.cli
import mllm.commands.data.cli
import mllm.commands.model.cli
import mllm.commands.model.show
import mllm.commands.training
import mllm.pipeline.finetune  # noqa: F401
