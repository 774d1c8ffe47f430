# Words as answers: VQAv2, GQA, A-OKVQA (both tasks), ScienceQA, POPE, OCRBench, and captions of COCO.
#
# command   mllm predict config/eval/questions_and_answers.py \
#               --cfg-options model_args.type=llava model_args.model_name_or_path=DIR
_base_ = [
    "../_base_/train/eval.py",
    "../catalogue/vqa.py",
    "../catalogue/gqa.py",
    "../catalogue/scienceqa.py",
    "../catalogue/ocrbench.py",
    "../catalogue/captions.py",
]

training_args = dict(output_dir="outputs/questions_and_answers")
data_args = dict(
    multitest=dict(
        vqav2_val=dict(cfg=_base_.VQAV2_VAL, compute_metric="VQAAccuracy"),
        gqa_testdev=dict(cfg=_base_.GQA_TESTDEV, compute_metric="AnswerAccuracy"),
        aokvqa_val=dict(cfg=_base_.AOKVQA_VAL, compute_metric="ChoiceAccuracy"),
        aokvqa_direct_val=dict(cfg=_base_.AOKVQA_DIRECT_VAL, compute_metric=dict(type="VQAAccuracy", rule="aokvqa")),
        scienceqa_test=dict(cfg=_base_.SCIENCEQA_TEST, compute_metric="ChoiceAccuracy"),
        pope=dict(cfg=_base_.POPE_ALL, compute_metric="POPE"),
        ocrbench=dict(cfg=_base_.OCRBENCH, compute_metric="OCRBench"),
        coco_captions=dict(cfg=_base_.CAPTION_COCO2014_VAL, compute_metric="Captions"),
    ),
    gen_kwargs=dict(max_new_tokens=64),
)
