"""Conditional requests: the entity tags of If-Match and If-None-Match (RFC 9110, sections 8.8.3 and 13.1)."""

from __future__ import annotations

import re

from fastapi import Request

from chassis.problems import Problem

_MEMBER = re.compile(r'[ \t]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")?[ \t]*(?:,|$)')


def combined_field_value(request: Request, name: str) -> str | None:
    """The value of a list header, None if absent: multiple field lines are one list (RFC 9110, section 5.2)."""
    lines = request.headers.getlist(name)
    return ", ".join(lines) if lines else None


def entity_tags(header: str, value: str) -> frozenset[str] | None:
    """The entity tags of the header `header`, verbatim: `W/"v7"` with its `W/`. None for `*`, which matches any.

    Raises Problem 400 for an invalid list: ignored, it would be a condition that never or always holds.
    """
    if value.strip(" \t") == "*":
        return None
    tags, position = set(), 0
    while position < len(value):
        if (match := _MEMBER.match(value, position)) is None:
            detail = f'{header} must be a comma-separated list of quoted entity tags, such as "v7", or *.'
            raise Problem(400, detail, type="invalid-entity-tag")
        if match[1] is not None:
            tags.add(match[1])
        position = match.end()
    return frozenset(tags)


def is_strongly_matched(etag: str, tags: frozenset[str] | None) -> bool:
    """Strong comparison, as for If-Match: one of `tags` is `etag`, and neither is weak."""
    return tags is None or (etag in tags and not etag.startswith("W/"))


def is_weakly_matched(etag: str, tags: frozenset[str] | None) -> bool:
    """Weak comparison, as for If-None-Match: one of `tags` is `etag`, weak or not."""
    return tags is None or etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}
