# A few steps on a CPU in seconds, to see that a config runs at all:
#   python mllm/pipeline/finetune.py config/X.py
training_args = dict(
    do_train=True,
    use_cpu=True,
    max_steps=4,
    per_device_train_batch_size=2,  # samples
    per_device_eval_batch_size=2,  # samples
    learning_rate=1e-3,
    logging_steps=1,  # steps
    save_strategy="no",
    report_to="none",
)
