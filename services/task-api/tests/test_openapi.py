"""The committed OpenAPI document is up to date and complete."""

from __future__ import annotations

import json
import re

from running import SERVICE, SOURCES, run

DOCUMENT = SERVICE / "openapi.json"


def test_the_committed_openapi_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == run("openapi").stdout, "the API changed: write its document again by `make openapi`"


def test_every_operation_has_a_summary_and_a_unique_id() -> None:
    document = json.loads(DOCUMENT.read_text())
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]


def test_no_request_schema_has_a_default_that_generated_clients_would_send() -> None:
    document = json.loads(DOCUMENT.read_text())
    bodies = [
        operation["requestBody"]
        for path in document["paths"].values()
        for operation in path.values()
        if "requestBody" in operation
    ]
    assert len(bodies) == 3
    reached = "".join(json.dumps(body) for body in bodies)
    names: set[str] = set()
    while found := set(re.findall(r"#/components/schemas/(\w+)", reached)) - names:
        names |= found
        reached += "".join(json.dumps(document["components"]["schemas"][name]) for name in found)
    assert {"NewTask", "TaskPatch", "Batch", "UpdateItem", "Status"} <= names
    assert '"default":' not in reached


def test_every_operation_with_an_idempotency_key_documents_the_header_of_a_replay() -> None:
    document = json.loads(DOCUMENT.read_text())
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    with_key = [
        operation
        for operation in operations
        if "Idempotency-Key" in {parameter["name"] for parameter in operation.get("parameters", [])}
    ]
    assert len(with_key) == 5
    for operation in with_key:
        (success,) = (response for status, response in operation["responses"].items() if status < "300")
        assert "Idempotency-Replayed" in success["headers"], operation["operationId"]


def test_metadata_is_described_by_keywords_that_generators_support() -> None:
    assert "patternProperties" not in DOCUMENT.read_text()
    schemas = json.loads(DOCUMENT.read_text())["components"]["schemas"]
    metadata = schemas["NewTask"]["properties"]["metadata"]
    assert metadata["additionalProperties"]["type"] == "string"
    assert metadata["propertyNames"] == {"minLength": 1, "maxLength": 40, "pattern": "^[A-Za-z0-9_.-]+$"}


def test_the_example_task_has_all_fields() -> None:
    task = json.loads(DOCUMENT.read_text())["components"]["schemas"]["Task"]
    assert task["examples"][0].keys() == task["properties"].keys()


def test_responses_contain_no_text_from_pythons_standard_library() -> None:
    """Its phrases for 413 and 422 changed with 3.13, and its messages for invalid JSON change with each version."""
    files = [file for folder in SOURCES for file in folder.rglob("*.py")]
    assert len(files) > 60
    for file in files:
        assert not re.findall(r"HTTPStatus|http\.client|problem\[.ctx.\]", file.read_text()), file
