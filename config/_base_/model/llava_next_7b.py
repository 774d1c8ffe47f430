# LLaVA-NeXT 7B (v1.6): CLIP ViT-L/14 at 336 pixels, layer -2, a two-layer MLP, Vicuna v1.5. An image of 640 x 480
# pixels is 2340 tokens, none is more than 2928: 576 of the whole, the rest of two to four tiles, without their padding
# and with one more at the end of each row. Its folder, in transformers' layout, answers for all of that; name it with
# --cfg-options model_args.model_name_or_path=/path/to/llava-v1.6-vicuna-7b-hf
model_args = dict(
    type="llava",
    model_name_or_path="checkpoints/llava-v1.6-vicuna-7b-hf",
    freeze=["vision_tower"],
    codec="llava15",
    template="vicuna_v1",
    placement="pad",  # coordinates are fractions of the padded square, as without tiles
)
