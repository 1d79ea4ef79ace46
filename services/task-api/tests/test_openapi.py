"""The OpenAPI document in the repository: that of the code, with all that a reader needs."""

from __future__ import annotations

import json
import re

from running import SERVICE, SOURCES, run

DOCUMENT = SERVICE / "openapi.json"


def test_the_document_in_the_repository_is_the_one_of_the_code() -> None:
    assert DOCUMENT.read_text() == run("openapi").stdout, "the API changed: write its document again by `make openapi`"


def test_every_operation_has_a_summary_and_an_id_of_its_own() -> None:
    document = json.loads(DOCUMENT.read_text())
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]


def test_a_patch_has_no_default_that_a_generated_client_would_send() -> None:
    document = json.loads(DOCUMENT.read_text())
    bodies = [
        content["schema"]["$ref"].rpartition("/")[2]
        for path in document["paths"].values()
        for content in path.get("patch", {}).get("requestBody", {}).get("content", {}).values()
    ]
    assert bodies
    for body in bodies:
        schema = document["components"]["schemas"][body]
        assert [name for name, member in schema["properties"].items() if "default" in member] == []


def test_no_word_of_an_answer_is_pythons_own() -> None:
    """Its phrases for 413 and 422 changed with 3.13, and each version finds other words for what is wrong with JSON."""
    for folder in SOURCES:
        for file in folder.rglob("*.py"):
            assert not re.findall(r"HTTPStatus|http\.client|problem\[.ctx.\]", file.read_text()), file
