"""What the pages promise exists: linked files and headings, make targets, and every command line as it is printed."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROGRAMS = ("mdrun", "mdtrain", "mdexport")
SHELL_OPERATORS = {"|", ">", ">>", "2>", "&&", "||", ";", "&"}

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
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
    blocks = [
        body
        for language, body in FENCE.findall(page.read_text(encoding="utf-8"))
        if language in {"sh", "bash", "console"}
    ]
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line.removeprefix("$ ").strip() for line in text.splitlines()]


def own_commands(page: Path) -> list[list[str]]:
    """Arguments of every call of one of our programs, up to the first shell operator."""
    commands = []
    for line in shell_lines(page):
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # variables set for one call
            words = words[1:]
        if words and Path(words[0]).name in PROGRAMS:
            stop = next((i for i, word in enumerate(words) if word in SHELL_OPERATORS), len(words))
            commands.append([Path(words[0]).name, *words[1:stop]])
    return commands


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
    with pytest.raises(SystemExit) as left:  # as the console script does, whether main returns its code or exits
        sys.exit(importlib.import_module(f"{command[0]}.cli").main())
    out, err = capsys.readouterr()
    assert not left.value.code, err
    assert "Usage" in out


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
