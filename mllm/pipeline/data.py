"""The datasets that a config names: what is trained on, evaluated and predicted."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from mllm.config.data_args import Ranking
from mllm.config.run_arguments import RunArguments
from mllm.config.sections import multitest_entries
from mllm.dataset.mixing import Subset
from mllm.errors import ConfigError, DataError
from mllm.fields import PathName, in_field, read_section
from mllm.generation_args import as_generate_takes_them
from mllm.images.settings import configure, read_settings
from mllm.pipeline.answering import TestSet
from mllm.pipeline.best_model import evaluates_in_training
from mllm.pipeline.origins import names_of
from mllm.pipeline.ranking import Candidates
from mllm.pipeline.train_data import ItemDataset
from mllm.registry import DATASETS, METRICS

Section = Mapping[str, Any]
PATTERN = re.compile(r"://|[*?\[{]")
"""In what names a file elsewhere, or several, as those of `Shards`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The data that a run needs.

    Attributes:
        tests: by the prefix of their output files.
    """

    train: ItemDataset | None
    validation: TestSet | None
    tests: Mapping[str, TestSet]

    def without(self, prefixes: Collection[str]) -> Data:
        """What is left where those evaluations are done."""
        return replace(
            self,
            validation=None if "eval" in prefixes else self.validation,
            tests={prefix: test for prefix, test in self.tests.items() if prefix not in prefixes},
        )


def load_data(cfg: Section, args: RunArguments) -> Data:
    """What `args.do_train`, `do_eval` and `do_predict` need, and nothing else.

    Raises:
        ConfigError: a dataset is missing, or has no items.
    """
    data = dict(cfg.get("data_args") or {})
    configure(read_settings(data.get("images")))
    if args.do_train and not data.get("train"):
        raise ConfigError(field="data_args.train", expected="the dataset of do_train", found="nothing")
    if evaluates_in_training(args) and not data.get("validation"):
        raise ConfigError(
            field="data_args.validation",
            expected="the dataset of evaluation during training (eval_strategy, eval_on_start)",
            found="nothing",
        )
    if args.do_eval and not data.get("validation"):
        raise ConfigError(field="data_args.validation", expected="the dataset that this run evaluates", found="nothing")
    train = _items(data["train"], "data_args.train") if args.do_train else None
    validation = None
    if args.do_eval or evaluates_in_training(args):
        validation = _test_set(data, _items(data["validation"], "data_args.validation"))
    return Data(train=train, validation=validation, tests=_tests(data, args) if args.do_predict else {})


def _items(cfg: Section, field: str) -> ItemDataset:
    items: ItemDataset = in_field(field, DATASETS.make, cfg)
    if not len(items):
        raise ConfigError(field=field, expected="at least one item", found="none")
    return items


def _test_set(data: Section, items: ItemDataset, own: Section | None = None) -> TestSet:
    """`own`: what an entry of `multitest` says, before what `data_args` says of all; its `gen_kwargs` key by key."""
    own = own or {}
    metric = own.get("compute_metric", data.get("compute_metric"))
    generation = {**(data.get("gen_kwargs") or {}), **(own.get("gen_kwargs") or {})}
    return TestSet(
        items=items,
        metric=METRICS.make(metric) if metric else None,
        metric_config=metric,
        generation=as_generate_takes_them(generation),
        ranking=_ranking(own.get("ranking", data.get("ranking"))),
    )


def _ranking(section: Section | None) -> Ranking | None:
    if section is None:
        return None
    ranking = read_section(section, Ranking)
    Candidates(ranking)  # a fault of theirs is found now, not once the model is loaded
    return ranking


def _tests(data: Section, args: RunArguments) -> dict[str, TestSet]:
    """`test` under its own name, every entry of `multitest` as `multitest_{name}`; each dataset of several by itself.

    Of each at most `args.num_samples` items, drawn by the seed, in the order of the dataset.
    """
    entries = {"test": {"cfg": data["test"]}} if data.get("test") else {}
    entries |= {f"multitest_{name}": entry for name, entry in multitest_entries(data).items()}
    if not entries:
        raise ConfigError(field="data_args", expected="test or multitest, the datasets of do_predict", found="neither")
    missing = [path for prefix, entry in entries.items() for path in in_field(prefix, missing_files, entry["cfg"])]
    if len(set(missing)) > 1:
        listed = ", ".join(dict.fromkeys(missing))
        raise DataError(f"{len(set(missing))} files of the test sets are missing: {listed}", kind="missing-file")
    tests: dict[str, TestSet] = {}
    for prefix, entry in entries.items():
        field = f"data_args.multitest.{prefix.removeprefix('multitest_')}.cfg" if prefix != "test" else "data_args.test"
        items = _items(entry["cfg"], field)
        for name, member in _members(items).items():
            drawn = _drawn(member, args.num_samples, args.seed)
            tests[f"{prefix}_{name}" if name else prefix] = _test_set(data, drawn, entry)
    return tests


def missing_files(cfg: object) -> list[str]:
    """The files that a dataset's config, or one inside it, names and that are not there."""
    if isinstance(cfg, Mapping):
        section = cast("Section", cfg)
        named = [name for name, hint in _hints(section).items() if PathName in (hint, *get_args(hint))]
        paths = [section[name] for name in named if isinstance(section.get(name), str)]
        inside = [path for value in section.values() for path in missing_files(value)]
        local = [path for path in paths if not PATTERN.search(path)]
        return [path for path in local if not Path(path).exists()] + inside
    if isinstance(cfg, (list, tuple)):
        return [path for each in cast("Sequence[Any]", cfg) for path in missing_files(each)]
    return []


def _hints(section: Section) -> Mapping[str, object]:
    """The annotations of a dataset's arguments; none of what is no dataset, such as a codec inside one."""
    try:
        built = DATASETS.find(section.get("type"))
    except ConfigError:  # making it says so again
        return {}
    return get_type_hints(built.__init__ if isinstance(built, type) else built, include_extras=True)


def _drawn(items: ItemDataset, count: int | None, seed: int) -> ItemDataset:
    total = len(items)
    if count is None or count >= total:
        return items
    some = Subset(dataset=items, indices=sorted(random.Random(f"num_samples {seed}").sample(range(total), count)))
    some.drawn = {"num_samples": count, "seed": seed}
    return some


def _members(items: ItemDataset) -> dict[str, ItemDataset]:
    """The datasets that a concatenation or a mixture is made of, by name; one that is not, under the name ""."""
    if not hasattr(items, "datasets"):
        return {"": items}
    leaves = list(_leaves(items, None))
    return {name: member for name, (_, member) in zip(names_of(leaves), leaves, strict=True)}


def _leaves(items: Any, name: str | None) -> Iterator[tuple[str | None, ItemDataset]]:
    if not hasattr(items, "datasets"):
        yield name, items
        return
    given: Sequence[str | None] = getattr(items, "names", None) or [None] * len(items.datasets)
    for inner, member in zip(given, items.datasets, strict=True):
        yield from _leaves(member, inner)
