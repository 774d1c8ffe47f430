"""`model_args` of type "llava" -> a Llava: from a checkpoint folder, or from parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mllm.conversation.preprocessing.tiling import TilingConfig
from mllm.errors import ConfigError
from mllm.fields import PathName
from mllm.geometry import ImageSide
from mllm.models.arguments import Attention, Deviation, Dtype, Mean, RowMultiple, Spec
from mllm.models.components import (
    Statistics,
    finish,
    image_statistics,
    load_causal_lm,
    parts_missing,
    refuse_parts,
    torch_dtype,
    vision_encoder,
)
from mllm.models.llava.model import FreezePart, Llava
from mllm.models.llava.transformers_layout import compose, load_llava
from mllm.models.runtime.quantization import QuantizationConfig
from mllm.models.vision.towers import FeatureLayer
from mllm.registry import MODELS, ConnectorConfig
from mllm.tokenizer_files import required_token
from mllm.types import IMAGE

if TYPE_CHECKING:
    import torch

PerTower = Sequence[float] | Sequence[Sequence[float]]
"""Three numbers, or three for each of two vision towers."""


@MODELS.register_module("llava")
def llava(
    *,
    tokenizer: PreTrainedTokenizerBase,
    model_name_or_path: PathName | None = None,
    vision_tower: Spec | Sequence[Spec] | None = None,
    language_model: Spec | None = None,
    connector: ConnectorConfig | None = None,
    feature_layer: FeatureLayer | None = None,
    keep_cls: bool | None = None,
    image_size: ImageSide | Sequence[ImageSide] | None = None,
    image_mean: Mean | tuple[Mean, Mean] | None = None,
    image_std: Deviation | tuple[Deviation, Deviation] | None = None,
    tiling: TilingConfig | None = None,
    freeze: Sequence[FreezePart] = (),
    dtype: Dtype | None = None,
    attn_implementation: Attention | None = None,
    quantization: QuantizationConfig | None = None,
    pad_to_multiple_of: RowMultiple | None = None,
) -> Llava:
    """A LLaVA in evaluation mode, either from a checkpoint or from a vision tower and a language model.

    Args:
        tokenizer: holds `<image>` and all other tokens that the texts use; embeddings are added where they lack.
        model_name_or_path: local folder of a whole model, our layout or transformers' LLaVA. It answers for all parts.
        vision_tower: local folder, or a dict of a transformers config for random weights. A list of two of them stands
            side by side; then a list (of lists, for those that take three numbers or several layers) of two in
            `feature_layer`, `image_size`, `image_mean` and `image_std` gives each its own.
        language_model: the same; a random one takes vocabulary size and special tokens from the tokenizer.
        connector: name or dict of a registered connector; of parts "mlp2x_gelu".
        feature_layer: hidden state of the vision tower that is read, or a list whose features are concatenated; of
            parts -2.
        keep_cls: keep the tokens before the patches; of parts False.
        image_size: side of the images in pixels, by default what the vision tower was made for; of another size, its
            position embeddings are interpolated. May be changed of a checkpoint.
        image_mean: of pixels, per channel; of parts what the vision tower's folder says, else its family's.
        image_std: likewise.
        tiling: cut images into tiles: a dict of type "any_resolution" or "crops", see
            `mllm.conversation.preprocessing.tiling`. By default an image is one square, or what the checkpoint
            says. May be changed of a checkpoint; a newline feature that it does not hold starts at random.
        freeze: parts that are not trained, of "vision_tower", "connector", "language_model".
        dtype: "float32" (default), "bfloat16", "float16", or "auto": that of the checkpoint's language model.
        attn_implementation: as in transformers (default: its choice), or for packed rows `mllm_packed` or `mllm_flex`,
            see `mllm.models.runtime.packed_attention`.
        quantization: of the language model as it is loaded; see `quantized_loading`.
        pad_to_multiple_of: round the number of embeddings up when some are added.

    Raises:
        ConfigError: arguments that contradict one another, or unknown names.
        ModelError: folders that do not hold what they should, or a tokenizer without `<image>`.
    """
    parts: dict[str, Any] = {
        "vision_tower": vision_tower,
        "language_model": language_model,
        "connector": connector,
        "feature_layer": feature_layer,
        "keep_cls": keep_cls,
        "image_mean": image_mean,
        "image_std": image_std,
    }
    required_token(tokenizer, IMAGE)
    loading: dict[str, Any] = {
        "dtype": torch_dtype(dtype),
        "attn_implementation": attn_implementation,
        "quantization": quantization,
    }
    if model_name_or_path is not None:
        refuse_parts(model_name_or_path, parts)
        model = load_llava(model_name_or_path, **loading)
        model.resize_images(image_size, tiling)
    elif vision_tower is None or language_model is None:
        raise parts_missing("llava", parts)
    else:
        parts |= {"image_size": image_size, "tiling": tiling}
        model = _from_parts(parts, tokenizer, **loading)
    return finish(model, tokenizer, freeze=freeze, pad_to_multiple_of=pad_to_multiple_of)


def _from_parts(
    parts: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    dtype: torch.dtype,
    attn_implementation: str | None,
    quantization: Mapping[str, object] | None,
) -> Llava:
    language_model = load_causal_lm(
        parts["language_model"],
        tokenizer,
        dtype=dtype,
        attn_implementation=attn_implementation,
        quantization=quantization,
    )
    # one dtype for the whole model: sharding groups parameters of different parts
    dtype = language_model.dtype
    specs = [parts["vision_tower"]] if isinstance(parts["vision_tower"], (str, Mapping)) else parts["vision_tower"]
    if len(specs) not in (1, 2):
        raise ConfigError(field="vision_tower", expected="one, or a list of two", found=str(len(specs)))
    encoders = [vision_encoder(spec, dtype=dtype, attn_implementation=attn_implementation) for spec in specs]
    known = [_pixel_statistics(parts, specs, encoders, number) for number in range(len(specs))]
    second = {"second_image_mean": known[1][0], "second_image_std": known[1][1]} if len(known) == 2 else {}
    connector = parts["connector"] or "mlp2x_gelu"
    config = compose(
        encoders,
        language_model,
        connector={"type": connector} if isinstance(connector, str) else dict(connector),
        feature_layer=-2 if parts["feature_layer"] is None else parts["feature_layer"],
        keep_cls=bool(parts["keep_cls"]),
        image_size=parts["image_size"],
        image_mean=known[0][0],
        image_std=known[0][1],
        tiling=None if parts["tiling"] is None else dict(parts["tiling"]),
        **second,
    )
    model = Llava(config, vision_encoders=encoders, language_model=language_model)
    model.connector.to(dtype)  # that of the mosaic is the language model's already
    return model.eval()


def _pixel_statistics(
    parts: Mapping[str, Any], specs: Sequence[Spec], encoders: Sequence[PreTrainedModel], number: int
) -> Statistics:
    """Mean and standard deviation of the pixels of vision tower `number`: what the config says, else what is known."""
    mean, std = (
        given[number] if given is not None and isinstance(given[0], Sequence) else given
        for given in (parts["image_mean"], parts["image_std"])
    )
    if mean is not None and std is not None:
        return mean, std
    spec = specs[number]
    known_mean, known_std = image_statistics(spec if isinstance(spec, str) else None, encoders[number].config)
    return mean or known_mean, std or known_std
