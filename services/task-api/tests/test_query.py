"""Search words, and cursors of lists."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from making import a_task

from task_api.tasks.models import Priority
from task_api.tasks.query import MAX_WORD, InvalidCursor, Query, read_cursor, read_order, words, words_of, write_cursor


@pytest.mark.parametrize("before", ["", "short "])
def test_a_word_is_compared_by_its_first_hundred_characters(before: str) -> None:
    assert words(f"{before}{'x' * MAX_WORD}") == {*before.split(), "x" * MAX_WORD}
    assert words(f"{before}{'x' * MAX_WORD}y") == {*before.split(), "x" * MAX_WORD}


def test_search_finds_the_words_of_title_and_description() -> None:
    assert words_of(a_task(title="A b", description="Straße_x")) == {"a", "b", "strasse", "x"}
    assert words_of(a_task(title="A b", description=None)) == {"a", "b"}


QUERY = Query(order=read_order("-priority,title"))


def forged(cursor: str, change: Callable[[list[Any]], object]) -> str:
    """The cursor with other sort values."""
    fingerprint, values, last = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    change(values)
    return base64.urlsafe_b64encode(json.dumps([fingerprint, values, last]).encode()).decode().rstrip("=")


@pytest.mark.parametrize("priority", [-1, len(Priority), 1.5, 10**6, "1", None])
def test_a_cursor_with_a_priority_that_does_not_exist_is_invalid(priority: object) -> None:
    """PostgreSQL would reject some of them as out of range."""
    cursor = write_cursor(QUERY, a_task())
    with pytest.raises(InvalidCursor):
        read_cursor(QUERY, forged(cursor, lambda values: values.__setitem__(0, priority)))


@pytest.mark.parametrize("priority", range(len(Priority)))
def test_a_cursor_may_have_any_existing_priority(priority: int) -> None:
    task = a_task()
    cursor = forged(write_cursor(QUERY, task), lambda values: values.__setitem__(0, priority))
    assert read_cursor(QUERY, cursor) == ((priority, task.title), task.id)


@pytest.mark.parametrize("change", [list.pop, lambda values: values.append("more")], ids=["missing", "superfluous"])
def test_a_cursor_has_a_value_for_each_sort_key(change: Callable[[list[Any]], object]) -> None:
    with pytest.raises(InvalidCursor):
        read_cursor(QUERY, forged(write_cursor(QUERY, a_task()), change))


def test_a_cursor_with_other_characters_is_invalid() -> None:
    cursor = write_cursor(QUERY, a_task())
    with pytest.raises(InvalidCursor):
        read_cursor(QUERY, f"{cursor[:4]}!!!!{cursor[4:]}")  # four of them, so that the padding is that of the cursor


@pytest.mark.parametrize("length", range(4))
def test_a_cursor_of_any_length_is_read(length: int) -> None:
    task = a_task(title="x" * length)
    assert read_cursor(QUERY, write_cursor(QUERY, task)) == ((0, task.title), task.id)
