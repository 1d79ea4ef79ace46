"""The mutants.toml of each project: its modules, the tests nearest to each, and the accepted survivors."""

from __future__ import annotations

import shlex
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ("mutants.toml", "packages/*/mutants.toml", "services/*/mutants.toml")


@dataclass(frozen=True)
class Module:
    """path, project: relative to the repository. tests: arguments of pytest, which runs in the project's folder.
    accepted: how often each diff may survive."""

    path: Path
    project: Path
    tests: list[str]
    needs_postgresql: bool
    accepted: Counter[str]

    def __str__(self) -> str:
        return str(self.path)


def modules() -> Iterator[Module]:
    """The modules of all projects."""
    for pattern in FILES:
        for file in sorted(ROOT.glob(pattern)):
            project = file.parent.relative_to(ROOT)
            content = tomllib.loads(file.read_text())
            for module, tests in content["modules"].items():
                accepted = Counter(entry["diff"] for entry in content.get("accepted", []) if entry["module"] == module)
                yield Module(project / module, project, shlex.split(tests), content["needs_postgresql"], accepted)


def selected(words: Iterable[str]) -> list[Module]:
    """The modules whose path contains one of the words, word by word; all without words. Raises ValueError."""
    everything = list(modules())
    chosen: dict[Path, Module] = {}
    for word in words:
        found = [module for module in everything if word in str(module)]
        if not found:
            raise ValueError(
                f"MODULES={word} is in no path of a module. Choose from:\n" + "\n".join(map(str, everything))
            )
        chosen |= {module.path: module for module in found}
    return list(chosen.values()) or everything
