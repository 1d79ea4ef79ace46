"""The cost of one fault, as a row of a page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from acknowledged.history import History
from acknowledged.judge import Verdict

Promise = Literal["kept", "broken", "did not end"]

COLUMNS = (
    *("fault", "promise", "requests", "failed", "unknown", "lost", "duplicated", "done though refused"),
    *("wrong versions", "longest gap", "recovery"),
)


@dataclass(frozen=True)
class Row:
    """The measurements of one trial."""

    fault: str
    promise: Promise
    requests: int = 0
    failed: int = 0
    unknown: int = 0
    lost: int = 0
    duplicated: int = 0
    undead: int = 0
    wrong_versions: int = 0
    longest_gap: float = 0.0
    recovery: float = 0.0

    @classmethod
    def of(cls, fault: str, promise: Promise, history: History, verdict: Verdict) -> Row:
        return cls(
            fault,
            promise,
            requests=len(history.attempts),
            failed=len(history.failures),
            unknown=verdict.unclear + verdict.unknown,
            lost=len(verdict.lost),
            duplicated=len(verdict.duplicated),
            undead=len(verdict.undead),
            wrong_versions=len(verdict.wrong_versions),
            longest_gap=history.longest_gap(),
            recovery=history.recovery(),
        )

    @property
    def cells(self) -> list[str]:
        """In the order of COLUMNS. Without a verdict its columns are unknown."""
        judged = (self.unknown, self.lost, self.duplicated, self.undead, self.wrong_versions)
        return [
            self.fault,
            self.promise if self.promise == "kept" else f"**{self.promise}**",
            f"{self.requests:,}",
            f"{self.failed:,}",
            *("?" if self.promise == "did not end" else f"{count:,}" for count in judged),
            f"{self.longest_gap:.1f} s",
            f"{self.recovery:.1f} s" if self.failed else "none needed",
        ]

    def __str__(self) -> str:
        named = zip(COLUMNS[1:], self.cells[1:], strict=True)
        return f"{self.fault}: " + ", ".join(f"{name} {cell}" for name, cell in named)

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, file: Path) -> Row:
        return cls(**json.loads(file.read_text()))
