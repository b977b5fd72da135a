"""The live page: who may ask and change what, registration by points, ports and how it ends."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.error
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdrun.errors import SinkError, UsageError
from mdrun.registration import Registration
from mdrun.sinks.base import Overflow
from mdrun.sinks.uri import parse_output
from mdrun.web import app, guard
from mdrun.web.address import WebAddress
from mdrun.web.sink import WebSink
from tests.runtime.web_client import ask, stream
from tests.runtime.web_rig import THERMAL_WH, TRUE_MATRIX, VISIBLE_WH, Rig, serving, street

STATIC = Path(app.__file__).parent / "static"
TOKEN = "correct horse battery staple"  # noqa: S105  # of the tests
ANY = "0.0.0.0"  # noqa: S104  # what the warning is about


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    street()
    with serving(token=TOKEN, fps=30) as found:
        found.step()
        yield found


def test_page_is_whole_and_asks_nobody_else(rig: Rig) -> None:
    page = ask(rig.url)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert {path.name for path in STATIC.iterdir()} == set(app.STATIC)
    for name in app.STATIC:
        answer = ask(f"{rig.url}/{name}")
        assert (answer.status, answer.body) == (200, (STATIC / name).read_bytes())
        addresses = set(re.findall(rb"https?://[^\s\"']+", answer.body))
        assert addresses <= {b"http://www.w3.org/2000/svg"}  # the name of a language, nothing that is fetched
    wanted = set(re.findall(r'(?:src|href)="([\w.]+)"', page.body.decode()))
    assert wanted <= set(app.STATIC)


def test_page_is_small() -> None:
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 80_000


@pytest.mark.parametrize("path", ["/", "/api/rigs", "/api/gate/visible.jpg", "/nothing", "/api/none/status"])
def test_every_answer_is_guarded(rig: Rig, path: str) -> None:
    headers = ask(rig.url + path, Origin="http://evil.example").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1234", 200),
        ("[::1]:80", 200),
        ("localhost", 200),
        ("192.168.1.7:8080", 200),  # an address is no name that could be bound to another one
        (socket.gethostname(), 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
def test_foreign_names_are_refused(rig: Rig, host: str, status: int) -> None:
    answer = ask(f"{rig.url}/api/rigs", Host=host)
    assert answer.status == status
    assert status == 200 or answer.json["code"] == "MDR-200"


@pytest.mark.parametrize("path", ["/nothing", "/api/none/status", "/api/gate/nothing", "/api/gate/none.jpg"])
def test_every_error_is_json_with_a_code(rig: Rig, path: str) -> None:
    answer = ask(rig.url + path)
    assert answer.status in {400, 404}
    assert answer.json["code"] == "MDR-200"
    assert "\n" not in answer.json["error"]


def test_names_of_a_proxy_are_welcome() -> None:
    with serving(names=("cameras.example",)) as rig:
        assert ask(f"{rig.url}/api/rigs", Host="Cameras.example:443").status == 200


@given(st.text(st.characters(max_codepoint=0x2FF), max_size=40))
def test_any_host_header_has_a_name(header: str) -> None:
    host = guard.host_name(header)
    assert host == host.lower()
    assert not guard.is_ip(host) or host.strip("0123456789.:abcdef%") == "" or "%" in host


def pairs(noise_px: float = 0.0) -> list[list[float]]:
    """Points of a grid in the raw thermal image, and where the true matrix puts them."""
    rng = np.random.default_rng(3)
    thermal = np.array([[x, y] for x in (20, 60, 100, 140) for y in (20, 64, 108)], float)
    ends = np.column_stack([thermal, np.ones(len(thermal))]) @ TRUE_MATRIX.T
    thermal += rng.normal(0, noise_px, thermal.shape)
    rows: list[list[float]] = np.column_stack([ends[:, :2] / ends[:, 2:], thermal]).round(2).tolist()
    return rows


def fit_url(rig: Rig, points: Any) -> str:
    return f"{rig.url}/api/gate/registration/fit?points={urllib.parse.quote(json.dumps(points))}"


def test_fit_finds_the_true_matrix_and_its_error(rig: Rig) -> None:
    exact = ask(fit_url(rig, pairs())).json
    corners = np.array([[0.5, 0.5, 1], [160.5, 128.5, 1]])  # the page counts from the corner of the first pixel
    found = corners @ np.array(exact["matrix"]).T
    wanted = (corners - [0.5, 0.5, 0]) @ TRUE_MATRIX.T + [0.5, 0.5, 0]
    np.testing.assert_allclose(found[:, :2] / found[:, 2:], wanted[:, :2], atol=0.1)
    assert exact["registration"]["residual_px"] < 0.05
    noisy = ask(fit_url(rig, pairs(1.0))).json
    assert 0.3 < noisy["registration"]["residual_px"] < 4
    assert len(noisy["residuals_px"]) == len(noisy["inliers"]) == 12
    assert rig.saved == []  # looking changes nothing


@settings(max_examples=25)
@given(
    st.one_of(
        st.text(max_size=30),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=5)
        ).map(json.dumps),
    )
)
def test_any_points_get_an_answer_in_one_line(rig: Rig, text: str) -> None:
    answer = ask(f"{rig.url}/api/gate/registration/fit?points={urllib.parse.quote(text)}")
    assert answer.status == 400
    assert "\n" not in answer.json["error"]
    assert answer.json["code"].startswith("MDR-2")


def test_saving_wants_the_token(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "GUESS_S", 0.0)
    monkeypatch.chdir(tmp_path)
    url, data = f"{rig.url}/api/gate/registration", {"points": pairs(0.2)}
    assert ask(url).json["savable"] is True
    assert ask(f"{rig.url}/api/gate/status").status == 200  # which is kept for a moment
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
    ):
        refused = ask(url, "POST", data, **headers)
        assert (refused.status, TOKEN in refused.body.decode()) == (403, False)
        assert refused.json["code"] == "MDR-200"
    assert (rig.saved, list(tmp_path.iterdir())) == ([], [])
    saved = ask(url, "POST", data, Authorization=f"Bearer {TOKEN}")
    assert saved.status == 200
    (path,) = rig.saved
    assert path == Path(saved.json["saved"])
    loaded = Registration.load(tmp_path / path)
    assert (loaded.visible_size, loaded.thermal_size) == (VISIBLE_WH, THERMAL_WH)
    assert loaded.residual_px == pytest.approx(saved.json["registration"]["residual_px"], abs=0.01)
    assert ask(url).json["current"]["method"] == "points"  # at once: the page asks no second time
    too_long = ask(url, "POST", b"[" * (app.MOST_BODY + 1), Authorization=f"Bearer {TOKEN}")
    assert too_long.status == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/api/gate/registration", "/api/rigs", "/metrics", "/api/none/registration"])
def test_without_a_token_nothing_can_be_changed(method: str, path: str) -> None:
    with serving() as rig:
        rig.step()
        answer = ask(rig.url + path, method, {"points": pairs()}, Authorization="Bearer ")
        assert answer.status == 403
        assert "read-only" in answer.json["error"]
        assert ask(f"{rig.url}/api/gate/registration").json["savable"] is False


def test_rigs_of_one_address_share_a_page() -> None:
    with serving("gate") as first:
        port = int(first.url.rpartition(":")[2])
        with serving("yard", port=port) as second:
            second.step()
            assert [entry["rig"] for entry in ask(f"{first.url}/api/rigs").json] == ["gate", "yard"]
            assert ask(f"{first.url}/api/yard/frame").status == 200
            with pytest.raises(SinkError, match="names that differ"):
                Rig(WebAddress(port=port), "yard")
        assert [entry["rig"] for entry in ask(f"{first.url}/api/rigs").json] == ["gate"]
    with pytest.raises(urllib.error.URLError):
        ask(first.url)
    with serving("gate", port=port) as again:  # the port is free for the next run
        assert ask(again.url).status == 200


def test_each_rig_has_its_own_token() -> None:
    with serving("gate", token=TOKEN) as first:
        port = int(first.url.rpartition(":")[2])
        with serving("yard", port=port, token=TOKEN[::-1]) as second:
            second.step()
            url = f"{first.url}/api/yard/registration"
            assert ask(url, "POST", {"points": []}, Authorization=f"Bearer {TOKEN}").status == 403
            assert ask(url, "POST", {"points": []}, Authorization=f"Bearer {TOKEN[::-1]}").status == 400


def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SinkError, match=f"http://127.0.0.1:{port}: cannot listen there") as error:
            Rig(WebAddress(port=port))
    assert "\n" not in str(error.value)
    with pytest.raises(SinkError):
        Rig(WebAddress("203.0.113.1", 0))  # TEST-NET-3: nobody's address
    with pytest.raises(SinkError, match="no such host"):
        Rig(WebAddress("no.such.host.invalid", 0))


def test_it_ends_in_time_although_people_look() -> None:
    with serving() as rig:
        rig.run(20)
        streams = [stream(f"{rig.url}/api/gate/{path}") for path in ("fused.mjpeg", "events")]
        for reply in streams:
            reply.read(100)
        rig.freeze()
        began = time.monotonic()
        rig.sink.finish()
        assert time.monotonic() - began < 2
        rig.sink.abandon()  # nothing left to do
        for reply in streams:
            reply.close()


def test_an_open_page_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(host=ANY) as rig:
        assert ask(f"http://127.0.0.1:{rig.url.rpartition(':')[2]}/api/rigs").status == 200
    assert "warning" in capsys.readouterr().err
    with serving(host=ANY, token=TOKEN), serving(host="127.0.0.1"):
        pass
    assert capsys.readouterr().err == ""


def test_address_takes_the_options_of_the_output() -> None:
    text = "http://10.0.0.5:9090?token=s3cret&fps=5&width=640&quality=70&names=a.example,B.example&calibrations=rigs"
    address = WebAddress.from_uri(parse_output(text))
    assert address == WebAddress("10.0.0.5", 9090, "s3cret", 5, 640, 70, ("a.example", "b.example"), Path("rigs"))
    assert "s3cret" not in repr(address) + address.url()
    assert WebAddress.from_uri(parse_output("http://127.0.0.1")) == WebAddress()
    assert [WebAddress(host).loopback for host in ("localhost", "127.3.2.1", "::1", ANY, "example")] == [True] * 3 + [
        False
    ] * 2
    assert WebAddress("::1", 80).url() == "http://[::1]:80"
    with pytest.raises(UsageError, match="fps is 'fast'"):
        WebAddress.from_uri(parse_output("http://127.0.0.1?fps=fast"))


def test_the_sink_shows_the_present(rig: Rig) -> None:
    assert (WebSink.vital, WebSink.overflow) == (False, Overflow.KEEP_LATEST)
    assert TOKEN not in rig.sink.name
