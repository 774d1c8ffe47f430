# OpenFlamingo's few-shot evaluation: COCO and Flickr30k captions, VQAv2, OK-VQA, TextVQA, VizWiz. Demonstrations are
# drawn from 2,048 training items for 2,048 test items (Flickr30k: 1,000); its prompts, 3 beams, its reading of answers.
#
# command   mllm predict config/eval/openflamingo.py --cfg-options model_args.model_name_or_path=DIR
# shots     SHOTS below: 0, 4, 8, 16 or 32 in the paper; 0 are two demonstrations without their images
# published OpenFlamingo-9B v2 with 0, 4, 32 shots: COCO 79.5, 89.0, 99.5; VQAv2 52.7, 54.8, 53.3 (the paper's table)
# source    Awadalla et al. 2023, arXiv 2308.01390; mlfoundations/open_flamingo, open_flamingo/eval
_base_ = [
    "../_base_/train/eval.py",
    "../catalogue/captions.py",
    "../catalogue/vqa.py",
]

SHOTS = 4
FEW = dict(type="FewShot", shots=SHOTS, text_only=2, seed=42)
SAMPLE = dict(type="Subset", count=2048, seed=42)
CAPTION = dict(questions="config/questions/eval/openflamingo_caption.json")
VQA = dict(questions="config/questions/eval/openflamingo_vqa.json", answer="<answer>")
CIDER = dict(type="Captions", scores=["cider"], reading="openflamingo")
training_args = dict(output_dir="outputs/eval_openflamingo")
model_args = dict(
    type="openflamingo",
    template=dict(type="openflamingo", prompt="{question}", separator="\n"),
    placement="crop",
)
data_args = dict(
    multitest=dict(
        coco=dict(
            cfg=dict(
                FEW,
                dataset=dict(SAMPLE, dataset=dict(_base_.CAPTION_COCO_KARPATHY_TEST, **CAPTION)),
                demonstrations=dict(SAMPLE, dataset=dict(_base_.CAPTION_COCO_KARPATHY_TRAIN, **CAPTION)),
            ),
            compute_metric=CIDER,
            gen_kwargs=dict(max_new_tokens=20),
        ),
        flickr30k=dict(
            cfg=dict(
                FEW,
                dataset=dict(_base_.CAPTION_FLICKR30K_KARPATHY_TEST, **CAPTION),
                demonstrations=dict(SAMPLE, dataset=dict(_base_.CAPTION_FLICKR30K_KARPATHY_TRAIN, **CAPTION)),
            ),
            compute_metric=CIDER,
            gen_kwargs=dict(max_new_tokens=20),
        ),
        vqav2=dict(
            cfg=dict(
                FEW,
                dataset=dict(SAMPLE, dataset=dict(_base_.VQAV2_VAL, **VQA)),
                demonstrations=dict(SAMPLE, dataset=dict(_base_.VQAV2_TRAIN, **VQA)),
            ),
            compute_metric=dict(type="VQAAccuracy", rule="openflamingo"),
        ),
        okvqa=dict(
            cfg=dict(
                FEW,
                dataset=dict(SAMPLE, dataset=dict(_base_.OKVQA_VAL, **VQA)),
                demonstrations=dict(SAMPLE, dataset=dict(_base_.OKVQA_TRAIN, **VQA)),
            ),
            compute_metric=dict(type="VQAAccuracy", rule="openflamingo_okvqa"),
        ),
        textvqa=dict(
            cfg=dict(
                FEW,
                dataset=dict(SAMPLE, dataset=dict(_base_.TEXTVQA_VAL, **VQA)),
                demonstrations=dict(SAMPLE, dataset=dict(_base_.TEXTVQA_TRAIN, **VQA)),
            ),
            compute_metric=dict(type="VQAAccuracy", rule="openflamingo"),
            gen_kwargs=dict(max_new_tokens=10),
        ),
        vizwiz=dict(
            cfg=dict(
                FEW,
                dataset=dict(SAMPLE, dataset=dict(_base_.VIZWIZ_VAL, **VQA)),
                demonstrations=dict(SAMPLE, dataset=dict(_base_.VIZWIZ_TRAIN, **VQA)),
            ),
            compute_metric=dict(type="VQAAccuracy", rule="openflamingo_vizwiz"),
        ),
    ),
    gen_kwargs=dict(num_beams=3, length_penalty=0.0, max_new_tokens=5),
)
