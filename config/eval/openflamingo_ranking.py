# OpenFlamingo's few-shot evaluation by ranking: Hateful Memes (ROC-AUC) and ImageNet (top-1). Random demonstrations of
# 2,048 training items, which follow each other without a line break.
#
# command   mllm predict config/eval/openflamingo_ranking.py --cfg-options model_args.model_name_or_path=DIR
# shots     SHOTS below: 0, 4, 8, 16 or 32 in the paper; 0 are two demonstrations without their images
# source    Awadalla et al. 2023, arXiv 2308.01390; mlfoundations/open_flamingo, open_flamingo/eval
_base_ = [
    "../_base_/train/eval.py",
    "../catalogue/folders.py",
    "../catalogue/vqa.py",
]

SHOTS = 4
FEW = dict(type="FewShot", shots=SHOTS, text_only=2, seed=42)
SAMPLE = dict(type="Subset", count=2048, seed=42)
training_args = dict(output_dir="outputs/eval_openflamingo_ranking")
model_args = dict(type="openflamingo", template=dict(type="openflamingo", prompt="{question}"), placement="crop")
data_args = dict(
    multitest=dict(
        hateful_memes=dict(
            cfg=dict(
                FEW,
                dataset=_base_.HATEFUL_MEMES_DEV,
                demonstrations=dict(SAMPLE, dataset=_base_.HATEFUL_MEMES_TRAIN),
            ),
            compute_metric="RocAuc",
            ranking=dict(candidates="options"),
        ),
        imagenet=dict(
            cfg=dict(
                FEW,
                dataset=dict(SAMPLE, dataset=_base_.IMAGENET_VAL),
                demonstrations=dict(SAMPLE, dataset=_base_.IMAGENET_TRAIN),
            ),
            compute_metric="RankedAccuracy",
            ranking=dict(candidates="data/annotations/imagenet_classes.json"),
        ),
    ),
)
