# OpenFlamingo 9B v2: CLIP ViT-L/14, MPT-7B, cross-attention before every 4th layer, released weights of what lies
# between. docs/recipes.md says how to make the tokenizer's folder.
model_args = dict(
    type="openflamingo",
    vision_tower="checkpoints/clip-vit-large-patch14",
    language_model="checkpoints/mpt-7b",
    tokenizer="checkpoints/openflamingo-9b-tokenizer",  # MPT-7B's with <|endofchunk|>, <image>, <PAD> behind its words
    checkpoint="checkpoints/OpenFlamingo-9B-vitl-mpt7b.pt",
    cross_attn_every_n_layers=4,
    template="otter",
    placement="crop",
)
