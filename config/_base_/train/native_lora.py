# Low-rank adapters on a vision language model of 2B to 8B parameters, whole on each GPU of 40 GB or more:
#   accelerate launch --config_file accelerate_config/ddp.yaml mllm/pipeline/finetune.py config/X.py
training_args = dict(
    do_train=True,
    do_eval=True,
    num_train_epochs=1,
    per_device_train_batch_size=4,  # samples per GPU
    per_device_eval_batch_size=8,  # samples per GPU
    gradient_accumulation_steps=4,  # 4 GPUs take 64 samples a step
    learning_rate=1e-4,
    lr_scheduler_type="cosine",
    warmup_steps=0.03,  # below 1: share of all steps
    weight_decay=0.0,
    bf16=True,
    activation_checkpointing=True,  # about 30 % slower, and activations of one layer instead of all
    logging_steps=10,  # steps
    save_strategy="steps",
    save_steps=1000,  # steps
    save_total_limit=1,  # checkpoints kept
    dataloader_num_workers=4,  # processes per GPU
)
