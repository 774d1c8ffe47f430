# Tiny models from random weights on a CPU, in minutes. No checkpoints on the way, the trained model is saved.
#   mllm train config/X.py
training_args = dict(
    do_train=True,
    use_cpu=True,
    per_device_eval_batch_size=64,  # samples
    learning_rate=1.5e-3,
    save_strategy="no",
)
