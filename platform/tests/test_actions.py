"""The stand-ins for actions, with which e2e/test_pipeline.py runs the workflows: each action has one."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from manifests import REPOSITORY

STAND_INS = REPOSITORY / "platform/tests/actions"
WORKFLOWS = [yaml.safe_load(file.read_text()) for file in sorted((REPOSITORY / ".github/workflows").glob("*.yml"))]
USES: dict[str, list[dict[str, Any]]] = {}
for workflow in WORKFLOWS:
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            if "uses" in step:
                USES.setdefault(step["uses"].partition("@")[0], []).append(step)


@pytest.mark.parametrize("action", USES)
def test_every_action_has_a_stand_in_that_accepts_its_inputs(action: str) -> None:
    file = STAND_INS / action / "action.yml"
    assert file.is_file(), f"{action} has no stand-in. Write {file.relative_to(REPOSITORY)}; see the existing ones."
    stand_in = yaml.safe_load(file.read_text())
    inputs = {name for step in USES[action] for name in step.get("with", {})}
    assert inputs <= set(stand_in["inputs"]), f"{file.relative_to(REPOSITORY)} lacks an input"
    required = {name for name, definition in stand_in["inputs"].items() if definition.get("required")}
    assert all(required <= set(step.get("with", {})) for step in USES[action])


def test_every_stand_in_is_used() -> None:
    stand_ins = {str(file.parent.relative_to(STAND_INS)) for file in STAND_INS.glob("*/*/action.yml")}
    assert stand_ins == set(USES)
