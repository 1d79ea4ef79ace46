"""Conditional requests: the entity tags of If-Match and If-None-Match (RFC 9110, sections 8.8.3 and 13.1)."""

from __future__ import annotations

import re

from fastapi import Request

from chassis.problems import Problem

_MEMBER = re.compile(r'[ \t]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")?[ \t]*(?:,|$)')


def all_lines(request: Request, name: str) -> str | None:
    """The value of a header that is a list, None where it was not sent: several lines are one list (RFC 9110, 5.2)."""
    lines = request.headers.getlist(name)
    return ", ".join(lines) if lines else None


def entity_tags(header: str, value: str) -> frozenset[str] | None:
    """Those of the header `header`, as they stand there: `W/"v7"` with its `W/`. None for `*`, which is any.

    Raises Problem 400 where it is no list of entity tags: passed over, it would be a condition that never holds, or
    one that always does.
    """
    if value.strip(" \t") == "*":
        return None
    tags, at = set(), 0
    while at < len(value):
        if (found := _MEMBER.match(value, at)) is None:
            detail = f'{header} takes entity tags in quotes, as in "v7", several with commas between, or * alone.'
            raise Problem(400, detail, type="invalid-entity-tag")
        if found[1] is not None:
            tags.add(found[1])
        at = found.end()
    return frozenset(tags)


def is_strongly_matched(etag: str, tags: frozenset[str] | None) -> bool:
    """Whether one of `tags` is `etag`, neither of them weak: the comparison of If-Match."""
    return tags is None or (etag in tags and not etag.startswith("W/"))


def is_weakly_matched(etag: str, tags: frozenset[str] | None) -> bool:
    """Whether one of `tags` is `etag`, weak or not: the comparison of If-None-Match."""
    return tags is None or etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}
