"""A check: its command and its inputs."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

READ_BY_ALL = r"versions\.env|pyproject\.toml|requirements-tools\.txt|\.[^/]*|scripts/lint/.*"
"""The tools' versions and settings, and the runner itself."""

Command = tuple[str, ...]


class Failed(Exception):
    """A check's tool failed; the message is its output."""


@dataclass(frozen=True)
class Check:
    """One line of the output.

    `reads` is a regular expression that matches the paths, relative to the repository's root, of the check's input
    files. `run` is a command, or a function that raises Failed; `needs` is a program without which it is skipped.
    """

    title: str
    reads: str
    run: Command | Callable[[], None]
    needs: str = ""

    def fingerprint(self, contents: dict[str, str]) -> str:
        """A hash of everything that determines the result. `contents` has a hash of each file's content, by path."""
        inputs = re.compile(f"{READ_BY_ALL}|{self.reads}")
        files = [f"{path} {content}" for path, content in contents.items() if inputs.fullmatch(path)]
        command = self.run if isinstance(self.run, tuple) else ()
        return digest("\n".join([sys.version, *versions(), *command, *files]).encode())

    def __call__(self) -> None:
        if isinstance(self.run, tuple):
            run(*self.run)
        else:
            self.run()


def run(*command: str | Path) -> str:
    """The command's standard output. Raises Failed with all of its output."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Failed(result.stdout + result.stderr or f"{command[0]} failed with exit code {result.returncode}")
    return result.stdout


def repository_files() -> dict[str, str]:
    """The repository's files, including untracked ones that are not ignored: a hash of the content, by path.

    For a link to a folder it is the hash of its target.
    """
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    paths = [path for path in sorted(listed) if path and (Path(path).is_file() or Path(path).is_symlink())]
    return {
        path: digest(Path(path).read_bytes() if Path(path).is_file() else str(Path(path).readlink()).encode())
        for path in paths
    }


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def versions() -> tuple[str, ...]:
    """The effective values of versions.env: the environment takes precedence."""
    names = re.findall(r"^([A-Z0-9_]+)=", Path("versions.env").read_text(), re.MULTILINE)
    return tuple(f"{name}={os.environ.get(name, '')}" for name in names)
