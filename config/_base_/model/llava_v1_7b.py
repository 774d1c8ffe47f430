# LLaVA v1 7B: CLIP ViT-L/14 at 224 pixels, layer -2, 256 tokens per image, one linear projector, Vicuna v1.
# Its folder answers for all of that; name it with --cfg-options model_args.model_name_or_path=/path/to/llava-v1-7b
model_args = dict(
    type="llava",
    model_name_or_path="checkpoints/llava-v1-7b",
    freeze=["vision_tower"],
    codec="shikra",
    template="vicuna_v1",
    placement="pad",
)
