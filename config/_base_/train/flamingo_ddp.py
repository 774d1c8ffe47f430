# Training what lies between two frozen models, a whole copy on each of 8 GPUs of 80 GB:
#   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 8 mllm/pipeline/finetune.py config/X.py
training_args = dict(
    do_train=True,
    lr_scheduler_type="cosine",
    bf16=True,
    activation_checkpointing=True,
    logging_steps=10,  # steps
    save_strategy="steps",
    save_steps=2000,  # steps
    save_total_limit=1,  # checkpoints kept
    dataloader_num_workers=8,  # processes per GPU
)
