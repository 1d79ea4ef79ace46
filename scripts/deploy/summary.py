"""What became of it, for who reads the run's page on GitHub."""

from __future__ import annotations

import os
from pathlib import Path


def summarize(text: str) -> None:
    """On the terminal, and on the run's page."""
    print(text, flush=True)
    write_summary(text)


def write_summary(text: str) -> None:
    """On the run's page alone; nothing outside of GitHub."""
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a") as file:
            file.write(text.replace("\n", "\n\n") + "\n\n")
