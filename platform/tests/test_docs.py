"""The pages lead where they say, and say of each block what it is."""

from __future__ import annotations

import re

import pytest
from documentation import COMMANDS, DATA, REPOSITORY, blocks, links, pages, prose, source

EVERY_BLOCK = [block for page in pages() for block in blocks(page)]
TYPED = [block for block in EVERY_BLOCK if block.language in COMMANDS]
MAKEFILE = (REPOSITORY / "Makefile").read_text()


# --- links ----------------------------------------------------------------------------


def slugs(page: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        times = sum(1 for slug in found if re.fullmatch(rf"{re.escape(words)}(-\d+)?", slug))
        found.add(f"{words}-{times}" if times else words)
    return found


def wrong_links(page: str) -> list[str]:
    """What is wrong with each of the page's links. To other sites none is followed: of those the form alone is seen."""
    wrong = []
    for target in links(page):
        if target.startswith(("https://", "mailto:")):
            if not re.fullmatch(r"https://([a-z0-9-]+\.)+[a-z]+(/\S*)?|mailto:[^@\s]+@([a-z0-9-]+\.)+[a-z]+", target):
                wrong.append(f"{target}: this is no address")
            continue
        path, _, anchor = target.partition("#")
        # As the file tree has it, whatever the page's own folder is.
        file = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        if not file.exists():
            wrong.append(f"{target}: there is no such file")
        elif anchor and anchor not in slugs(str(file.resolve().relative_to(REPOSITORY))):
            wrong.append(f"{target}: no heading there makes this anchor")
    return wrong


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    assert wrong_links(page) == []


@pytest.mark.parametrize("page", pages())
def test_every_make_target_that_is_named_exists(page: str) -> None:
    typed = "\n".join(block.text for block in blocks(page) if block.language in COMMANDS)
    quoted = "\n".join(re.findall(r"`(make [^`]+)`", prose(page)))
    called = re.findall(r"(?:^|[$;&] *)(?:[A-Z_]+=\S+ )*make ((?:[a-z0-9-]+ ?)+)", f"{typed}\n{quoted}", re.MULTILINE)
    targets = set(" ".join(called).split())
    assert {target for target in targets if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", pages())
def test_a_rollback_by_helm_names_its_revision(page: str) -> None:
    """Without one it goes to the revision before, which after a deploy that went back by itself is the bad one."""
    assert re.findall(r"helm rollback [a-z-]++(?! (?:\d+|NUMBER)\b).*", source(page)) == []


def test_no_page_stands_alone() -> None:
    """From the README every page of docs/ is reached by links."""
    reached: set[str] = set()
    next_pages = {"README.md"}
    while next_pages - reached:
        page = (next_pages - reached).pop()
        reached.add(page)
        for target in re.findall(r"\]\(([^)#\s]+\.md)[^)]*\)", prose(page)):
            file = ((REPOSITORY / page).parent / target).resolve()
            if file.is_file():
                next_pages.add(str(file.relative_to(REPOSITORY)))
    assert {page for page in pages() if page.startswith("docs/")} - reached == set()


def test_every_decision_says_what_would_change_it() -> None:
    records = re.findall(r"^\*\*.+?(?=^\*\*|^## |\Z)", prose("docs/decisions.md"), re.MULTILINE | re.DOTALL)
    assert len(records) > 20
    assert [record.splitlines()[0] for record in records if not re.search(r"\*Would\s+change\s+it:\*", record)] == []


# --- commands -------------------------------------------------------------------------


def test_every_block_names_its_language() -> None:
    assert [str(block) for block in EVERY_BLOCK if block.language not in COMMANDS | DATA] == []


def test_a_block_that_nothing_runs_says_a_reason_and_not_a_word() -> None:
    assert [str(block) for block in TYPED if block.reason and len(block.reason.split()) < 3] == []
