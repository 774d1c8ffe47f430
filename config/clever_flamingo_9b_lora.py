# Clever Flamingo v2: OpenFlamingo 9B learns from a mixture of instructions with and without images, in rows filled
# with further ones; low-rank adapters in MPT-7B and the cross-attention, the perceiver in full.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 8 \
#               mllm/pipeline/finetune.py config/clever_flamingo_9b_lora.py \
#               --cfg-options data_args.train.dataset.dataset.filename=/path/to/datasets.json
# hardware  8 GPUs of 80 GB; 62 GB each as Instruct-Flamingo's README has it, not measured by us
# score     none published for v2
# source    the script and the tuning config `lora[lm+xqttn]+perceiver` of Instruct-Flamingo (Chen et al. 2023,
#           arXiv 2307.01003): rows of 2048 tokens and up to 16 images, 64 a step, constant 5e-5 after 1000 steps.
#           As there, half of the images are padded to squares in drawn colours; the others here in the mean colour.
_base_ = ["_base_/model/openflamingo_9b.py", "_base_/train/flamingo_ddp.py", "catalogue/instruct_flamingo.py"]

model_args = dict(
    vision_tower="checkpoints/clip-vit-large-patch14-336",
    template="guanaco-no-prompt",
    placement="pad",
    adapters=dict(
        type="lora",
        targets=["language_model", "cross_attention"],
        r=128,
        alpha=64,
        unfrozen=["perceiver"],
    ),
)
training_args = dict(
    output_dir="outputs/clever_flamingo_9b_lora",
    num_train_epochs=100,  # of train_num_samples each
    per_device_train_batch_size=2,  # rows per GPU
    gradient_accumulation_steps=4,  # 64 rows a step
    learning_rate=5e-5,
    lr_scheduler_type="constant_with_warmup",
    warmup_steps=1000,
)
data_args = dict(
    train=dict(
        type="MultiTurn",
        dataset=dict(
            type="Augmented",
            dataset=dict(_base_.INSTRUCT_FLAMINGO_MIXTURE, train_num_samples=100_000),
            pad=0.5,
            background="random",
        ),
        draws=32,
        max_images=16,
    ),
    max_length=2048,
)
