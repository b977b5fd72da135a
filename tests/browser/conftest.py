"""A real Chromium, and one page a test whose every complaint is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ARGUMENTS = [
    "--no-sandbox",  # in a container there is none to be had
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # what the page wants from elsewhere fails at once
]
WAIT_MS = 60_000  # for what a loaded machine does late

NewPage = Callable[..., Any]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: Any) -> Iterator[NewPage]:
    """Opens pages; `page.complaints` holds their errors, which must be none at the end unless the test empties it."""
    opened: list[tuple[Any, list[str]]] = []

    def make(**options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if "//127.0.0.1" in request.url or request.url.startswith("blob:")
                else complaints.append(request.url)
            ),
        )
        page.complaints = complaints
        opened.append((context, complaints))
        return page

    yield make
    for context, _ in opened:
        context.close()
    # a test's server may end before its page, which then asks once more
    assert [text for _, complaints in opened for text in complaints if "ERR_CONNECTION_REFUSED" not in text] == []
