"""Captions against several references: BLEU, ROUGE-L, CIDEr-D, METEOR and SPICE, by the public code."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from mllm.answers import stated
from mllm.errors import ConfigError, RunError, one_line
from mllm.metrics import ptb
from mllm.metrics.base import require_references
from mllm.registry import METRICS
from mllm.types import Prediction

Score = Literal["bleu", "rouge_l", "cider", "meteor", "spice"]
Tokenizer = Literal["python", "java"]
Reading = Literal["answer", "text", "openflamingo"]
Tokens = Mapping[int, list[str]]
"""By item: the tokens of each text, with spaces between them."""

NEED_JAVA = ("meteor", "spice")
PACKAGE = "pycocoevalcap"
SPICE_MODEL = Path("spice", "lib", "stanford-corenlp-3.6.0.jar")
MEANINGS: Mapping[str, str] = {
    "cider": "CIDEr-D: likeness to the references in words that are rare among ALL references scored here, so a part "
    "of a set, or a single image (0), has another scale; papers print 100 times this",
    "bleu_1": "share of the words that a reference has, short captions penalised",
    **{f"bleu_{n}": f"the same of runs of up to {n} words (geometric mean)" for n in range(2, 5)},
    "rouge_l": "longest common subsequence with a reference (F, recall weighing more)",
    "meteor": "METEOR 1.5: words that match by form, stem, synonym or paraphrase",
    "spice": "F1 of the objects, attributes and relations that a parser finds",
    "java_tokenizer": "1: Stanford's tokenizer in Java split the texts; 0: our own in Python did (mllm/metrics/ptb.py)",
    "failure_none": "answers without a word",
}


@METRICS.register_module()
class Captions:
    """Scores of captions by several references, `truth.texts`: COCO, NoCaps, Flickr30k, TextCaps.

    Each item is one image with one caption to score and all its references. By default nothing needs Java: METEOR,
    SPICE and `tokenizer="java"` do, and are refused where it is missing before anything is generated.

    Args:
        scores: of "bleu" (BLEU-1 to BLEU-4), "rouge_l", "cider", "meteor", "spice". SPICE also needs a parser's model,
            which its package downloads once.
        tokenizer: what splits the texts into words. "java" is Stanford's tokenizer, "python" our own, which gives the
            same tokens (`mllm.metrics.ptb`).
        reading: "answer" leaves out thinking, and all around an answer tag (`mllm.answers.stated`); "text" scores every
            text as it stands; "openflamingo" cuts it before `Output` and drops double quotes.

    Scores:
        bleu_1 to bleu_4, rouge_l, cider, meteor, spice: as pycocoevalcap gives them, over ALL predictions. Papers print
            them times 100.
        java_tokenizer: 1 for "java", 0 for "python".
        count: predictions scored.
        failure_none: answers without a word.

    Source: pycocoevalcap 1.2, the public COCO caption evaluation; Vedantam et al. 2015 (CIDEr-D: clipped, sigma 6).
    """

    def __init__(
        self,
        *,
        scores: Sequence[Score] = ("bleu", "rouge_l", "cider"),
        tokenizer: Tokenizer = "python",
        reading: Reading = "answer",
    ) -> None:
        if not scores:
            raise ConfigError(
                field="scores", expected="at least one of bleu, rouge_l, cider, meteor, spice", found="[]"
            )
        if importlib.util.find_spec(PACKAGE) is None:
            raise ConfigError(f"needs the package {PACKAGE}: pip install 'mllm[captions]'")
        in_java = [name for name in NEED_JAVA if name in scores]
        if (in_java or tokenizer == "java") and not _java_runs():
            raise ConfigError(
                f"{' and '.join(in_java) or 'this tokenizer'} needs Java, which cannot be started here: install it (on "
                "Debian: apt install default-jre-headless), or keep to bleu, rouge_l and cider with tokenizer='python'",
                field="scores" if in_java else "tokenizer",
            )
        if "spice" in scores and not (_package_folder() / SPICE_MODEL).exists():
            raise ConfigError(
                f"spice needs a parser's model, {_package_folder() / SPICE_MODEL}; "
                "`python -m pycocoevalcap.spice.get_stanford_models` downloads it",
                field="scores",
            )
        self.scores = tuple(dict.fromkeys(scores))
        self.tokenizer = tokenizer
        self.reading = READINGS[reading]
        self.depth = "stated" if reading == "answer" else reading
        names = [name for score in self.scores for name in _names(score)]
        self.headline = "cider" if "cider" in names else names[-1]
        self.meanings = {name: MEANINGS[name] for name in (*names, "java_tokenizer", "failure_none")}

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth without references, or with a blank one.
            RunError: a program in Java failed.
        """
        predictions = require_references(predictions)
        split = ptb.tokenize if self.tokenizer == "python" else _tokenize_in_java
        references = {one.index: list(one.truth.texts) for one in predictions}
        captions = {one.index: [self.reading(one.text)] for one in predictions}
        references, captions = _tokens(references, split), _tokens(captions, split)
        found: dict[str, float] = {}
        for score in self.scores:
            found |= zip(_names(score), _score(score, references, captions), strict=True)
        return {
            **found,
            "java_tokenizer": int(self.tokenizer == "java"),
            "count": len(predictions),
            "failure_none": sum(not caption for (caption,) in captions.values()),
        }


def until_output(text: str) -> str:
    """What OpenFlamingo's evaluation scores of a caption. Source: open_flamingo 2.0.1, eval/coco_metric.py."""
    return text.split("Output", 1)[0].replace('"', "")


READINGS: Mapping[str, Callable[[str], str]] = {"answer": stated, "text": str, "openflamingo": until_output}


def _names(score: str) -> Sequence[str]:
    return [f"bleu_{n}" for n in range(1, 5)] if score == "bleu" else [score]


def _tokens(texts: Tokens, split: Callable[[Sequence[str]], Sequence[str]]) -> dict[int, list[str]]:
    """Split all texts at once: the tokenizer looks at the beginning of the next line."""
    lines = iter(split([text for several in texts.values() for text in several]))
    return {index: [next(lines) for _ in several] for index, several in texts.items()}


def _score(score: str, references: Tokens, captions: Tokens) -> Sequence[float]:
    """One score, or the four of BLEU, by pycocoevalcap."""
    name = {"rouge_l": "rouge"}.get(score, score)
    module: Any = import_module(f"{PACKAGE}.{name}.{name}")
    scorer: Any = getattr(module, name.capitalize())()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # BLEU prints its lengths
            values: Any = scorer.compute_score(references, captions)[0]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        if score not in NEED_JAVA:
            raise
        if score == "meteor":
            scorer.lock.release()  # its finaliser waits for the lock, and closes the pipe again
            with contextlib.suppress(OSError):
                scorer.meteor_p.stdin.close()
        raise RunError(f"{score}: its program in Java failed: {one_line(error)}") from error
    return [float(value) for value in values] if score == "bleu" else [float(values)]


def _tokenize_in_java(captions: Sequence[str]) -> list[str]:
    """As pycocoevalcap's own tokenizer, which writes into its package's folder."""
    module: Any = import_module(f"{PACKAGE}.tokenizer.ptbtokenizer")
    command = ["java", "-cp", module.STANFORD_CORENLP_3_4_1_JAR, "edu.stanford.nlp.process.PTBTokenizer"]
    run = subprocess.run(
        [*command, "-preserveLines", "-lowerCase"],
        input="\n".join(map(ptb.without_line_breaks, captions)).encode(),
        capture_output=True,
        cwd=_package_folder() / "tokenizer",
        check=False,
    )
    lines = run.stdout.decode().split("\n")[: len(captions)]
    if run.returncode or len(lines) < len(captions):
        raise RunError(f"Stanford's tokenizer in Java failed: {' '.join(run.stderr.decode().split())[:200]}")
    return [
        " ".join(token for token in line.split(" ") if token and token not in module.PUNCTUATIONS) for line in lines
    ]


def _package_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    return Path(next(iter(spec.submodule_search_locations or ())))


def _java_runs() -> bool:
    """Whether there is a Java that starts; of some systems `java` only says where to buy one."""
    if shutil.which("java") is None:
        return False
    return subprocess.run(["java", "-version"], capture_output=True, check=False).returncode == 0
