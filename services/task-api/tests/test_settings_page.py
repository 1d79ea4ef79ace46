"""docs/settings.md lists every setting, as in the code."""

from __future__ import annotations

from running import SERVICE

from task_api.settings import Settings

PAGE = SERVICE.parents[1] / "docs/settings.md"


def table() -> list[str]:
    lines = []
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias or f"TASKS_{name.upper()}"
        default = field.get_default()
        shown = default.get_secret_value() if hasattr(default, "get_secret_value") else default
        lines.append(f"| `{variable}` | {f'`{shown}`' if shown not in (None, '') else ''} | {field.description} |")
    return lines


def test_every_setting_is_on_the_page_with_its_default() -> None:
    head, _, *rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    assert head == "| variable | default | |"
    assert sorted(rows) == sorted(table())
