from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from mllm.conversation.processor import Processor
from tests.conversation.processors import make_processor


@pytest.fixture
def processor(tokenizer: PreTrainedTokenizerFast) -> Processor:
    return make_processor(tokenizer)
