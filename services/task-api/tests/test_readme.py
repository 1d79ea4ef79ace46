"""The README's tour prints what stands there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from running import SERVICE, serving

README = SERVICE.parent.parent / "README.md"


def test_the_tour_prints_what_stands_in_the_readme(tmp_path: Path) -> None:
    text = README.read_text()
    tour = text[text.index("## A tour of the API") : text.index("## Test it")]
    blocks = re.findall(r"```console\n(.*?)```", tour, re.DOTALL)
    lines = "".join(blocks).splitlines()
    assert sum(line.startswith("$ ") for line in lines) > 15
    with serving(TASKS_DATABASE_URL=f"sqlite:///{tmp_path}/tasks.db") as service:
        # One shell for all commands, as in a terminal: it prints each before what it prints.
        script = "\n".join(
            f"printf '%s\\n' {_quoted(line)}\n{line.removeprefix('$ ')}" for line in lines if line.startswith("$ ")
        )
        script = script.replace("\napi=http://127.0.0.1:8000/v1", f"\napi={service.url}/v1")
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.splitlines() == lines, done.stderr


def _quoted(line: str) -> str:
    return "'" + line.replace("'", "'\\''") + "'"
