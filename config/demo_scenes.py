# `make demo`: a tiny LLaVA from random weights learns to point at coloured shapes, on two CPU cores in minutes.
#
# command   accelerate launch --config_file accelerate_config/cpu.yaml mllm/pipeline/finetune.py config/demo_scenes.py
# hardware  two CPU cores, 2 GiB
# score     acc@0.5 0.603 on 512 held-out scenes after 240 to 260 s (best constant box: 0.053)
_base_ = ["_base_/model/llava_tiny.py", "_base_/train/tiny.py", "catalogue/scenes.py"]

SCENES = dict(type="Scenes", size=48)
model_args = dict(
    vision_tower=dict(patch_size=12),  # 16 tokens per image
    codec=dict(type="bins", bins=25),  # steps of two pixels: half as many to learn, near enough
)
training_args = dict(
    output_dir="outputs/demo_scenes",
    do_eval=True,
    max_steps=2600,
    per_device_train_batch_size=16,  # scenes for each of two processes
    train_sampling_strategy="sequential",  # one dataset after the other
    learning_rate=2e-3,
    lr_scheduler_type="warmup_stable_decay",
    lr_scheduler_kwargs=dict(num_decay_steps=500),
    warmup_steps=100,
    weight_decay=0.05,
    adam_beta2=0.98,
    logging_steps=100,
    seed=0,
)
data_args = dict(
    train=dict(
        type="ConcatDataset",
        datasets=[
            # one shape, boxes and words for it: to point at all, and what words look like
            dict(SCENES, count=16000, seed=2, objects=[1, 1], tasks=["rec", "reg"]),
            # several, with a question about each: which one is meant
            dict(SCENES, count=80000, seed=3, objects=[2, 4], questions_per_scene=4),
        ],
    ),
    validation=_base_.SCENES_VAL,
    compute_metric=dict(type="REC", constant_box=True),
    collator_kwargs=dict(packing="shared", window=0),  # the questions about a scene share its image; all cost alike
    gen_kwargs=dict(max_new_tokens=16),
)
