"""Instruction data in LLaVA's format, and text alone in Alpaca's. File names are those of the public releases."""

# first stage: one caption per image, to train the connector
INSTRUCT_LLAVA_CC3M_595K = dict(
    type="Instruct",
    filename="data/annotations/llava_cc3m_595k/chat.json",
    image_folder="data/images/llava_cc3m_595k",
)
INSTRUCT_LLAVA_LCS_558K = dict(
    type="Instruct",
    filename="data/annotations/blip_laion_cc_sbu_558k.json",
    image_folder="data/images/llava_lcs_558k",
)

# second stage: conversations
INSTRUCT_LLAVA_150K = dict(
    type="Instruct",
    filename="data/annotations/llava_instruct_150k.json",
    image_folder="data/images/coco2017/train2017",
)
INSTRUCT_LLAVA_MIX_665K = dict(
    type="Instruct",
    filename="data/annotations/llava_v1_5_mix665k.json",
    image_folder="data/images",  # its lines name the folder of each source
)

TEXT_ALPACA = dict(type="TextOnly", filename="data/annotations/alpaca_data.json")

# dialogues and their summaries (SAMSum), one object a line: {"instruction": "Summarize the dialogue.", "input": the
# dialogue, "output": the summary}
TEXT_SAMSUM_TRAIN = dict(type="TextOnly", filename="data/annotations/samsum_train.jsonl")
TEXT_SAMSUM_VAL = dict(type="TextOnly", filename="data/annotations/samsum_val.jsonl")

# LLaVAR and ShareGPT4V in LLaVA's format as published; the others as lrv.py, svit.py and sharegpt.py of tools/convert
# write them
INSTRUCT_LLAVAR_20K = dict(
    type="Instruct",
    filename="data/annotations/llava_instruct_150k_llavar_20k.json",
    image_folder="data/images/llavar",
)
INSTRUCT_LRV = dict(
    type="Instruct",
    filename="data/annotations/lrv_filter_cap.jsonl",
    image_folder="data/images/visual_genome",
)
INSTRUCT_SVIT_CONVERSATION = dict(
    type="Instruct",
    filename="data/annotations/svit_conversation.jsonl",
    image_folder="data/images/visual_genome",
)
INSTRUCT_SVIT_REFERRING = dict(
    type="Instruct",
    filename="data/annotations/svit_referring_qa.jsonl",  # with boxes
    image_folder="data/images/visual_genome",
)
INSTRUCT_SVIT_REASONING = dict(
    type="Instruct",
    filename="data/annotations/svit_complex_reasoning.jsonl",
    image_folder="data/images/visual_genome",
)
INSTRUCT_SVIT_DETAIL = dict(
    type="Instruct",
    filename="data/annotations/svit_detail_description.jsonl",
    image_folder="data/images/visual_genome",
)
INSTRUCT_LRV_MORE = dict(
    type="Instruct",
    filename="data/annotations/lrv_filter_cap_more.jsonl",
    image_folder="data/images/visual_genome",
)
INSTRUCT_LRV_CHARTS = dict(
    type="Instruct",
    filename="data/annotations/lrv_chart_release_update.jsonl",
    image_folder="data/images/lrv_charts",
)
INSTRUCT_SHAREGPT4V_100K = dict(
    type="Instruct",
    filename="data/annotations/sharegpt4v_instruct_gpt4-vision_cap100k.json",
    image_folder="data/images",  # its lines name the folder of each source
)
INSTRUCT_SHAREGPT = dict(
    type="Instruct",
    filename="data/annotations/sharegpt_ShareGPT_V3_unfiltered_cleaned_split.jsonl",  # text alone
)
