# Otter 9B: OpenFlamingo learns from MIMIC-IT, instructions with others before them as examples.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 8 \
#               mllm/pipeline/finetune.py config/otter_9b_mimic_it.py
# hardware  8 GPUs of 80 GB; not measured by us
# score     not measured by us; Otter 9B publishes 24.7 on MM-Vet (Yu et al. 2023, arXiv 2308.02490)
# source    learning rate 1e-5, cosine, warm-up 0.01, 6 epochs, decay 0.1 on cross-attention alone: the scripts of
#           Otter's repository (Li et al. 2023, arXiv 2305.03726), which take 32 rows a step
_base_ = ["_base_/model/openflamingo_9b.py", "_base_/train/flamingo_ddp.py", "catalogue/mimic_it.py"]

model_args = dict(type="otter", weight_decay_groups=dict(cross_attention=0.1))
training_args = dict(
    output_dir="outputs/otter_9b_mimic_it",
    num_train_epochs=6,
    per_device_train_batch_size=4,  # conversations per GPU, 32 a step
    learning_rate=1e-5,
    warmup_steps=0.01,  # below 1: share of all steps
)
data_args = dict(
    train=dict(
        type="ConcatDataset",
        datasets=[
            _base_.MIMIC_IT_LACONV,
            _base_.MIMIC_IT_LADD,
            _base_.MIMIC_IT_LACR_I2I,
            _base_.MIMIC_IT_LACR_T2T,
            _base_.MIMIC_IT_CGD,
            _base_.MIMIC_IT_SD,
        ],
    ),
    max_length=2048,
)
