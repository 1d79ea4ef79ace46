"""docs/problems.md documents exactly the problem types in the code, including the chassis'."""

from __future__ import annotations

from problem_types import documented_types, types_raised_in
from running import SOURCES


def test_every_type_of_problem_has_a_section_in_the_docs() -> None:
    types = types_raised_in(SOURCES)
    assert len(types) > 5
    assert documented_types() == types
