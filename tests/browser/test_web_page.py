"""The live page in a real browser. Screenshots lie in the test's folder (`pytest --basetemp`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdrun.frames import FfcState, Modality, Provenance, SourceState
from mdrun.registration import Registration
from tests.browser.conftest import NewPage
from tests.runtime.web_rig import THERMAL_WH, TRUE_MATRIX, VISIBLE_WH, Rig, serving, shutter, street

pytestmark = pytest.mark.browser

TOKEN = "correct horse battery staple"  # noqa: S105  # of the tests
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
# How far the cover over the first picture is drawn: 0 not at all, 1 wholly.
COVER = "getComputedStyle(document.querySelector('.veil')).opacity"
PIXELS = "view => document.querySelector(`figure[data-view=${view}] canvas`).toDataURL()"


@pytest.fixture
def rig() -> Iterator[Rig]:
    street()
    with serving(token=TOKEN) as found:
        found.run(8)
        yield found


def open_live(page: Any, rig: Rig) -> Any:
    page.goto(rig.url)
    page.wait_for_selector("#liveness.live")
    page.wait_for_selector("#cameras table")
    return page


def until_js(page: Any, condition: str) -> None:
    """Not `wait_for_function`: that evaluates text in the page, which its content security policy forbids."""
    until(lambda: page.evaluate(condition))


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_page_shows_pictures_that_move(rig: Rig, new_page: NewPage, tmp_path: Path, scheme: str) -> None:
    page = open_live(new_page(color_scheme=scheme), rig)
    assert page.evaluate(COVER) == "0"
    for view in ("visible", "thermal", "fused"):
        first = page.evaluate(PIXELS, view)
        until(lambda view=view, first=first: page.evaluate(PIXELS, view) != first)  # type: ignore[misc]
    assert page.title() == "gate · mdrun"
    assert page.locator("#cameras").inner_text().count("640\N{MULTIPLICATION SIGN}512") == 1
    assert "openvino" in page.locator("#ladder").inner_text()
    for chart in ("skew", "latency"):
        assert "p50" in page.locator(f"#{chart} svg").get_attribute("aria-label")
    assert page.locator("#latency path.line").count() == 1
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 18, 22)") == (scheme == "dark")
    page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)


def test_what_happens_to_the_cameras_is_told(rig: Rig, new_page: NewPage) -> None:
    page = open_live(new_page(), rig)
    assert page.locator("#badge-fused").inner_text() == "● thermal measured"
    rig.provenance, rig.reason = Provenance.HALLUCINATED, "ffc"
    shutter(rig, FfcState.RUNNING, events=3)
    rig.state(Modality.THERMAL, SourceState.LOST, "MDR-405", "cam1: the connection is gone")
    rig.monitor.set_rung(1, "thermal_lost")
    rig.tell("ladder", **{"from": "student", "to": "visible-only", "reason": "thermal_lost"})
    until_js(page, "document.querySelector('#badge-fused').textContent.includes('hallucinated (shutter closed)')")
    until_js(page, "document.querySelector('#rig-state').textContent.includes('degraded')")
    assert "3 shutter events" in page.locator("#shutter").inner_text()
    assert "running" in page.locator("#shutter").inner_text()
    assert "MDR-405" in page.locator("#cameras").inner_text()
    assert "runs" in page.locator("#ladder tbody tr").nth(1).inner_text()
    assert "not the first one, because: thermal camera lost" in page.locator("#ladder").inner_text()
    notices = page.locator("#notices").inner_text()
    for words in ("shutter normal → running", "student → visible-only", "the connection is gone"):
        assert words in notices
    rig.provenance, rig.reason = Provenance.MEASURED, ""
    until_js(page, "document.querySelector('#badge-thermal').classList.contains('measured')")


def test_a_rig_without_results_does_not_look_live(rig: Rig, new_page: NewPage, tmp_path: Path) -> None:
    page = open_live(new_page(), rig)
    rig.freeze()
    page.wait_for_selector("#liveness.stale")
    assert "No new picture for" in page.locator("#banner").inner_text()
    assert page.evaluate(COVER) == "1"
    assert page.title().startswith("✕ no picture")
    page.screenshot(path=tmp_path / "stale.png")
    rig.run(8)
    page.wait_for_selector("#liveness.live")
    assert page.locator("#banner").is_hidden()
    until(lambda: page.evaluate(COVER) == "0")


def test_a_dead_server_does_not_look_live(rig: Rig, new_page: NewPage, tmp_path: Path) -> None:
    page = open_live(new_page(), rig)
    port = int(rig.url.rpartition(":")[2])
    rig.close()
    page.wait_for_selector("#liveness.lost")
    assert page.evaluate(COVER) == "1"
    until_js(
        page,
        "/No contact with mdrun for (\\d+) s. The last picture is/.test(document.querySelector('#banner').textContent)",
    )
    assert "no contact" in page.title()
    assert page.evaluate("document.body.classList.contains('no-contact')")
    page.screenshot(path=tmp_path / "lost.png")
    with serving(port=port) as again:  # mdrun is back
        again.run(8)
        page.wait_for_selector("#liveness.live")
        until(lambda: page.evaluate(COVER) == "0")
        page.close()
    page.complaints.clear()  # the browser tells of the refused connections


def test_a_dead_script_does_not_look_live(rig: Rig, new_page: NewPage) -> None:
    """Every timer and every answer stops, the pictures stay as they are: the style sheet covers them by itself."""
    page = open_live(new_page(), rig)
    page.evaluate("""() => {
        const last = setTimeout(() => {}, 0);
        for (let id = 0; id <= last; id += 1) { clearTimeout(id); clearInterval(id); }
        window.setTimeout = () => 0;
        window.fetch = () => new Promise(() => {});
    }""")
    until(lambda: page.evaluate(COVER) == "1")
    until(lambda: page.evaluate("getComputedStyle(document.querySelector('#badge-visible')).opacity") < "0.5")
    until(lambda: page.evaluate("getComputedStyle(document.querySelector('#liveness')).opacity") < "0.5")


def test_covered_before_anything_came(new_page: NewPage) -> None:
    with serving() as rig:
        page = new_page()
        page.goto(rig.url)
        page.wait_for_selector("#liveness.connecting")
        assert page.evaluate(COVER) == "1"
        page.close()


def click_point(page: Any, canvas: str, point: Any, size: tuple[int, int]) -> None:
    """Click on a pixel as captured; the centre of the first one is (0, 0)."""
    box = page.locator(canvas).bounding_box()
    x, y = ((point[axis] + 0.5) / size[axis] * box[side] for axis, side in ((0, "width"), (1, "height")))
    page.locator(canvas).click(position={"x": x, "y": y})


def pick(page: Any) -> None:
    """Eight pairs that belong together, as clicked."""
    for count, (x, y) in enumerate(
        [(25, 20), (130, 22), (128, 100), (30, 104), (80, 60), (60, 90), (110, 50), (45, 45)]
    ):
        end = TRUE_MATRIX @ (x, y, 1)
        click_point(page, "#pick-thermal", (x, y), THERMAL_WH)
        click_point(page, "#pick-visible", end[:2] / end[2], VISIBLE_WH)
        assert page.locator("#pairs tr").count() == count + 1


def test_points_fit_overlay_and_save(
    rig: Rig, new_page: NewPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = open_live(new_page(viewport={"width": 1280, "height": 1400}), rig)
    page.click("#tab-registration")
    until_js(page, "document.querySelector('#held').textContent.includes('held')")
    assert page.locator("#fit").is_disabled()
    assert "0.8" in page.locator("#current").inner_text()
    pick(page)
    page.click("#fit")
    until_js(page, "document.querySelector('#fit-result').textContent.includes('Median error')")
    residuals = [float(text.split()[0]) for text in page.locator("#pairs td:nth-child(4)").all_inner_texts()]
    assert len(residuals) == 8
    assert max(residuals) < 1.0  # a screen pixel is a third of a thermal one
    assert page.locator("#overlay-thermal").evaluate("element => element.style.transform").startswith("matrix3d")
    corners = page.locator("#overlay-thermal").evaluate("""element => {
        const matrix = new DOMMatrix(element.style.transform);
        const scale = element.parentElement.clientWidth / 640;
        return [[0, 0], [160, 128]].map(([x, y]) => {
            const end = matrix.transformPoint(new DOMPoint(x, y));
            return [end.x / end.w / scale, end.y / end.w / scale];
        });
    }""")
    ends = np.array([[-0.5, -0.5, 1], [159.5, 127.5, 1]]) @ TRUE_MATRIX.T + [0.5, 0.5, 0]
    np.testing.assert_allclose(corners, ends[:, :2], atol=6)  # visible pixels, at the far corners of the image
    page.screenshot(path=tmp_path / "registration.png", full_page=True)
    with page.expect_download() as download:
        page.click("#csv")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert (lines[0], len(lines)) == ("visible_x,visible_y,thermal_x,thermal_y", 9)
    page.click("#save")  # wants the token first
    assert page.locator("#token-dialog").is_visible()
    page.fill("#token", "wrong")
    page.click("#token-ok")
    until_js(page, "document.querySelector('#token-text').textContent.includes('wrong token')")
    assert rig.saved == []
    page.fill("#token", TOKEN)
    page.keyboard.press("Tab")
    page.click("#token-ok")
    until_js(page, "document.querySelector('#fit-result').textContent.includes('Saved as')")
    (path,) = rig.saved
    assert (Registration.load(tmp_path / path).residual_px or 9) < 1.0
    assert page.evaluate("sessionStorage.getItem('mdrun-token')") == TOKEN
    page.complaints.clear()  # the refused token


def test_points_by_keyboard_and_their_removal(rig: Rig, new_page: NewPage) -> None:
    page = open_live(new_page(), rig)
    page.focus("#tab-live")
    page.keyboard.press("ArrowRight")
    until_js(page, "document.querySelector('#held').textContent.includes('held')")
    for canvas in ("#pick-visible", "#pick-thermal"):
        page.focus(canvas)
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
    assert page.locator("#pairs td:nth-child(2)").inner_text() == "330.0, 255.0"
    assert page.locator("#pairs td:nth-child(3)").inner_text() == "90.0, 63.0"
    page.focus("#pick-visible")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")  # half a pair is taken back
    page.locator("#pairs button").focus()
    page.keyboard.press("Enter")
    assert page.locator("#pairs tr").count() == 0


def test_read_only_page_offers_no_saving(new_page: NewPage) -> None:
    with serving() as rig:
        rig.run(8)
        page = open_live(new_page(), rig)
        page.click("#tab-registration")
        until_js(page, "document.querySelector('#held').textContent.includes('held')")
        pick(page)
        assert page.locator("#fit").is_enabled()
        assert page.locator("#save").is_disabled()
        assert "read-only" in page.locator("#save").get_attribute("title")


def test_phone(rig: Rig, new_page: NewPage, tmp_path: Path) -> None:
    page = open_live(new_page(**PHONE), rig)
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    for tab in ("live", "registration"):
        page.tap(f"#tab-{tab}")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        right = "e => e.closest('.scroll') ? 0 : e.getBoundingClientRect().right"
        assert page.evaluate(f"Math.max(...[...document.querySelectorAll('main *')].map({right}))") <= 360
    tops = page.evaluate("[...document.querySelectorAll('.pickers figure')].map(e => e.getBoundingClientRect().top)")
    assert tops[0] < tops[1]  # one below the other


def test_snapshot_and_opacity(rig: Rig, new_page: NewPage) -> None:
    page = open_live(new_page(), rig)
    with page.expect_download() as download:
        page.click("#snapshot")
    assert download.value.suggested_filename.endswith(".zip")
    rig.freeze()
    page.wait_for_selector("#liveness.stale")
    sums = []
    for value in ("0", "1"):
        page.locator("#opacity").fill(value)
        sums.append(page.evaluate(PIXELS, "fused"))
    assert sums[0] == page.evaluate(PIXELS, "visible")
    assert sums[1] == page.evaluate(PIXELS, "thermal")


def test_every_control_has_a_name_and_can_be_reached(rig: Rig, new_page: NewPage) -> None:
    page = open_live(new_page(), rig)
    nameless = page.evaluate("""() => {
        const named = e => e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length;
        const all = [...document.querySelectorAll('button, a, input, select, canvas, svg')];
        return all.filter(e => !named(e)).map(e => e.outerHTML);
    }""")
    assert nameless == []
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"skip", "tab-live", "snapshot", "enlarge", "opacity", "notices"} <= set(reached)


def test_several_rigs_can_be_chosen(rig: Rig, new_page: NewPage) -> None:
    with serving("yard", port=int(rig.url.rpartition(":")[2])) as other:
        other.provenance, other.reason = Provenance.ABSENT, "no_thermal"
        other.run(8)
        page = open_live(new_page(), rig)
        page.select_option("#rig", "yard")
        until_js(page, "document.querySelector('#badge-fused').textContent.includes('absent')")
        assert page.url.endswith("#yard")
    page.wait_for_selector("#liveness.stale")  # a rig that is gone is not replaced by another
    until_js(page, "document.querySelectorAll('#rig option').length === 1")
    assert page.evaluate(COVER) == "1"
    assert page.locator("#liveness.live").count() == 0
    page.close()
    page.complaints.clear()  # of the answers 404
