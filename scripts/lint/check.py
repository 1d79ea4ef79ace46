"""A check: what it runs, and what it reads."""

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

READ_BY_EACH = r"versions\.env|pyproject\.toml|requirements-(tools|checkov)\.txt|\.[^/]*|scripts/lint/.*"
"""The tools' versions and settings, and what runs them."""

Command = tuple[str, ...]


class Failed(Exception):
    """A check's tool refused; the message is its output."""


@dataclass(frozen=True)
class Check:
    """One line of the output.

    `reads` is a regular expression that matches the paths, from the repository's root, of the files that matter to it.
    `run` is a command, or a function that raises Failed; `needs` is a program without which it is left out.
    """

    title: str
    reads: str
    run: Command | Callable[[], None]
    needs: str = ""

    def fingerprint(self, contents: dict[str, str]) -> str:
        """A hash of all that decides whether it passes. `contents` has a hash of each file's content, by its path."""
        wanted = re.compile(f"{READ_BY_EACH}|{self.reads}")
        read = [f"{path} {content}" for path, content in contents.items() if wanted.fullmatch(path)]
        command = self.run if isinstance(self.run, tuple) else ()
        return digest("\n".join([sys.version, *versions(), *command, *read]).encode())

    def __call__(self) -> None:
        if isinstance(self.run, tuple):
            run(*self.run)
        else:
            self.run()


def run(*command: str | Path) -> str:
    """What it printed on its standard output. Raises Failed with all that it printed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Failed(result.stdout + result.stderr or f"{command[0]} ended with exit code {result.returncode}")
    return result.stdout


def our_files() -> dict[str, str]:
    """The files that are the repository's, or will be when they are added: a hash of the content, by path.

    Of a link to a folder it is where that leads.
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
    """What is in force of versions.env: the environment wins."""
    names = re.findall(r"^([A-Z0-9_]+)=", Path("versions.env").read_text(), re.MULTILINE)
    return tuple(f"{name}={os.environ.get(name, '')}" for name in names)
