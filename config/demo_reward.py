# `make demo-reward`: what `make demo` trained goes on by rewards. Of eight answers to a question, those that overlap
# the right box better than the others become more likely.
#
# command   accelerate launch --config_file accelerate_config/cpu.yaml mllm/pipeline/finetune.py config/demo_reward.py
# hardware  two CPU cores, 2 GiB
# score     see docs/reward.md
_base_ = ["_base_/train/tiny.py", "catalogue/scenes.py"]

model_args = dict(type="llava", model_name_or_path="outputs/demo_scenes")
training_args = dict(
    output_dir="outputs/demo_reward",
    do_eval=True,
    max_steps=70,
    per_device_train_batch_size=16,  # scenes for each of two processes, with up to four questions each
    learning_rate=2e-4,
    lr_scheduler_type="warmup_stable_decay",
    lr_scheduler_kwargs=dict(num_decay_steps=50),
    warmup_steps=5,
    adam_beta2=0.98,
    logging_steps=10,
    seed=0,
)
reward_args = dict(
    rewards=dict(iou=dict(type="BoxIoU"), hit=dict(type="BoxIoU", threshold=0.5)),
    num_generations=8,
    max_completion_length=8,  # tokens: a box and its end
    temperature=0.7,  # a token at a time, a box is only right if all of its tokens are
    scale_rewards="none",
)
data_args = dict(
    train=_base_.SCENES_FRESH_TRAIN,
    validation=_base_.SCENES_FRESH_VAL,
    compute_metric=dict(type="REC", constant_box=True),
    collator_kwargs=dict(packing="shared", window=0),
    gen_kwargs=dict(max_new_tokens=16),
)
