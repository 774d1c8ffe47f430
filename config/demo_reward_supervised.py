# What `make demo-reward` is compared with: the same model and scenes, by supervised training.
#
# command   accelerate launch --config_file accelerate_config/cpu.yaml \
#               mllm/pipeline/finetune.py config/demo_reward_supervised.py
# hardware  two CPU cores, 2 GiB
# score     see docs/reward.md
_base_ = ["_base_/train/tiny.py", "catalogue/scenes.py"]

model_args = dict(type="llava", model_name_or_path="outputs/demo_scenes")
training_args = dict(
    output_dir="outputs/demo_reward_supervised",
    do_eval=True,
    max_steps=440,
    per_device_train_batch_size=16,  # scenes for each of two processes
    learning_rate=2e-3,
    lr_scheduler_type="warmup_stable_decay",
    lr_scheduler_kwargs=dict(num_decay_steps=220),
    warmup_steps=30,
    adam_beta2=0.98,
    logging_steps=50,
    seed=0,
)
data_args = dict(
    train=_base_.SCENES_FRESH_TRAIN,
    validation=_base_.SCENES_FRESH_VAL,
    compute_metric=dict(type="REC", constant_box=True),
    collator_kwargs=dict(packing="shared", window=0),
    gen_kwargs=dict(max_new_tokens=16),
)
