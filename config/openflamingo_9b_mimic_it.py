# OpenFlamingo 9B in Otter's format, on a part of MIMIC-IT, as a starting point for a small budget: low-rank adapters
# in the cross-attention, the perceiver in full, all else frozen.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/openflamingo_9b_mimic_it.py
# hardware  4 GPUs of 80 GB; not measured by us
# score     not measured; these settings are ours
_base_ = ["_base_/model/openflamingo_9b.py", "_base_/train/flamingo_ddp.py", "catalogue/mimic_it.py"]

model_args = dict(
    adapters=dict(
        type="lora",
        targets=["cross_attention"],
        r=64,
        alpha=64,
        unfrozen=["perceiver", "embeddings"],  # <answer> is new to the model
    ),
    learning_rate_groups=dict(perceiver=1e-5, embeddings=1e-5),
)
training_args = dict(
    output_dir="outputs/openflamingo_9b_mimic_it",
    num_train_epochs=3,
    per_device_train_batch_size=4,  # conversations per GPU
    gradient_accumulation_steps=2,  # 32 conversations a step
    learning_rate=1e-4,
    warmup_steps=0.01,  # below 1: share of all steps
)
data_args = dict(
    train=dict(type="ConcatDataset", datasets=[_base_.MIMIC_IT_LACONV, _base_.MIMIC_IT_LACR_T2T]),
    max_length=1024,
)
