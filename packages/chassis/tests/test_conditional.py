"""Entity tags of If-Match and If-None-Match (RFC 9110)."""

from __future__ import annotations

import pytest
from fastapi import Request

from chassis.conditional import combined_field_value, entity_tags, is_strongly_matched, is_weakly_matched
from chassis.problems import Problem


@pytest.mark.parametrize(
    ("lines", "value"), [([], None), ([b'"v1"'], '"v1"'), ([b'"v1", "v2"', b'"v3"'], '"v1", "v2", "v3"')]
)
def test_repeated_header_lines_are_combined(lines: list[bytes], value: str | None) -> None:
    headers = [(b"if-none-match", b'"other"'), *((b"if-match", line) for line in lines)]
    assert combined_field_value(Request({"type": "http", "headers": headers}), "if-match") == value


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ('"v1"', {'"v1"'}),
        ('W/"v1"', {'W/"v1"'}),
        ('"v1", W/"v2","v3"', {'"v1"', 'W/"v2"', '"v3"'}),
        (' "v1" ,\t"v2" ', {'"v1"', '"v2"'}),
        (', ,"v1",,', {'"v1"'}),
        ('"a,b"', {'"a,b"'}),
        ('""', {'""'}),
        ('"*"', {'"*"'}),
        ('"\xe4"', {'"\xe4"'}),
        ("", set()),
        (" ", set()),
    ],
)
def test_a_list_of_entity_tags_is_parsed(value: str, tags: set[str]) -> None:
    assert entity_tags("If-Match", value) == frozenset(tags)


@pytest.mark.parametrize("value", ["*", " * "])
def test_a_star_means_any_entity_tag(value: str) -> None:
    assert entity_tags("If-Match", value) is None


@pytest.mark.parametrize(
    "value", ["v1", '"v1', 'v1"', '"v1" "v2"', 'w/"v1"', 'W/ "v1"', '*, "v1"', '"v1", *', "*,*", '"a b"', "'v1'", "W/*"]
)
def test_an_invalid_list_of_entity_tags_is_rejected(value: str) -> None:
    with pytest.raises(Problem) as raised:
        entity_tags("If-Match", value)
    assert (raised.value.status, raised.value.type) == (400, "invalid-entity-tag")
    assert "If-Match must be a comma-separated list of quoted entity tags" in raised.value.detail


@pytest.mark.parametrize(
    ("one", "other", "strongly", "weakly"),
    [
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', '"1"', True, True),
        ('"1"', 'W/"1"', False, True),
    ],
)
def test_tags_are_compared_as_in_rfc_9110(one: str, other: str, strongly: bool, weakly: bool) -> None:
    """The examples of section 8.8.3.2."""
    tags = entity_tags("If-Match", other)
    assert is_strongly_matched(one, tags) == strongly
    assert is_weakly_matched(one, tags) == weakly
    assert is_strongly_matched(one, None)
    assert is_weakly_matched(one, None)
