"""API tokens: random strings, whose hashes are in a file, usually a mounted Secret.

    <SHA-256 in hex> <scopes, separated by commas> <name>

One token per line; blank lines and lines that begin with `#` are skipped. Two lines may have the
same name, so that a caller's token can be rotated without downtime.
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
"""The minimum time between two checks of the file: a revoked token stays valid that much longer."""

_LINE = re.compile(r"([0-9a-f]{64})\s+((?:read|write)(?:,(?:read|write))*)\s+(\S.*)")

log = logging.getLogger(__name__)


def new_token(name: str, scopes: Iterable[Scope], *, prefix: str = "") -> tuple[str, str]:
    """A new token for the caller, and its line for the file. Raises ValueError for an invalid name or no scope.

    prefix: makes it recognizable to secret scanners.
    """
    requested = set(scopes)
    granted = [scope for scope in SCOPES if scope in requested]
    if not granted or len(granted) != len(requested):
        raise ValueError("A token needs a scope: read, write or both.")
    if not name.strip() or not name.isprintable():
        raise ValueError("A token needs a name of printable characters on one line.")
    token = prefix + secrets.token_urlsafe(32)
    return token, f"{_hash(token).hex()} {','.join(granted)} {name.strip()}"


class TokenAuth:
    """Authenticates by the tokens in a file, which is reloaded when it changes.

    path: the file. clock: monotonic, in seconds. Raises ValueError, with file and line, for an invalid file; a file
    that becomes invalid later is logged as an error, and the previous tokens stay valid.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._checked_at = clock()
        self._version = _version(path)
        self._tokens = _read(path)
        self._last_error = ""

    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller with this token. Raises Unauthenticated."""
        token = bearer_token(authorization)
        self._reload_if_changed()
        digest = _hash(token)
        match = None
        # All hashes are compared, each in constant time, against timing attacks.
        for known, caller in self._tokens:
            if hmac.compare_digest(known, digest):
                match = caller
        if match is None:
            raise Unauthenticated("Unknown token: it was mistyped or revoked.", "invalid_token")
        return match

    def _reload_if_changed(self) -> None:
        now = self._clock()
        if now - self._checked_at < RECHECK_SECONDS:
            return
        self._checked_at = now
        try:
            version = _version(self._path)  # before reading: a change in between is seen at the next check
            if version != self._version:
                self._tokens = _read(self._path)
                self._version = version
            message = ""
        except ValueError as error:
            message = str(error)
        if message and message != self._last_error:  # retried every second, but logged once
            log.error("Reloading the tokens failed, the previous ones stay valid. %s", message)
        self._last_error = message


def _hash(token: str) -> bytes:
    # Unsalted and fast, unlike password hashes: 256 random bits cannot be guessed.
    return hashlib.sha256(token.encode()).digest()


def _version(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()  # follows links: Kubernetes updates a Secret's files by replacing a symlink
    except OSError as error:
        raise ValueError(f"Cannot read the token file {path}: {error.strerror}.") from None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> list[tuple[bytes, Caller]]:
    try:
        text = path.read_text("utf-8", errors="replace")  # invalid UTF-8 makes an invalid line
    except OSError as error:
        raise ValueError(f"Cannot read the token file {path}: {error.strerror}.") from None
    tokens = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:  # the line itself is not shown: it may be the token instead of its hash
            raise ValueError(
                f"Line {number} of the token file {path} must be a SHA-256 in hex, the scopes (read, write or "
                "read,write) and a name; in the image, `app token new` prints such lines."
            )
        digest, scopes, name = parts.groups()
        granted = scopes.split(",")
        tokens.append((bytes.fromhex(digest), Caller(name, frozenset(scope for scope in SCOPES if scope in granted))))
    log.info("Loaded %d tokens from %s", len(tokens), path)
    return tokens
