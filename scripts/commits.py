"""Which of two commits is the newer one."""

from __future__ import annotations

import subprocess


def is_older(commit: str, *, than: str) -> bool:
    """Whether git knows that the commit comes before the other one."""
    command = ["git", "merge-base", "--is-ancestor", commit, than]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # 128: this clone does not know one of them, as after a history that was written anew. Then the order says nothing.
    if done.returncode not in (0, 1):
        print(f"git cannot tell {commit} from {than} ({done.stderr.strip()}); taken for newer.", flush=True)
    return done.returncode == 0 and commit != than
