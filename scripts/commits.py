"""Compares the order of two commits."""

from __future__ import annotations

import subprocess


def is_older(commit: str, *, than: str) -> bool:
    """Whether the commit is an ancestor of the other one, according to Git."""
    command = ["git", "merge-base", "--is-ancestor", commit, than]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    # 128: this clone lacks one of them, as after a rewritten history. Then the order is unknown.
    if result.returncode not in (0, 1):
        print(f"git cannot compare {commit} with {than} ({result.stderr.strip()}); treating it as newer.", flush=True)
    return result.returncode == 0 and commit != than
