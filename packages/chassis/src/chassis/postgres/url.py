"""What a URL of PostgreSQL has to look like."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

FORM = "postgresql://user:password@host:port/name, / @ ? # and % in the password as %2F %40 %3F %23 and %25"
SCHEMES = ("postgresql", "postgres")
HOST = re.compile(r"(\[[^\]]+\]|[^:\[\]]+)(:\d{1,5})?")


def split(url: str) -> SplitResult:
    """As urlsplit, whose ValueError repeats the URL: it may hold a password."""
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError(f"this cannot be read as a URL; one of PostgreSQL is {FORM}") from None


def check(url: str) -> None:
    """Raises ValueError with a sentence that says what is allowed, and does not repeat the URL."""
    parts = split(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("the URL must begin with postgresql://")
    hosts = parts.netloc.rpartition("@")[2]  # of which asyncpg takes several, with commas between
    if not hosts and "host=" not in parts.query:
        raise ValueError(f"a PostgreSQL URL names a host: {FORM}")
    # An @ so late is that of the password's end, which had something in it that ends a host.
    is_cut = "@" in parts.path + parts.query + parts.fragment
    if is_cut or (hosts and not all(HOST.fullmatch(host) for host in hosts.split(","))):
        raise ValueError(f"the host or its port is none; a PostgreSQL URL is {FORM}")
