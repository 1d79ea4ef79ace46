"""Time zones by their names in the IANA's database."""

from __future__ import annotations

import functools
import zoneinfo
from datetime import UTC, tzinfo


def zone_of(name: str | None) -> tzinfo:
    """The zone of this name, one that `checked` let through; UTC where there is none."""
    return UTC if name is None else zoneinfo.ZoneInfo(name)


def checked(name: str) -> str:
    """The name, if there is a zone of it. Raises ValueError."""
    if name not in _names():
        raise ValueError(f"{name[:40]!r} is not a time zone of the IANA's database, such as 'Europe/Berlin' or 'UTC'.")
    return name


@functools.cache
def _names() -> frozenset[str]:
    # Not ZoneInfo's own word: it opens a file, in any case where the file system knows none.
    return frozenset(zoneinfo.available_timezones())
