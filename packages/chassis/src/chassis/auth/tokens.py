"""API tokens: random strings, of which a file, usually a mounted Secret, holds only the hashes.

    <SHA-256 in hex> <scopes, separated by commas> <name>

One token per line; blank lines and lines that begin with `#` are skipped. Two lines may share a
name: that is how a caller's token is replaced without a gap.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from chassis.auth.protocol import SCOPES, Caller, Scope, Unauthenticated, bearer_token

RECHECK_SECONDS = 1.0
"""The file is looked at no more often than this: a revoked token lives that much longer."""

_LINE = re.compile(r"([0-9a-f]{64})\s+((?:read|write)(?:,(?:read|write))*)\s+(\S.*)")

log = logging.getLogger(__name__)


def new_token(name: str, scopes: Iterable[Scope], *, prefix: str = "") -> tuple[str, str]:
    """A new token for its caller, and its line for the file. Raises ValueError for a bad name or no scope.

    prefix: what makes it recognizable, so that scanners for leaked secrets can find it in a repository.
    """
    asked = set(scopes)
    granted = [scope for scope in SCOPES if scope in asked]
    if not granted or len(granted) != len(asked):
        raise ValueError("A token needs a scope, read or write or both.")
    if not name.strip() or not name.isprintable():
        raise ValueError("A token needs a name of printable characters on one line.")
    token = prefix + secrets.token_urlsafe(32)
    return token, f"{_hash(token).hex()} {','.join(granted)} {name.strip()}"


class TokenAuth:
    """Knows the callers in a file, and follows its changes while the service runs.

    path: the file. clock: seconds, never going back. Raises ValueError, naming file and line, for a file that
    cannot be used; later on a wrong file is an error in the log, and the tokens before it stay valid.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._checked_at = clock()
        self._version = _version(path)
        self._tokens = _read(path)
        self._complaint = ""

    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller whose token it is, or Unauthenticated."""
        token = bearer_token(authorization)
        self._follow_changes()
        digest = _hash(token)
        found = None
        # With all hashes, each in constant time: how long it takes says nothing about any of them.
        for known, caller in self._tokens:
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None:
            raise Unauthenticated("This token is not known: it was mistyped or revoked.", "invalid_token")
        return found

    def _follow_changes(self) -> None:
        now = self._clock()
        if now - self._checked_at < RECHECK_SECONDS:
            return
        self._checked_at = now
        try:
            version = _version(self._path)  # before reading: a change in between is seen at the next look
            if version != self._version:
                self._tokens = _read(self._path)
                self._version = version
            complaint = ""
        except ValueError as error:
            complaint = str(error)
        if complaint and complaint != self._complaint:  # it is tried again every second, but said once
            log.error("The tokens known before stay valid. %s", complaint)
        self._complaint = complaint


def _hash(token: str) -> bytes:
    # Neither salted nor slow, which passwords need: nobody guesses 256 random bits, however fast the guesses are.
    return hashlib.sha256(token.encode()).digest()


def _version(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()  # follows links: Kubernetes changes a Secret's files by pointing a link elsewhere
    except OSError as error:
        raise ValueError(f"The token file {path} cannot be read: {error.strerror}.") from None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> list[tuple[bytes, Caller]]:
    try:
        text = path.read_text("utf-8", errors="replace")  # what is no text is then no valid line either
    except OSError as error:
        raise ValueError(f"The token file {path} cannot be read: {error.strerror}.") from None
    tokens = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:  # the line itself is not shown: somebody may have written the token instead of its hash
            raise ValueError(
                f"Line {number} of the token file {path} is not a SHA-256 in hex, the scopes (read, write or "
                "read,write) and a name; in the image `app token new` prints such lines."
            )
        digest, scopes, name = parts.groups()
        granted = scopes.split(",")
        tokens.append((bytes.fromhex(digest), Caller(name, frozenset(scope for scope in SCOPES if scope in granted))))
    log.info("%d tokens were read from %s", len(tokens), path)
    return tokens
