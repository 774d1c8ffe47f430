"""mllm: multimodal language models that point."""
