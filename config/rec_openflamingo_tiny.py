# Referring expressions about generated scenes with a tiny OpenFlamingo from random weights: shows that the path from
# scene to score runs. So few steps teach it to answer with a box, not where.
#
# command   mllm train config/rec_openflamingo_tiny.py
# hardware  two CPU cores, half a minute
_base_ = ["_base_/model/openflamingo_tiny.py", "_base_/train/tiny.py", "catalogue/scenes.py"]

training_args = dict(
    output_dir="outputs/rec_openflamingo_tiny",
    do_eval=True,
    max_steps=60,
    per_device_train_batch_size=12,  # scenes
    warmup_steps=10,
    logging_steps=10,
)
data_args = dict(
    train=_base_.SCENES_TRAIN,
    validation=dict(type="Subset", dataset=_base_.SCENES_VAL, first=64),
    compute_metric=dict(type="REC", constant_box=True),
    collator_kwargs=dict(packing="shared"),  # the questions about a scene share its image
    gen_kwargs=dict(max_new_tokens=16),
)
