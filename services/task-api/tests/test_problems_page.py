"""docs/problems.md explains every type of problem that the code has."""

from __future__ import annotations

import re

from running import SERVICE, SOURCES


def test_every_type_of_problem_has_a_section_in_the_docs() -> None:
    page = (SERVICE.parent.parent / "docs/problems.md").read_text()
    sources = [file.read_text() for folder in SOURCES for file in folder.rglob("*.py")]
    types = {found for source in sources for found in re.findall(r'Problem\(.*\btype="([a-z-]+)"', source)}
    assert len(types) > 5
    assert set(re.findall(r"^## ([a-z-]+)$", page, re.MULTILINE)) == types
