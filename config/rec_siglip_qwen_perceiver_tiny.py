# Mixing parts: a SigLIP encoder, a perceiver of 16 tokens per image and a Qwen2, tiny and from random weights, learn to
# point at coloured shapes. With folders of real checkpoints for the two dicts it trains those.
#
# command   mllm train config/rec_siglip_qwen_perceiver_tiny.py
# hardware  one CPU core
_base_ = ["_base_/model/llava_tiny.py", "_base_/train/tiny.py", "catalogue/scenes.py"]

model_args = dict(
    connector=dict(_delete_=True, type="perceiver", latents=16, depth=2, heads=3, head_width=32),
    language_model=dict(model_type="qwen2", num_key_value_heads=3),
)
training_args = dict(
    output_dir="outputs/rec_siglip_qwen_perceiver_tiny",
    do_eval=True,
    max_steps=1500,
    per_device_train_batch_size=24,
    lr_scheduler_type="cosine",
    warmup_steps=100,
    weight_decay=0.05,
    adam_beta2=0.98,
    logging_steps=100,
    seed=0,
)
data_args = dict(
    train=_base_.SCENES_TRAIN,
    validation=_base_.SCENES_VAL,
    compute_metric=dict(type="REC", constant_box=True),
    collator_kwargs=dict(packing="shared"),  # the questions about a scene share its image
    gen_kwargs=dict(max_new_tokens=16),
)
