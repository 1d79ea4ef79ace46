"""The types of problems that code has, and those that docs/problems.md explains."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs/problems.md"


def raised_in(folders: Iterable[Path]) -> set[str]:
    """Those that the modules in these folders raise or answer."""
    sources = [file.read_text() for folder in folders for file in folder.rglob("*.py")]
    return {found for source in sources for found in re.findall(r'Problem\(.*\btype="([a-z-]+)"', source)}


def explained() -> set[str]:
    """Those that the page has a section for."""
    return set(re.findall(r"^## ([a-z-]+)$", PAGE.read_text(), re.MULTILINE))
