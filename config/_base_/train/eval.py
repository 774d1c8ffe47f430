# Answer data_args.test, and each of data_args.multitest, and score the answers; nothing is trained. 1 GPU or more:
#   accelerate launch --config_file accelerate_config/ddp.yaml mllm/pipeline/finetune.py config/X_eval.py
training_args = dict(
    do_train=False,
    do_predict=True,
    per_device_eval_batch_size=8,  # samples per GPU
    bf16=True,
    dataloader_num_workers=4,  # processes per GPU
    report_to="none",
)
