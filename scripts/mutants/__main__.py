"""Mutation testing: changes one thing in a module, and runs the tests nearest to it. A mutant that survives is a fault
that no test would notice.

    python -m scripts.mutants [WORD...]      (or: make mutants MODULES="edge.py scripts/deploy")

A WORD selects the modules whose path contains it. Each project's mutants.toml lists its modules, the arguments of
pytest for each, and the survivors that are accepted, with reasons. Exit code 1 if others survive.

    MINUTES     no mutant is started after this time, and modules come in random order: each has its day
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from scripts.mutants.mutations import Mutant, mutants_of
from scripts.mutants.projects import Module, selected
from scripts.mutants.testing import Outcome, Tests, TestsFailed, postgresql, repository_copy

PROGRESS_SECONDS = 30


@dataclass
class Result:
    """What became of a module's mutants."""

    module: Module
    seconds: float = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    not_run: int = 0
    new: list[Mutant] = field(default_factory=list)
    """Survivors that are not accepted."""
    stale: list[str] = field(default_factory=list)
    """Accepted diffs of which there is no mutant."""
    failure: str = ""

    @property
    def accepted(self) -> int:
        return self.outcomes[Outcome.SURVIVED] - len(self.new)

    @property
    def passed(self) -> bool:
        return not (self.new or self.stale or self.failure)


def test_module(folder: Path, module: Module, deadline: float) -> Result:
    """Tests the module's mutants in this copy of the repository, until the deadline."""
    result = Result(module)
    start = reported = time.monotonic()
    mutants = mutants_of((folder / module.path).read_text())
    accepted = module.accepted.copy()
    result.stale = list((accepted - Counter(mutant.diff for mutant in mutants)).elements())
    if time.monotonic() > deadline:
        result.not_run = len(mutants)
        return result
    tests = Tests(folder, module)
    try:
        with postgresql(folder, module.project) if module.needs_postgresql else nullcontext():
            tests.check()
            say(f"{module}: {len(mutants)} mutants; its tests take {tests.seconds:.1f} s")
            for number, mutant in enumerate(mutants):
                if time.monotonic() > deadline:
                    result.not_run = len(mutants) - number
                    break
                outcome = tests.run(mutant.source)
                result.outcomes[outcome] += 1
                if outcome is Outcome.SURVIVED and accepted[mutant.diff]:
                    accepted[mutant.diff] -= 1
                elif outcome is Outcome.SURVIVED:
                    result.new.append(mutant)
                    print(f"Survives, line {mutant.line}:\n{mutant.diff}", end="", flush=True)
                if time.monotonic() > reported + PROGRESS_SECONDS:
                    reported = time.monotonic()
                    say(f"{number + 1} of {len(mutants)}, {len(result.new)} new survivors")
            tests.check()  # a server that died would have killed all the mutants since
    except TestsFailed as failure:
        result.failure = str(failure)
        print(failure, file=sys.stderr, flush=True)
    result.seconds = time.monotonic() - start
    return result


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def report(results: list[Result]) -> str:
    """The table, new survivors and stale entries of all modules, and the next step."""
    width = max(len(str(result.module)) for result in results)
    lines = [f"{'module':{width}} mutants killed timed-out accepted survived not-run seconds"]
    for result in results:
        outcomes, failed = result.outcomes, "  its tests fail" if result.failure else ""
        lines.append(
            f"{result.module!s:{width}} {outcomes.total() + result.not_run:7} {outcomes[Outcome.KILLED]:6} "
            f"{outcomes[Outcome.TIMED_OUT]:9} {result.accepted:8} {len(result.new):8} {result.not_run:7} "
            f"{result.seconds:7.0f}{failed}"
        )
    for result in results:
        lines += [f"\nSurvives: {result.module}, line {mutant.line}\n{mutant.diff[:-1]}" for mutant in result.new]
        lines += [f"\nAccepted, but there is no such mutant: {result.module}\n{diff[:-1]}" for diff in result.stale]
    return "\n".join([*lines, "", next_step(results)])


def next_step(results: list[Result]) -> str:
    failed = " ".join(str(result.module) for result in results if not result.passed)
    left = " ".join(str(result.module) for result in results if result.not_run)
    if any(result.failure for result in results):
        return f'Next: make the unchanged tests pass, see above, then make mutants MODULES="{failed}"'
    if any(result.new for result in results):
        return (
            "Next: for each survivor above write the test that fails with it, or add its diff to mutants.toml with the "
            f'reason; then make mutants MODULES="{failed}"'
        )
    if failed:
        return "Next: remove the entries above from mutants.toml"
    if left:
        return f'Next: make mutants MODULES="{left}" runs what is left; nothing survived so far that is not accepted'
    return "Next: nothing; all survivors are accepted in mutants.toml"


def main() -> int:
    minutes = os.environ.get("MINUTES")
    deadline = time.monotonic() + int(minutes) * 60 if minutes else float("inf")
    try:
        modules = selected(sys.argv[1:])
    except ValueError as unknown:
        print(unknown, file=sys.stderr)
        return 2
    if minutes:
        random.shuffle(modules)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # removes the copy, stops PostgreSQL
    with ExitStack() as stack:
        folder = stack.enter_context(repository_copy())
        results = [test_module(folder, module, deadline) for module in modules]
    text = report(results)
    print(f"\n{text}", flush=True)
    if (page := os.environ.get("GITHUB_STEP_SUMMARY")) and not all(result.passed for result in results):
        with Path(page).open("a") as summary:
            summary.write(f"```text\n{text}\n```\n")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
