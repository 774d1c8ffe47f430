# Of what LLaVA-1.5 reports, by its own scripts' rules: ScienceQA with images, POPE, GQA, VQAv2 (here val), TextVQA.
#
# command   mllm predict config/eval/llava.py --cfg-options model_args.model_name_or_path=DIR
# source    haotian-liu/LLaVA: docs/Evaluation.md, llava/eval/eval_science_qa.py, scripts/convert_gqa_for_eval.py
_base_ = [
    "../_base_/train/eval.py",
    "../catalogue/scienceqa.py",
    "../catalogue/gqa.py",
    "../catalogue/vqa.py",
]

training_args = dict(output_dir="outputs/eval_llava")
model_args = dict(type="llava")
data_args = dict(
    multitest=dict(
        scienceqa_img=dict(cfg=_base_.SCIENCEQA_IMG_TEST, compute_metric=dict(type="ChoiceAccuracy", reading="llava")),
        pope=dict(cfg=_base_.POPE_ALL, compute_metric="POPE"),
        gqa_testdev=dict(cfg=_base_.GQA_TESTDEV, compute_metric=dict(type="AnswerAccuracy", rule="gqa")),
        vqav2_val=dict(cfg=_base_.VQAV2_VAL, compute_metric="VQAAccuracy"),
        # its prompt has the words that Rosetta read in the image
        textvqa_val=dict(
            cfg=dict(_base_.TEXTVQA_OCR_VAL, questions="config/questions/eval/vqa_llava.json", answer="<answer>"),
            compute_metric=dict(type="VQAAccuracy", rule="textvqa"),
        ),
    ),
    gen_kwargs=dict(max_new_tokens=128),
)
