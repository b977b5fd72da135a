"""What the pages promise exists: linked files and headings, make targets, and every command line as it is printed."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from itertools import dropwhile, groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROGRAMS = ("mdrun", "mdtrain", "mdexport")
SHELLS = {"sh", "bash", "console"}
SHELL_OPERATORS = {"|", ">", ">>", "2>", "&&", "||", ";", "&"}

FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")


def prose(page: Path) -> str:
    """The page without its code blocks and remarks."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def links(page: Path) -> list[str]:
    """Link targets inside the repository."""
    found = (first or second for first, second in LINK.findall(prose(page)))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """Names that links into a page may use: its headings in lower case, words joined by hyphens."""
    headings = re.findall(r"^#+ +(.+?)\s*$", prose(page), re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in headings}


def shell_lines(page: Path) -> list[str]:
    """Lines of the shell blocks; continued lines joined, prompts removed."""
    blocks = [body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language in SHELLS]
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip().removeprefix("$ ") for line in text.splitlines()]


def own_commands(page: Path) -> list[list[str]]:
    """Arguments of every call of one of our programs, on both sides of a shell operator."""
    commands = []
    for line in shell_lines(page):
        for operator, words in groupby(shlex.split(line, comments=True), SHELL_OPERATORS.__contains__):
            call = list(dropwhile(lambda word: re.fullmatch(r"[A-Z_]+=.*", word), words))  # variables set for one call
            if not operator and call and Path(call[0]).name in PROGRAMS:
                commands.append([Path(call[0]).name, *call[1:]])
    return commands


def hidden_commands(text: str) -> list[str]:
    """Calls of our programs in blocks that are not labelled as shell: no test would parse them."""
    call = re.compile(rf"^ *(?:\$ )?(?:\S*/)?(?:{'|'.join(PROGRAMS)}) +[\w-].*", re.MULTILINE | re.ASCII)
    return [found for language, body in FENCE.findall(text) if language not in SHELLS for found in call.findall(body)]


def title(value: Path | str | list[str]) -> str:
    """Name of one parameter in the test's id."""
    if isinstance(value, Path):
        return value.name
    return value if isinstance(value, str) else shlex.join(value)


@pytest.mark.parametrize(("page", "link"), [(page, link) for page in PAGES for link in links(page)], ids=title)
def test_link_resolves(page: Path, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    assert target.exists(), f"{page.relative_to(ROOT)} links to {link}"
    assert target.is_relative_to(ROOT), "a link must not leave the repository"
    if anchor:
        assert anchor in anchors(target)


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    calls = re.findall(r"`(make [^`]+)`", prose(page)) + [
        line for line in shell_lines(page) if line.startswith("make ")
    ]
    words = {word for call in calls for word in shlex.split(call, comments=True)[1:]}
    named = {word for word in words if not word.startswith("-") and "=" not in word}
    assert named <= targets


@pytest.mark.parametrize(
    ("page", "command"), [(page, command) for page in PAGES for command in own_commands(page)], ids=title
)
def test_command_is_understood(
    page: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` at the end: every word before it is parsed, nothing runs."""
    monkeypatch.setattr(sys, "argv", [*command, "--help"])
    program = importlib.import_module(f"{command[0]}.cli")
    monkeypatch.setattr(
        program, "leave", sys.exit, raising=False
    )  # the real one ends this process, for other tests left threads
    with pytest.raises(SystemExit) as left:  # as the console script does, whether main returns its code or exits
        sys.exit(program.main())
    out, err = capsys.readouterr()
    assert not left.value.code, err
    assert "Usage" in out


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_commands_stand_in_shell_blocks(page: Path) -> None:
    assert hidden_commands(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("```\nmdrun info x\n```\n", ["mdrun info x"]),  # no label
        ("- item\n\n  ```text\n  $ .venv/bin/mdtrain eval\n  ```\n", ["  $ .venv/bin/mdtrain eval"]),  # inside a list
        ("```sh\nmdrun info x\n```\n", []),  # parsed by the test above
        ("```text\n mdtrain ──▶ mdexport\nmdrun: no such engine\n```\n", []),  # a drawing, an error line
    ],
)
def test_hidden_commands_are_found(text: str, hidden: list[str]) -> None:
    assert hidden_commands(text) == hidden


def test_readme_begins_with_the_three_commands() -> None:
    first, second, third, *_ = shell_lines(ROOT / "README.md")
    assert first.startswith("make demo")
    assert second.startswith("make test")
    program, *arguments = shlex.split(third, comments=True)
    assert Path(program).name == "mdrun"
    assert {"--engine", "--visible", "--thermal"} <= set(arguments)


def test_site_shows_every_page() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"([\w/-]+\.md)$", navigation, re.MULTILINE))
    assert named == {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")}
