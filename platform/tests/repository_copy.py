"""The repository in another folder, for tests that change it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from under_test import REPOSITORY, SERVICE


def copy_repository(folder: Path) -> Path:
    """The repository as it is, uncommitted changes included; nothing that git ignores. Returns the folder."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for file in filter(None, files):
        if (REPOSITORY / file).is_file() or (REPOSITORY / file).is_symlink():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            # With its time, by which make knows what is older; a link as a link.
            shutil.copy2(REPOSITORY / file, folder / file, follow_symlinks=False)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


def lend_environments(folder: Path) -> None:
    """Lets the copy use the Python environments and built tools of the repository, which git ignores."""
    for path in (".venv", ".tools", "packages/chassis/.venv", f"services/{SERVICE}/.venv"):
        if (REPOSITORY / path).exists():
            (folder / path).symlink_to(REPOSITORY / path)
