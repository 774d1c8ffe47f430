"""Check every image-text-to-text type of transformers, and write what works into the table of docs/native.md.

    make native-table

Each verdict is made by running mllm on a tiny random model of the type: `tools/native/check.py` says what is done.
Types that need a further package are checked with it where `--packages` names a folder that has it.
"""

from __future__ import annotations

# first of all: without its operators torchvision is not even imported
from tools.native import operators

operators.declare()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator, Mapping, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from tools.native.check import THINGS  # noqa: E402
from tools.native.run import ALL, Verdicts, check_all  # noqa: E402
from tools.native.stand_ins import TYPES  # noqa: E402

PAGE = Path("docs/native.md")
BEGIN, END = "<!-- made by make native-table -->", "<!-- end of the table -->"
PACKAGES = ("torchvision", "timm", "num2words")
"""What transformers wants of some types, beyond what mllm installs."""
LENGTH = 140
WITH = "with"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", metavar="TYPE", help="only these, and print the table (default: all)")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="where packages are that some types need")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=float, default=300, help="seconds for one type")
    parser.add_argument("--json", action="store_true", help="print verdicts alone, a type a line")
    parser.add_argument(
        "--verdicts", type=Path, metavar="FILE", help="lines of --json, written before; later ones hold"
    )
    given = parser.parse_args()
    unknown = [name for name in given.types if name not in TYPES]
    if unknown:
        parser.error(f"transformers lists no type {unknown[0]!r}")
    found: dict[str, Verdicts] = {}
    if given.verdicts:
        found = dict(map(json.loads, given.verdicts.read_text(encoding="utf-8").splitlines()))
        given.packages = None
    for name, verdicts in check_all(given.types or ([] if found else TYPES), workers=given.workers, limit=given.limit):
        found[name] = verdicts
        print(json.dumps([name, verdicts]) if given.json else _line(name, verdicts), flush=True)
    if given.json:
        return
    if given.packages:
        lacking = [name for name, verdicts in found.items() if wanted(verdicts)]
        for name, verdicts in _checked_with(given.packages, lacking, given.workers, given.limit):
            found[name] = {**verdicts, WITH: ", ".join(wanted(found[name]))}
            print(_line(name, verdicts), flush=True)
    table = "\n".join(rows({name: found[name] for name in TYPES if name in found}))
    if given.types:
        print(table)
    else:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")


def wanted(verdicts: Mapping[str, str]) -> list[str]:
    """The packages that something does not work without."""
    said = " ".join(verdicts.values()).casefold()
    return [package for package in PACKAGES if package in said]


def _checked_with(packages: Path, types: Sequence[str], workers: int, limit: float) -> Iterator[tuple[str, Verdicts]]:
    """The same in a Python that has these packages."""
    if not types:
        return
    command = [sys.executable, "-m", "tools.native_table", "--json", f"--workers={workers}", f"--limit={limit}", *types]
    paths = [str(packages.resolve()), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "it is a pipe"
        for line in process.stdout:
            if line.startswith("["):
                name, verdicts = json.loads(line)
                yield name, verdicts
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")


def _line(name: str, verdicts: Verdicts) -> str:
    if ALL in verdicts:
        return f"{name}: {brief(verdicts[ALL])}"
    return f"{name}: " + ", ".join(thing for thing in THINGS if verdicts[thing] == "yes")


def rows(found: Mapping[str, Verdicts]) -> Iterator[str]:
    """The lines of the table, and what they come to."""
    counts = ", ".join(f"{thing} {sum(works(verdicts, thing) for verdicts in found.values())}" for thing in THINGS)
    yield f"Of {len(found)} types: {counts}."
    yield ""
    yield f"| `model_type` | {' | '.join(THINGS)} | why not |"
    yield f"|---|{'---|' * len(THINGS)}---|"
    for name, verdicts in found.items():
        marks = " | ".join("yes" if works(verdicts, thing) else "no" for thing in THINGS)
        yield f"| `{name}` | {marks} | {reasons(verdicts)} |"


def works(verdicts: Mapping[str, str], thing: str) -> bool:
    return verdicts.get(thing) == "yes"


def reasons(verdicts: Mapping[str, str]) -> str:
    """Why what does not work does not, each reason once, and what must be installed for the rest."""
    needed = f"needs {verdicts[WITH]}; " if WITH in verdicts else ""
    if ALL in verdicts:
        return needed + brief(verdicts[ALL])
    of: dict[str, list[str]] = {}
    for thing in THINGS:
        if not works(verdicts, thing):
            of.setdefault(brief(verdicts[thing]), []).append(thing)
    return (needed + "; ".join(f"{', '.join(things)}: {why}" for why, things in of.items())).rstrip("; ")


def brief(why: str) -> str:
    """A reason in one cell: no folder of this run, no mark of a table."""
    text = re.sub(r"/\S*/(?=[^/\s]*)", "", why).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 3].rstrip()}..."


def with_table(page: str, table: str) -> str:
    """The page with this table between its marks.

    Raises:
        ValueError: it has no marks.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks {BEGIN} or {END}")
    return f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}"


if __name__ == "__main__":
    main()
