"""docs/problems.md documents every problem type of the chassis. Services add their own."""

from __future__ import annotations

from problem_types import documented_types, types_raised_in
from running import SOURCE


def test_every_problem_type_of_the_chassis_is_documented() -> None:
    types = types_raised_in([SOURCE])
    assert len(types) > 5
    assert types <= documented_types()
