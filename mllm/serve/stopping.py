"""Where an answer ends: at a token or a text of the model's template, or at a text that the request names."""

from __future__ import annotations

from mllm.conversation.detokenizer import Detokenizer
from mllm.conversation.processor import Processor
from mllm.pipeline.evaluate import stop_arguments
from mllm.serve.request import Request


class Ends:
    """The ends of a model's answers."""

    def __init__(self, processor: Processor) -> None:
        self.tokenizer = processor.tokenizer
        self.ids = {end for end in stop_arguments(processor)["eos_token_id"] if end is not None}
        self.texts = () if processor.end_token_id is not None else (processor.stop,)

    def reached(self, request: Request) -> bool:
        """Whether the answer ends in its last token."""
        if request.new[-1] in self.ids:
            return True
        texts = (*self.texts, *request.sampling.stop)
        if not texts:
            return False
        request.words = request.words or Detokenizer(self.tokenizer)
        said = request.words.add(request.new[-1]) or ""
        return any(text in said for text in texts)
