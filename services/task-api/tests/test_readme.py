"""The commands of docs/tour.md print what it shows, and those of docs/auth.md work."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx2
from running import SERVICE, serving

REPOSITORY = SERVICE.parents[1]


def test_the_tour_prints_what_its_page_shows(tmp_path: Path) -> None:
    blocks = re.findall(r"```console\n(.*?)```", (REPOSITORY / "docs/tour.md").read_text(), re.DOTALL)
    lines = "".join(blocks).splitlines()
    assert sum(line.startswith("$ ") for line in lines) > 15
    with serving(TASKS_DATABASE_URL=f"sqlite:///{tmp_path}/tasks.db") as service:
        # One shell for all commands, as in a terminal: it prints each command before its output.
        script = "\n".join(
            f"printf '%s\\n' {_quoted(line)}\n{line.removeprefix('$ ')}" for line in lines if line.startswith("$ ")
        )
        script = script.replace("\napi=http://127.0.0.1:8000/v1", f"\napi={service.url}/v1")
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.splitlines() == lines, done.stderr


def test_the_token_commands_make_a_valid_token(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/auth.md").read_text()
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    enter, export, make, serve = block.splitlines()
    assert enter == "cd services/task-api"
    tokens = tmp_path / "tokens"
    for command in (make, make):
        command = f"{export}\n{command}".replace(">> tokens", f">> {tokens}")
        done = subprocess.run(["bash", "-c", command], cwd=SERVICE, capture_output=True, text=True, check=True)
        (token,) = re.findall(r"once: (\S+)", done.stderr)
    assert len(tokens.read_text().splitlines()) == 2
    assert token not in tokens.read_text()
    settings = dict(word.split("=") for word in serve.split() if word.startswith("TASKS_"))
    assert settings == {"TASKS_AUTH": "tokens", "TASKS_AUTH_TOKEN_FILE": "tokens"}
    with serving(**settings | {"TASKS_AUTH_TOKEN_FILE": str(tokens)}) as service:
        assert httpx2.get(f"{service.url}/v1/tasks").status_code == 401
        allowed = httpx2.get(f"{service.url}/v1/tasks", headers={"Authorization": f"Bearer {token}"})
        assert allowed.status_code == 200
        is_open, _ = page.split("are open in every mode")
        paths = re.findall(r"`(/[a-z.]+)`", is_open)
        assert {"/health", "/livez", "/readyz"} <= set(paths)
        for path in paths:
            assert httpx2.get(service.url + path).status_code == 200, path


def _quoted(line: str) -> str:
    return "'" + line.replace("'", "'\\''") + "'"
