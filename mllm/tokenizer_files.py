"""Reads the tokenizers of folders as the software that wrote them meant them; `tokenizer_saving.py` writes them.

transformers 5 builds a `LlamaTokenizer` from its vocabulary and the setting `legacy` alone, takes a folder without the
setting for a new one, and does not write it. Here:

- `tokenizer.json` is followed as it stands: it says itself where a space is put before a word, and how words are split.
  transformers 5 builds most classes from their vocabulary alone, and so splits text as the class that
  tokenizer_config.json names, which in older folders was never more than a name;
- `tokenizer.model` alone is read as the sentencepiece library reads it; without `legacy` the folder is from before
  July 2023, when the setting came, and the text after a special token begins with a space.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm.compat.transformers_files import is_tokenizer_class, merges_of, tokenizer_of
from mllm.errors import ModelError
from mllm.fields import show
from mllm.files import read_json
from mllm.json_fields import field
from mllm.model_files import check_folder, how_to_get, reading_model_files

if TYPE_CHECKING:  # `data dedup` and `data check` read text without these, whose imports take seconds
    from tokenizers import models
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "spiece.model", "vocab.json")
"""A folder with a tokenizer has at least one of these."""
CONFIG = "tokenizer_config.json"
JSON_FILES = ("tokenizer.json", CONFIG, "special_tokens_map.json", "added_tokens.json", "vocab.json")
SPACE = "▁"
"""How sentencepiece writes a space."""
SPACES = (SPACE, "Ġ")
"""How tokens begin that begin with a space, of sentencepiece and of byte-level vocabularies."""
UNIGRAM = 1
"""`model_type` in a sentencepiece model; Llama's is 2, byte-pair encoding."""
PROBE_TEXTS = (
    "Hello world, where is the red circle? It's 12.5% of {this} [0.123,0.456] <1/2>\n",
    " leading and trailing spaces  and   runs ",
    "\n\nlines\n \tand tabs\r\n",
    "naïve façade, 中文 текст ελ עברית العربية हिन्दी 한국어 ﬁ e\u0301 \u200d",
    "🐶👩‍👩‍👧 “quotes” … ½ €",
)
"""Texts whose ids a written folder must give back, beside each added token with and without spaces around it."""
USED = ("bos_token", "eos_token", "pad_token")
"""What every model here may read or write; an `unk_token` that only a class names, as Qwen2's does, none reads."""
RECORD = "mllm_tokens.json"
"""Lists the ids of `PROBE_TEXTS`, so that another tokenizer put in the place of a folder's own is noticed."""


def has_tokenizer(folder: str | Path) -> bool:
    return any(Path(folder, name).is_file() for name in FILES)


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder.

    Raises:
        ModelError: no such folder (nothing is looked up on a hub), or its tokenizer is written in Python, as ByT5's.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    path = Path(folder)
    if not path.is_dir():
        raise ModelError(
            how_to_get(folder),
            where=str(folder),
            expected="a local checkpoint with its tokenizer",
            found="no such folder",
        )
    check_folder(path)
    settings = _read_json(path / CONFIG) if (path / CONFIG).is_file() else {}
    _check_class(path, settings)
    model_type = _model_type(path)
    if model_type in CONFIG_MAPPING:
        with reading_model_files(path / "config.json"):
            AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    with reading_model_files(path, "its tokenizer", JSON_FILES):
        has_json = (path / "tokenizer.json").is_file()
        if not _is_llama(path, settings, model_type):
            tokenizer = read_by_class(path)
            if has_json and not _reads_as_its_json(path, settings, tokenizer):
                tokenizer = _generic(path, tokenizer)
        elif has_json:
            tokenizer = _llama_from_json(path, settings)
        else:
            tokenizer = _llama_from_sentencepiece(path, settings)
        tokenizer(list(PROBE_TEXTS), verbose=False)  # what cannot tokenise, or has settings of another type, shows here
    if not tokenizer.is_fast:
        raise ModelError(
            where=str(path),
            field="tokenizer_class",
            expected="a tokenizer of the tokenizers library: a tokenizer.json, or the files it is made from",
            found=type(tokenizer).__name__,
        )
    _check_vocabulary(path, settings, tokenizer)
    _check_recorded(path, tokenizer)
    processors = path / "chat_template.json"  # where processors of older models keep theirs
    if processors.is_file() and not (path / "chat_template.jinja").is_file():
        found = _read_json(processors)
        tokenizer.chat_template = field(found, "chat_template", str, where=processors, error=ModelError)
    return tokenizer


def _is_llama(path: Path, settings: Mapping[str, object], model_type: object) -> bool:
    """Whether a folder's tokenizer is Llama's: it says so, or holds a sentencepiece model and says nothing.

    Folders of early 2023 name no class; of a model type that has a tokenizer of its own, transformers knows it.
    """
    named = settings.get("tokenizer_class")
    if named is not None:
        return str(named).lower().removesuffix("fast") == "llamatokenizer"
    if not (path / "tokenizer.model").is_file() or (path / "tokenizer.json").is_file():
        return False
    own = tokenizer_of(str(model_type))
    return own in (None, "TokenizersBackend", "LlamaTokenizer", "LlamaTokenizerFast")


def _model_type(folder: str | Path) -> Any:
    path = Path(folder) / "config.json"
    return _read_json(path).get("model_type") if path.is_file() else None


def _check_class(path: Path, settings: dict[str, object]) -> None:
    """
    Raises:
        ModelError: the folder's tokenizer is code of its own.
    """
    named = settings.get("tokenizer_class")
    if not isinstance(named, str | None):
        raise ModelError(where=str(path / CONFIG), field="tokenizer_class", expected="a text", found=show(named))
    if "auto_map" in settings and (not isinstance(named, str) or not is_tokenizer_class(named)):
        raise ModelError(
            "its own code (auto_map) is never run",
            where=str(path / CONFIG),
            field="tokenizer_class",
            expected="one that transformers knows",
            found=show(named),
        )


def _check_vocabulary(path: Path, settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    """The tokenizer has the vocabulary of the folder's files, and its special tokens are among them.

    Raises:
        ModelError: its class made another one, or added a special token, for which the model has no trained row.
    """
    untyped: Any = tokenizer
    backend = untyped.backend_tokenizer
    known: set[str] = set()
    if (path / "tokenizer.json").is_file():
        found = _read_json(path / "tokenizer.json")
        model: Any = found.get("model")
        kind, least = model.get("type"), len(model.get("vocab") or ())
        known = {token["content"] for token in found.get("added_tokens") or ()}
    else:
        vocabulary = path / "vocab.json"
        kind, least = None, len(_read_json(vocabulary)) if vocabulary.is_file() else 0
    made = type(backend.model).__name__
    if (kind is not None and made != kind) or backend.get_vocab_size(with_added_tokens=False) < least:
        raise ModelError(
            where=str(path / CONFIG),
            field="tokenizer_class",
            expected=f"a class for the folder's {kind or 'BPE'} vocabulary of {least} tokens",
            found=f"{type(tokenizer).__name__}, which makes a {made} one of {backend.get_vocab_size(False)}",
        )
    known |= {str(token) for token in _listed_tokens(path, settings)}
    for name, token in tokenizer.special_tokens_map.items():
        if name not in settings and name not in USED:  # of some classes, what only training or filling in needs
            continue
        inside = backend.model.token_to_id(str(token)) is not None
        if isinstance(token, str) and not inside and token not in known:
            raise ModelError(
                "the model has no trained embedding for it",
                where=str(path / CONFIG),
                field=name,
                expected="a token of the vocabulary",
                found=show(token),
            )


def _listed_tokens(path: Path, settings: dict[str, object]) -> Iterable[str]:
    """Tokens that were added beside the vocabulary, as files of older folders list them."""
    decoder: Any = settings.get("added_tokens_decoder") or {}
    yield from (token["content"] for token in decoder.values())
    if (path / "added_tokens.json").is_file():
        yield from _read_json(path / "added_tokens.json")


def _check_recorded(path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Raises:
        ModelError: the tokenizer gives other ids than the one that the folder was saved with.
    """
    record = path / RECORD
    if not record.is_file():
        return
    found = _read_json(record)
    texts, ids = (field(found, name, list, where=record, error=ModelError) for name in ("texts", "ids"))
    for text, wanted in zip(texts, ids, strict=False):
        given: Any = tokenizer(field({"": text}, "", str, where=record, error=ModelError), verbose=False)["input_ids"]
        if given != wanted:
            raise ModelError(
                "not the tokenizer that the folder was saved with",
                where=str(path),
                field="tokenizer",
                expected=f"for {show(text)} the ids that {RECORD} lists, {str(wanted)[:40]} ...",
                found=f"{str(given)[:40]} ...",
            )


def find_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a folder, None where it holds none."""
    return load_tokenizer(folder) if has_tokenizer(folder) else None


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int | None:
    """The id of a token of the vocabulary; unlike `get_vocab()[token]`, it does not copy the vocabulary."""
    untyped: Any = tokenizer
    return untyped.backend_tokenizer.token_to_id(token)


def required_token(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """The id of a token.

    Raises:
        ModelError: the tokenizer has none of this name.
    """
    number = token_id(tokenizer, token)
    if number is None:
        raise ModelError(where="tokenizer", expected=f"a token {token}", found="none")
    return number


def spaces_after_special_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the text behind a special token begins with a space of the tokenizer's own, as in legacy folders."""
    untyped: Any = tokenizer
    special = next((token.content for token in tokenizer.added_tokens_decoder.values() if token.special), None)
    if special is None:
        return False
    tokens = untyped.backend_tokenizer.encode(f"{special}a", add_special_tokens=False).tokens
    return len(tokens) > 1 and tokens[1].startswith(SPACES)


def _reads_as_its_json(path: Path, settings: Mapping[str, Any], tokenizer: Any) -> bool:
    """Whether a tokenizer gives texts the ids that the folder's tokenizer.json gives them."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if not tokenizer.is_fast or type(tokenizer) is PreTrainedTokenizerFast:
        return True
    written, backend = Tokenizer.from_file(str(path / "tokenizer.json")), tokenizer.backend_tokenizer
    if type(written.model) is not type(backend.model):
        return True  # which `_check_vocabulary` refuses
    for each in (written, backend):
        each.no_truncation()
        each.no_padding()
    # the two keys are above what tokenizer.json says of special tokens, whatever the class
    special = not {"add_bos_token", "add_eos_token"} & settings.keys()
    return all(
        written.encode(text, None, False, special).ids == backend.encode(text, None, False, special).ids
        for text in PROBE_TEXTS
    )


def _generic(path: Path, named: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder by its tokenizer.json, whatever class it names."""
    from transformers import PreTrainedTokenizerFast

    logger.warning(
        "%s: tokenizer_class %s would split text otherwise than tokenizer.json; tokenizer.json is followed",
        path / CONFIG,
        type(named).__name__,
    )
    return PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)


def _llama_from_json(path: Path, settings: dict[str, object]) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    side = settings.get("padding_side", "left")  # as LlamaTokenizer's
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True, padding_side=side)
    legacy = spaces_after_special_tokens(tokenizer)
    if settings.get("legacy", legacy) != legacy:
        logger.warning(
            "%s: legacy is %s, but tokenizer.json puts a space %s; tokenizer.json is followed",
            path / CONFIG,
            settings["legacy"],
            "after special tokens" if legacy else "before the first word only",
        )
    tokenizer.init_kwargs["legacy"] = legacy
    return tokenizer


def _llama_from_sentencepiece(path: Path, settings: dict[str, object]) -> PreTrainedTokenizerFast:
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import normalizers
    from transformers import LlamaTokenizer

    legacy = settings.get("legacy")
    if legacy is None:
        legacy = True
        logger.warning(
            '%s: no "legacy", so the folder is assumed to be from before July 2023: legacy is true, '
            "and the text after a special token begins with a space",
            path / CONFIG,
        )
    tokenizer = LlamaTokenizer.from_pretrained(path, local_files_only=True, legacy=legacy)
    tokenizer.init_kwargs["legacy"] = legacy
    proto: Any = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    proto.ParseFromString((path / "tokenizer.model").read_bytes())
    backend = tokenizer.backend_tokenizer
    backend.model = _sentencepiece_model(proto)
    if legacy:
        prefix = settings.get("add_prefix_space") is not False and proto.normalizer_spec.add_dummy_prefix
        spaces = normalizers.Replace(" ", SPACE)
        backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces] if prefix else [spaces])
        backend.pre_tokenizer = None  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


def _sentencepiece_model(proto: Any) -> models.Model:
    """With merges in the order of their scores; transformers 5 takes the order of the vocabulary, often the same."""
    from tokenizers import models

    pieces = [piece.piece for piece in proto.pieces]
    scores = [piece.score for piece in proto.pieces]
    unknown, bytewise = proto.trainer_spec.unk_id, proto.trainer_spec.byte_fallback
    if proto.trainer_spec.model_type == UNIGRAM:
        return models.Unigram(list(zip(pieces, scores, strict=True)), unknown, bytewise)
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = merges_of(vocabulary, dict(zip(pieces, scores, strict=True)))
    return models.BPE(vocab=vocabulary, merges=merges, unk_token=pieces[unknown], fuse_unk=True, byte_fallback=bytewise)


def read_by_class(folder: str | Path) -> PreTrainedTokenizerBase:
    """As any reader of transformers does."""
    from transformers import CONFIG_MAPPING, AutoTokenizer, PreTrainedConfig

    named = _model_type(folder)
    # of a model that transformers does not know, it would only warn
    given = {} if named in CONFIG_MAPPING else {"config": PreTrainedConfig()}
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **given)


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, dict, ModelError)
