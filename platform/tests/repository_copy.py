"""A copy of the repository, for tests that change it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from under_test import REPOSITORY, SERVICE


def copy_repository(folder: Path) -> Path:
    """Copies the repository with uncommitted changes, without git-ignored files. Returns the folder."""
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
            # With its mtime, which make compares; links as links.
            shutil.copy2(REPOSITORY / file, folder / file, follow_symlinks=False)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


def lend_environments(folder: Path) -> None:
    """Links the repository's Python environments and built tools, which git ignores, into the copy."""
    (folder / ".tools").mkdir()
    # Each tool, not their folder: what is removed in the copy is only a link there.
    tools = sorted(path.relative_to(REPOSITORY) for path in REPOSITORY.glob(".tools/*"))
    for path in (Path(".venv"), *tools, Path("packages/chassis/.venv"), Path(f"services/{SERVICE}/.venv")):
        if (REPOSITORY / path).exists():
            (folder / path).symlink_to(REPOSITORY / path)
