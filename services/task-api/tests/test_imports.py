"""Allowed imports."""

from __future__ import annotations

import re

from running import SERVICE

PACKAGE = SERVICE / "src/task_api"


def test_the_domain_does_not_import_the_web_framework() -> None:
    above = (
        r"task_api(?:\.| import .*\b)(?:app|service|settings)"
        r"|chassis(?:\.| import .*\b)(?:app|server|edge|health|tracing)"
    )
    files = [file for part in ("store", "tasks") for file in (PACKAGE / part).rglob("*.py")]
    assert len(files) > 20
    for file in files:
        assert not re.findall(rf"^.*\b(?:{above})\b.*$", file.read_text(), re.MULTILINE), file
