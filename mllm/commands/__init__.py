"""The command lines of `mllm data|checkpoint|model|regions` and `mllm predict --model`: their flags and help.

What a command runs is imported once its command line is understood: PyTorch and transformers take seconds to import.
"""
