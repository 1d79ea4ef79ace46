"""ETag, If-Match and If-None-Match: which version of a task a client knows (RFC 9110, sections 8.8.3 and 13)."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header

from task_api.tasks.commands import Expectation, OtherVersion, anything
from task_api.tasks.models import Task

IfMatch = Annotated[
    str | None, Header(description='Only if the task still has this ETag (`"v7"`, several with commas between, or `*`)')
]
IfNoneMatch = Annotated[str | None, Header(description="Only if the task has another ETag by now; else 304")]


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


def is_known(task: Task, if_none_match: str | None) -> bool:
    """Whether the client has this version already, by the weak comparison: W/"v7" is as good as "v7"."""
    if if_none_match is None:
        return False
    known = {tag.removeprefix("W/") for tag in _etags(if_none_match)}
    return "*" in known or etag(task.version) in known


def _etags(header: str) -> set[str]:
    """The entity tags of a header, as they stand there."""
    return set(re.findall(r'\*|(?:W/)?"[^"]*"', header))
