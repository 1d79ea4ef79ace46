"""ETag, If-Match and If-None-Match: which version of a task a client knows (RFC 9110, sections 8.8.3 and 13)."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from typing import Annotated

from fastapi import Header

from task_api.tasks.commands import Expectation, OtherVersion, anything
from task_api.tasks.models import Task

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description='Only if the task still has this ETag (`"v7"`, several with commas between, or `*`)',
    ),
]
IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", description="Only if it has another ETag by now; else 304")
]


def etag(version: int) -> str:
    """A task's version as a strong ETag."""
    return f'"v{version}"'


def expectation(if_match: str | None) -> Expectation:
    """What If-Match asks of a task, by the strong comparison: W/"v7" matches nothing."""
    if if_match is None:
        return anything
    wanted = _etags(if_match)

    def expect(task: Task) -> None:
        if "*" not in wanted and etag(task.version) not in wanted:
            raise OtherVersion(
                f"Task {task.id} has the ETag {etag(task.version)} by now. "
                "Get it again, look at what changed, and send that ETag."
            )

    return expect


def list_etag(tasks: Sequence[Task], content: bytes) -> str:
    """A page's weak ETag: it is the same in every content coding.

    tasks: those that were read for it. content: what they were written as. A change of any of them makes the versions
    more; that others are there now, the checksum tells. It takes 7 of the 690 µs of CPU of a list of 50 tasks, a
    SHA-256 20.
    """
    return f'W/"{sum([task.version for task in tasks]):x}-{len(content):x}-{zlib.crc32(content):08x}"'


def content_etag(content: bytes) -> str:
    """The weak ETag of what takes much longer to write than its hash."""
    return f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'


def is_known(tag: str, if_none_match: str | None) -> bool:
    """Whether the client has what this ETag stands for, by the weak comparison: W/"v7" is as good as "v7"."""
    if if_none_match is None:
        return False
    known = {known.removeprefix("W/") for known in _etags(if_none_match)}
    return "*" in known or tag.removeprefix("W/") in known


def _etags(header: str) -> set[str]:
    """The entity tags of a header, as they stand there."""
    return set(re.findall(r'\*|(?:W/)?"[^"]*"', header))
