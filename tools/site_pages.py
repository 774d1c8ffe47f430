"""Hooks of mkdocs: README.md and CONTRIBUTING.md, which are outside docs/, become pages of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)\s#]+)(#[^)\s]*)?\)")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=LINK.sub(_from_root, text)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links of docs/ to README.md and CONTRIBUTING.md at their pages; other links out of docs/ become text."""
    return OUTSIDE.sub(_from_docs, markdown)


def _from_docs(link: re.Match[str]) -> str:
    text, path, anchor = link.groups(default="")
    return f"[{text}]({PAGES[path]}{anchor})" if path in PAGES else text


def _from_root(link: re.Match[str]) -> str:
    """A link as the page has it: to another page, or only its text where the target is not part of the site."""
    mark, text, target = link.groups()
    path, _, anchor = target.partition("#")
    if target.startswith(("http://", "https://", "#")):
        return link[0]
    page = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if page is None:
        return text
    return f"{mark}[{text}]({page}{'#' + anchor if anchor else ''})"
