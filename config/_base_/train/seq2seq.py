# Fine-tuning of a small text-to-text model on one GPU, or slowly on a CPU:
#   mllm train config/flan_t5_small_X.py
training_args = dict(
    do_train=True,
    do_eval=True,
    num_train_epochs=1,
    per_device_train_batch_size=8,  # samples
    per_device_eval_batch_size=32,  # samples
    learning_rate=3e-4,
    lr_scheduler_type="constant",
    logging_steps=50,
    save_strategy="no",
    seed=0,
)
