"""Errors in a body are located by a JSON pointer (RFC 6901)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from chassis.problems import pointer


class Text(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["text"]
    text: str


class Number(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["number"]
    number: int
    more: dict[Annotated[str, StringConstraints(pattern="^[a-z]+$")], int | list[int]] = {}


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    parts: list[Annotated[Text | Number, Field(discriminator="kind")]] = []
    either: Text | Number | None = None
    from_: Annotated[str, Field(alias="from")] = ""

    @model_validator(mode="after")
    def _few(self) -> Document:
        if len(self.parts) > 3:
            raise ValueError("too many")
        return self


TEXT = {"kind": "text", "text": "a"}


def pointers(body: Any) -> set[str]:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(Document).validate_python(body)
    return {
        pointer(body, error["loc"], missing=error["type"] == "missing", value=error["input"])
        for error in raised.value.errors()
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"parts": [TEXT, {"kind": "text", "text": 5}]}, "/parts/1/text"),
        ({"parts": [{"kind": "text"}]}, "/parts/0/text"),
        ({"parts": [{"kind": "other"}]}, "/parts/0"),
        ({"parts": [{}]}, "/parts/0"),
        ({"parts": [5]}, "/parts/0"),
        ({"parts": [{**TEXT, "a/b~c": 1}]}, "/parts/0/a~1b~0c"),
        ({"parts": [{**TEXT, "text": 5, "number": 1}]}, "/parts/0/text"),
        ({"parts": [{"kind": "number", "number": 1, "more": {"A b": 1}}]}, "/parts/0/more/A b"),
        ({"parts": [{"kind": "number", "number": 1, "more": {"int": "x"}}]}, "/parts/0/more/int"),
        ({"parts": [{"kind": "number", "number": 1, "more": {"a": [1, "x"]}}]}, "/parts/0/more/a/1"),
        ({"from": 5}, "/from"),
        ({"": 1}, "/"),
        ({"parts": [TEXT] * 4}, ""),
        ([], ""),
    ],
)
def test_the_pointer_locates_the_error(body: Any, expected: str) -> None:
    assert expected in pointers(body)
    assert all(_leads_somewhere(body, target) for target in pointers(body))


def test_a_union_tag_is_not_mistaken_for_a_member() -> None:
    body = {"parts": [{"kind": "text", "text": 5}]}
    loc = ("parts", 0, "text", "text")
    assert pointer(body, loc, missing=False, value=5) == "/parts/0/text"
    tricky = {"item": {"kind": "create", "create": {"title": "fine"}, "task": {"title": 5}}}
    assert pointer(tricky, ("item", "create", "task", "title"), missing=False, value=5) == "/item/task/title"
    both = {"item": {"create": {"title": "fine"}, "title": 5}}
    assert pointer(both, ("item", "create", "title"), missing=False, value=both["item"]["title"]) == "/item/title"


def test_a_pathological_path_takes_no_exponential_time() -> None:
    body: Any = {}
    for _ in range(200):
        body = {"a": body, "b": 1}
    assert pointer(body, ("a",) * 400, missing=False, value=None) == "/a" * 200


def _leads_somewhere(body: Any, target: str) -> bool:
    """Whether the body contains all steps but the last, which may be a missing member."""
    for name in [step.replace("~1", "/").replace("~0", "~") for step in target.split("/")[1:-1]]:
        body = body[int(name)] if isinstance(body, list) else body[name]
    return True
