"""The outcome, for the summary page of the GitHub run."""

from __future__ import annotations

import os
from pathlib import Path


def summarize(text: str) -> None:
    """Prints to the terminal and to the run's page."""
    print(text, flush=True)
    write_summary(text)


def write_summary(text: str) -> None:
    """Writes to the run's page only; does nothing outside of GitHub."""
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a") as file:
            file.write(text.replace("\n", "\n\n") + "\n\n")
