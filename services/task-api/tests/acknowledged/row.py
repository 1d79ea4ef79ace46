"""The effect of one fault, as a row of the report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from acknowledged.history import History
from acknowledged.judge import Verdict

Guarantee = Literal["held", "violated", "incomplete"]

COLUMNS = (
    *("fault", "guarantee", "requests", "failed", "unknown", "lost", "duplicated", "applied though rejected"),
    *("wrong versions", "longest gap", "recovery"),
)


@dataclass(frozen=True)
class Row:
    """The measurements of one trial."""

    fault: str
    guarantee: Guarantee
    requests: int = 0
    failed: int = 0
    unknown: int = 0
    lost: int = 0
    duplicated: int = 0
    applied_though_rejected: int = 0
    wrong_versions: int = 0
    longest_gap: float = 0.0
    recovery: float = 0.0

    @classmethod
    def of(cls, fault: str, guarantee: Guarantee, history: History, verdict: Verdict) -> Row:
        return cls(
            fault,
            guarantee,
            requests=len(history.attempts),
            failed=len(history.failures),
            unknown=verdict.unclear + verdict.unknown,
            lost=len(verdict.lost),
            duplicated=len(verdict.duplicated),
            applied_though_rejected=len(verdict.applied_though_rejected),
            wrong_versions=len(verdict.wrong_versions),
            longest_gap=history.longest_gap(),
            recovery=history.recovery(),
        )

    @property
    def cells(self) -> list[str]:
        """In the order of COLUMNS. Without a verdict, its columns are `?`."""
        judged = (self.unknown, self.lost, self.duplicated, self.applied_though_rejected, self.wrong_versions)
        return [
            self.fault,
            self.guarantee if self.guarantee == "held" else f"**{self.guarantee}**",
            f"{self.requests:,}",
            f"{self.failed:,}",
            *("?" if self.guarantee == "incomplete" else f"{count:,}" for count in judged),
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
