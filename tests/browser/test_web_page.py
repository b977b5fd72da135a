"""The live page in a real browser. Screenshots lie in the test's folder (`pytest --basetemp`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdrun.frames import FfcState, Modality, Provenance, Segmentation, SourceState, TrackEvent
from mdrun.monitor import SinkStatus
from mdrun.registration import Registration
from tests.browser.conftest import NewPage
from tests.runtime.web_rig import THERMAL_WH, TRUE_MATRIX, VISIBLE_WH, Rig, serving, shutter, street

pytestmark = pytest.mark.browser

TOKEN = "correct horse battery staple"  # noqa: S105  # of the tests
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
# How far the cover over the first picture is drawn: 0 not at all, 1 wholly.
COVER = "getComputedStyle(document.querySelector('.veil')).opacity"
WIDTHS = {360: 740, 768: 1024, 1400: 900, 1920: 1080}  # px of the window: phone, tablet, notebook, wide screen
# What sticks out of its card, or has to be scrolled sideways in it.
STICKING_OUT = """() => [...document.querySelectorAll('header, figure, #problems, .under, .panels > section')]
    .filter(card => card.getClientRects().length).flatMap(card => {
        const place = card.getBoundingClientRect();
        return [...card.querySelectorAll('*')].filter(e => {
            const {left, right, width} = e.getBoundingClientRect();
            const out = right > place.right + 0.5 || left < place.left - 0.5;
            const scrolls = e.matches('.scroll') && e.scrollWidth > e.clientWidth + 1;
            return width && !e.closest('.unseen') && (out || scrolls);
        }).map(e => e.outerHTML.slice(0, 120));
    })"""
# Whether the thermal picture is nothing but ground: no image, no box.
EMPTY = """() => {
    const canvas = document.querySelector('figure[data-view=thermal] canvas');
    const copy = Object.assign(document.createElement('canvas'), {width: canvas.width, height: canvas.height});
    const context = copy.getContext('2d', {willReadFrequently: true});
    context.drawImage(canvas, 0, 0);
    const {data} = context.getImageData(0, 0, copy.width, copy.height);
    const ink = [16, 18, 22];
    return data.every((value, index) => index % 4 === 3 || value === ink[index % 4]);
}"""
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


def name_everything_long(rig: Rig) -> None:
    """Names as installers give them, without a space to break a line at."""
    for modality, camera in rig.monitor.cameras.items():
        camera.name = f"perimeter_north_gate_tower_{modality.value}_camera_01"
    for engine in rig.monitor.engines:
        engine["name"] = f"md-r18-{engine['name']}_512x384_perimeter_night_2026_03_int8"
        engine |= {"backend": "tensorrt-rtx", "device": "NVIDIA GeForce RTX 4090 Laptop GPU"}
    broker = "mqtt://broker.perimeter.example.local:8883/sites/north/gate_tower_17_bis"
    message = "no connection to the broker (Name or service not known); trying again"
    rig.monitor.set_sink(broker, SinkStatus(412, 3, 1, False, message))
    rig.monitor.drops.update({"busy": 123456, "queue": 3, "thermal_stale": 17, "thermal_stalled": 2})
    rig.tell("sink", sink=broker, alive=False, code="MDR-610", message=message)


def lose_thermal(rig: Rig) -> None:
    rig.provenance, rig.reason = Provenance.ABSENT, "lost"
    rig.state(Modality.THERMAL, SourceState.LOST, "MDR-405", "cam1: the connection has ended")
    names = [engine["name"] for engine in rig.monitor.engines]
    rig.monitor.set_rung(1, "thermal_lost")
    rig.monitor.add_switch(0, 1, "thermal_lost")
    rig.tell("ladder", **{"from": names[0], "to": names[1], "reason": "thermal_lost"})


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
    until_js(page, "document.querySelector('#shutter').textContent.includes('running')")
    rig.state(Modality.THERMAL, SourceState.LOST, "MDR-405", "cam1: the connection is gone")
    rig.monitor.set_rung(1, "thermal_lost")
    rig.monitor.add_switch(0, 1, "thermal_lost")
    rig.tell("ladder", **{"from": "student", "to": "visible-only", "reason": "thermal_lost"})
    until_js(page, "document.querySelector('#badge-fused').textContent.includes('hallucinated (shutter closed)')")
    until_js(page, "document.querySelector('#rig-state').textContent.includes('degraded')")
    assert "3 shutter events" in page.locator("#shutter").inner_text()
    assert "unknown: camera lost" in page.locator("#shutter").inner_text()  # nobody looks at a shutter that is gone
    assert "MDR-405" in page.locator("#cameras").inner_text()
    assert "runs" in page.locator("#ladder tbody tr").nth(1).inner_text()
    assert "not the first one, because: thermal camera lost" in page.locator("#ladder").inner_text()
    notices = page.locator("#notices").inner_text()
    for words in ("shutter normal → running", "student → visible-only", "the connection is gone"):
        assert words in notices
    rig.provenance, rig.reason = Provenance.MEASURED, ""
    until_js(page, "document.querySelector('#badge-thermal').classList.contains('measured')")


@pytest.mark.parametrize("width", WIDTHS)
def test_everything_stays_in_its_card(rig: Rig, new_page: NewPage, tmp_path: Path, width: int) -> None:
    name_everything_long(rig)
    page = open_live(new_page(viewport={"width": width, "height": WIDTHS[width]}), rig)
    assert page.evaluate(STICKING_OUT) == []
    drift = {"shift_px": 8.9, "confidence": 0.9, "alarm": True}
    rig.monitor.set_registration({"drift": drift})
    rig.tell("drift", **drift)
    lose_thermal(rig)
    until_js(page, "document.querySelectorAll('#problem-list li').length === 4")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(STICKING_OUT) == []
        page.screenshot(path=tmp_path / f"long-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    rig.provenance, rig.reason = Provenance.HALLUCINATED, "returning"  # the longest badge
    until_js(page, "document.querySelector('#badge-fused').textContent.includes('steady')")
    assert page.evaluate(STICKING_OUT) == []


def test_an_absent_picture_carries_no_boxes(rig: Rig, new_page: NewPage) -> None:
    page = open_live(new_page(), rig)
    assert not page.evaluate(EMPTY)
    lose_thermal(rig)
    until_js(page, "document.querySelector('#badge-thermal').classList.contains('absent')")
    until(lambda: page.evaluate(EMPTY))
    assert page.locator("#no-thermal").inner_text() == "no thermal image: camera lost"
    assert page.evaluate(PIXELS, "visible") != page.evaluate(PIXELS, "thermal")
    rig.provenance, rig.reason = Provenance.MEASURED, ""
    until(lambda: not page.evaluate(EMPTY))
    assert page.locator("#no-thermal").is_hidden()


def test_a_thermal_image_that_no_engine_uses_is_told(rig: Rig, new_page: NewPage) -> None:
    page = open_live(new_page(), rig)
    rig.freeze()
    rig.step(thermal_provenance=Provenance.ABSENT, rung=1, rung_reason="returning")  # the image itself is there
    until_js(page, "document.querySelector('#badge-thermal').classList.contains('absent')")
    words = page.locator("#badge-thermal").text_content()
    assert words == "✕ absent (image not used: waits until it is steady again)"
    assert page.locator("#no-thermal").is_hidden()
    assert not page.evaluate(EMPTY)


def test_what_is_wrong_and_since_when(rig: Rig, new_page: NewPage) -> None:
    page = open_live(new_page(), rig)
    assert page.locator("#problems").is_hidden()
    lose_thermal(rig)
    until_js(page, "document.querySelectorAll('#problem-list li').length === 2")
    camera, engine = page.locator("#problem-list li").all_inner_texts()
    assert camera.startswith("✕ thermal camera cam1: no image")
    assert "the connection has ended [MDR-405]" in camera
    assert "engine visible-only runs instead of student" in engine
    assert "thermal camera lost" in engine
    since = page.locator("#problem-list .since").first.inner_text()
    told = page.locator("#notices time").first.get_attribute("datetime")
    assert since.startswith("since ")
    assert abs(time.time() - datetime.fromisoformat(told.replace("Z", "+00:00")).timestamp()) < 60
    page.wait_for_timeout(2000)
    later = page.locator("#problem-list .since").first.inner_text()
    assert later.split(" (")[0] == since.split(" (")[0]  # the clock time stays, the age goes on
    assert later != since
    rig.provenance, rig.reason = Provenance.MEASURED, ""
    rig.state(Modality.THERMAL, SourceState.LIVE)
    rig.monitor.set_rung(0, "")
    until(lambda: page.locator("#problems").is_hidden())


def test_alarms_do_not_wash_away_notices(rig: Rig, new_page: NewPage) -> None:
    page = open_live(new_page(), rig)
    before = page.locator("#notices li").count()
    event = TrackEvent("enter", 1, "person", 0.8, (8, 8, 40, 60), time.monotonic_ns(), "track", alarm=True)
    rig.freeze()
    rig.step(events=(event,) * 90)
    until_js(page, "document.querySelectorAll('#alarms li').length === 90")
    assert page.locator("#notices li").count() == before


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
    assert page.locator("#rig-state").inner_text() == "? state unknown"
    assert "nothing is known since" in page.locator("#as-of").inner_text()
    assert page.evaluate("getComputedStyle(document.querySelector('#badge-thermal')).opacity") == "0"
    age = page.locator("#notices [data-wall]").first.inner_text()
    until(lambda: page.locator("#notices [data-wall]").first.inner_text() != age)  # ages run on
    page.screenshot(path=tmp_path / "lost.png")
    with serving(port=port) as again:  # mdrun is back
        again.run(8)
        page.wait_for_selector("#liveness.live")
        until(lambda: page.evaluate(COVER) == "0")
        until_js(page, "document.querySelector('#as-of').hidden")
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
    unknown = {"parallax_px": {"2": None, "5": None}, "drift": {"shift_px": None, "confidence": 0.1, "alarm": False}}
    rig.monitor.set_registration(unknown)
    page = open_live(new_page(viewport={"width": 1280, "height": 1400}), rig)
    page.click("#tab-registration")
    until_js(page, "document.querySelector('#held').textContent.includes('held')")
    assert page.locator("#fit").is_disabled()
    assert "0.8" in page.locator("#current").inner_text()
    assert "null" not in page.locator("#current").inner_text()  # of what is not known nothing is said
    assert "shift" not in page.locator("#current").inner_text()
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
    until_js(page, "document.querySelector('#current').textContent.includes('points')")  # in use now, and shown
    rig.monitor.set_registration({"method": "scene"})  # somebody else saves another one
    rig.tell("registration", file="gate.yaml", mapping="homography", residual_px=0.423)
    until_js(page, "document.querySelector('#current').textContent.includes('scene')")
    words = "gate.yaml is in use: homography, median error 0.42 px"
    until_js(page, f"document.querySelector('#notices').textContent.includes('{words}')")
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
    assert page.locator("#pairs td:nth-child(2)").inner_text() == "330, 255"
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
    until_js(page, "document.querySelector('#held').textContent.includes('held')")
    pick(page)
    page.click("#fit")
    until_js(page, "document.querySelector('#fit-result').textContent.includes('Median error')")
    page.evaluate("""() => document.querySelectorAll('#pairs tr').forEach(row =>
        ['88', '1275, 1019', '127.5, 101.9', '12.34', 'does not fit'].forEach((text, i) => {
            row.cells[i].textContent = text;
        }))""")
    page.screenshot(path=tmp_path / "phone-pairs.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate(STICKING_OUT) == []  # also with the numbers of a large camera
    edge = "e => e.getBoundingClientRect().right - e.closest('.scroll').getBoundingClientRect().right"
    assert page.evaluate(f"[...document.querySelectorAll('#pairs button')].every(e => ({edge})(e) <= 0)")  # at hand


def test_the_areas_of_a_segment_engine_are_what_it_has_found(
    rig: Rig, new_page: NewPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros((VISIBLE_WH[1], VISIBLE_WH[0]), np.uint8)
    labels[:, : VISIBLE_WH[0] // 4] = 2
    seen, found = rig.result, Segmentation(labels)
    changes: dict[str, Any] = {"task": "segment", "detections": None, "track_ids": None, "segmentation": found}
    monkeypatch.setattr(rig, "result", lambda: replace(seen(), **changes))
    page = open_live(new_page(), rig)
    until_js(page, "document.querySelector('#results').textContent.includes('car 25 %')")


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
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"skip", "tab-live", "snapshot", "enlarge", "opacity", "notices", "alarms"} <= set(reached)


def test_several_rigs_can_be_chosen(rig: Rig, new_page: NewPage) -> None:
    with serving("yard", port=int(rig.url.rpartition(":")[2])) as other:
        other.provenance, other.reason = Provenance.ABSENT, "no_thermal"
        other.run(8)
        page = open_live(new_page(), rig)
        other.monitor.set_rung(1, "thermal_no_thermal")
        page.wait_for_selector("#others a.degraded")  # seen from the other rig's page
        assert page.locator("#others").inner_text() == "◐ yard degraded"
        page.select_option("#rig", "yard")
        until_js(page, "document.querySelector('#badge-fused').textContent.includes('absent')")
        assert page.url.endswith("#yard")
    page.wait_for_selector("#liveness.stale")  # a rig that is gone is not replaced by another
    until_js(page, "document.querySelectorAll('#rig option').length === 1")
    assert page.evaluate(COVER) == "1"
    assert page.locator("#liveness.live").count() == 0
    assert "mdrun has no rig yard any more" in page.locator("#banner").inner_text()
    until_js(page, "document.body.classList.contains('no-contact')")  # its numbers stand still
    page.close()
    page.complaints.clear()  # of the answers 404
