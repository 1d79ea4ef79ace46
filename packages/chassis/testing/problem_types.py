"""The problem types in the code, and those documented in docs/problems.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs/problems.md"


def types_raised_in(folders: Iterable[Path]) -> set[str]:
    """The problem types that modules in these folders raise or return."""
    sources = [file.read_text() for folder in folders for file in folder.rglob("*.py")]
    return {match for source in sources for match in re.findall(r'Problem\(.*\btype="([a-z-]+)"', source)}


def documented_types() -> set[str]:
    """The problem types that have a section on the page."""
    return set(re.findall(r"^## ([a-z-]+)$", PAGE.read_text(), re.MULTILINE))
