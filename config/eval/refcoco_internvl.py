# RefCOCO, RefCOCO+ and RefCOCOg as InternVL is evaluated: its prompt, its scorer's reading, greedy decoding.
#
# command   mllm predict config/eval/refcoco_internvl.py --cfg-options model_args.model_name_or_path=DIR
# source    OpenGVLab/InternVL, evaluate_grounding.py (there with 5 beams below 20B parameters)
_base_ = ["../_base_/train/eval.py", "../catalogue/refcoco.py"]

QUESTIONS = "config/questions/eval/rec_internvl.json"
training_args = dict(output_dir="outputs/refcoco_internvl")
model_args = dict(type="hf", codec="internvl")
data_args = dict(
    multitest=dict(
        refcoco_val=dict(cfg=dict(_base_.REC_REFCOCO_UNC_VAL, questions=QUESTIONS)),
        refcoco_testA=dict(cfg=dict(_base_.REC_REFCOCO_UNC_TESTA, questions=QUESTIONS)),
        refcoco_testB=dict(cfg=dict(_base_.REC_REFCOCO_UNC_TESTB, questions=QUESTIONS)),
        refcoco_plus_val=dict(cfg=dict(_base_.REC_REFCOCO_PLUS_UNC_VAL, questions=QUESTIONS)),
        refcoco_plus_testA=dict(cfg=dict(_base_.REC_REFCOCO_PLUS_UNC_TESTA, questions=QUESTIONS)),
        refcoco_plus_testB=dict(cfg=dict(_base_.REC_REFCOCO_PLUS_UNC_TESTB, questions=QUESTIONS)),
        refcocog_val=dict(cfg=dict(_base_.REC_REFCOCOG_UMD_VAL, questions=QUESTIONS)),
        refcocog_test=dict(cfg=dict(_base_.REC_REFCOCOG_UMD_TEST, questions=QUESTIONS)),
    ),
    compute_metric=dict(type="REC", reading="internvl"),
    gen_kwargs=dict(max_new_tokens=100),
)
