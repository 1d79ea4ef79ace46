"""Command line: `python -m task_api serve`; `--help` lists the other commands."""

from __future__ import annotations

import sys

from chassis import command_line
from task_api.service import TaskApi


def main() -> int:
    """Runs one command; returns its exit code."""
    return command_line.main(TaskApi)


if __name__ == "__main__":
    sys.exit(main())
