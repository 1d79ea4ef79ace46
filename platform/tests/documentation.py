"""The repository's documentation pages: their command blocks, and what runs each."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

COMMANDS = {"sh", "console"}
"""Languages of blocks with commands; in `console` they follow a `$`, and the rest is their output."""

DATA = {"html", "ini", "json", "markdown", "promql", "sql", "text", "ts", "yaml"}
"""Languages of blocks that are not shell commands."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with its annotations in the page's source.

    `<!-- run by FILE -->` applies to every block below it, `<!-- not run: REASON -->` only to the next one.
    """

    page: str
    line: int
    section: str
    """The second-level heading above it; at the beginning of a page the title."""
    language: str
    text: str
    run_by: str
    reason: str

    @property
    def commands(self) -> str:
        """What a user types."""
        if self.language != "console":
            return self.text
        return "\n".join(line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ "))

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def pages() -> tuple[str, ...]:
    """Every Markdown page, as a path in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return tuple(sorted(page for page in done.stdout.splitlines() if (REPOSITORY / page).is_file()))


@cache
def source(page: str) -> str:
    return (REPOSITORY / page).read_text()


def blocks(page: str) -> Iterator[Block]:
    section = run_by = reason = ""
    inside: list[str] | None = None
    language, began = "", 0
    for number, line in enumerate(source(page).splitlines(), 1):
        if inside is not None:
            if line.strip() != "```":
                inside.append(line)
                continue
            yield Block(page, began, section, language, "\n".join(inside), run_by, reason)
            inside, reason = None, ""
        elif line.strip().startswith("```"):
            inside, language, began = [], line.strip().removeprefix("```"), number
        elif heading := re.fullmatch(r"##? (.+)", line):
            section = heading[1]
        elif runner := re.fullmatch(r"<!-- run by (\S+) -->", line.strip()):
            run_by = runner[1]
        elif excuse := re.fullmatch(r"<!-- not run: (.+) -->", line.strip()):
            reason = excuse[1]


def commands_run_by(file: str, page: str, section: str | None = None) -> list[Block]:
    """The page's command blocks that this file runs."""
    return [
        block
        for block in blocks(page)
        if block.language in COMMANDS
        and not block.reason
        and block.run_by == file
        and (section is None or block.section == section)
    ]


def links(page: str) -> list[str]:
    """The page's link targets, as written."""
    text = prose(page)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)


def prose(page: str) -> str:
    """The page without its blocks and comments."""
    text = re.sub(r"^ *```.*?^ *```$", "", source(page), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
