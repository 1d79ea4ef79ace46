"""Links in the documentation resolve, and each code block is annotated."""

from __future__ import annotations

import re

import pytest
from documentation import COMMANDS, DATA, REPOSITORY, Block, blocks, links, pages, prose, source

EVERY_BLOCK = [block for page in pages() for block in blocks(page)]
TYPED = [block for block in EVERY_BLOCK if block.language in COMMANDS]
MAKEFILE = (REPOSITORY / "Makefile").read_text()


# --- links ----------------------------------------------------------------------------


def slugs(page: str) -> set[str]:
    """The anchors that GitHub generates for a page's headings."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        times = sum(1 for slug in anchors if re.fullmatch(rf"{re.escape(words)}(-\d+)?", slug))
        anchors.add(f"{words}-{times}" if times else words)
    return anchors


def broken_links(page: str) -> list[str]:
    """The page's broken links. External links are not followed: only their form is checked."""
    wrong = []
    for target in links(page):
        if target.startswith(("https://", "mailto:")):
            if not re.fullmatch(r"https://([a-z0-9-]+\.)+[a-z]+(/\S*)?|mailto:[^@\s]+@([a-z0-9-]+\.)+[a-z]+", target):
                wrong.append(f"{target}: not a valid URL")
            continue
        path, _, anchor = target.partition("#")
        # Relative to the page's folder, as in the file tree.
        file = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        if not file.exists():
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in slugs(str(file.resolve().relative_to(REPOSITORY))):
            wrong.append(f"{target}: no heading has this anchor")
    return wrong


@pytest.mark.parametrize("page", pages())
def test_every_link_resolves_to_a_file_and_a_heading(page: str) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", pages())
def test_every_make_target_in_the_text_exists(page: str) -> None:
    typed = "\n".join(block.text for block in blocks(page) if block.language in COMMANDS)
    quoted = "\n".join(re.findall(r"`(make [^`]+)`", prose(page)))
    calls = re.findall(r"(?:^|[$;&] *)(?:[A-Z_]+=\S+ )*make ((?:[a-z0-9-]+ ?)+)", f"{typed}\n{quoted}", re.MULTILINE)
    targets = set(" ".join(calls).split())
    assert {target for target in targets if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", pages())
def test_helm_rollback_commands_name_a_revision(page: str) -> None:
    """Without one it returns to the previous revision, which after an automatic rollback is the bad one."""
    assert re.findall(r"helm rollback [a-z-]++(?! (?:\d+|NUMBER)\b).*", source(page)) == []


def test_every_page_is_linked() -> None:
    """Every page of docs/ is reachable by links from the README."""
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


def typed_commands(block: Block) -> list[str]:
    """What a shell runs even if the command before it failed: a pipe, or commands joined by `&&`, are one."""
    return re.sub(r"(\\|&&|\|)\n", " ", block.commands).splitlines()


@pytest.mark.parametrize("block", TYPED, ids=str)
def test_data_is_deleted_only_if_the_commands_before_succeeded(block: Block) -> None:
    """A pasted block continues after a failure, such as that of the backup."""
    destructive = r"helm uninstall|kubectl (drain|delete (pvc|statefulset|secret))|(make|run\.sh) (restore|down)\b"
    _, *later = [command for command in typed_commands(block) if not command.startswith("export ")] or [""]
    assert [command for command in later if re.search(destructive, command)] == []


@pytest.mark.parametrize("block", TYPED, ids=str)
def test_block_names_the_cluster_if_make_and_other_tools_use_it(block: Block) -> None:
    """Without KUBECONFIG, targets of make use the local cluster, or refuse; kubectl and Helm the current context."""
    in_cluster = r"^ *make (backup|restore|rollback|deploy|deploy-settle|smoke|history|unhold|kubeconfig-ci)\b"
    if re.search(in_cluster, block.commands, re.MULTILINE) and re.search(r"\b(kubectl|helm) ", block.commands):
        assert block.commands.startswith("export KUBECONFIG=")


@pytest.mark.parametrize("block", TYPED, ids=str)
def test_release_is_not_deployed_with_the_default_tag(block: Block) -> None:
    """Which is `latest`: it replaces the deployed commit, or does not exist."""
    deploys = [
        command for command in typed_commands(block) if re.search(r"helm(\.sh)? (install|upgrade)\b.*/helm/", command)
    ]
    image = r" --reuse-values| image\.tag=| -f deployed\.yaml"
    assert [command for command in deploys if not re.search(image, command)] == []


def test_every_block_has_a_language() -> None:
    assert [str(block) for block in EVERY_BLOCK if block.language not in COMMANDS | DATA] == []


def test_block_that_nothing_runs_has_a_reason_of_several_words() -> None:
    assert [str(block) for block in TYPED if block.reason and len(block.reason.split()) < 3] == []
