"""The webhook sink against a real HTTP server: quick, slow, refusing, failing, away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mdrun.errors import OutputError, UsageError
from mdrun.frames import Notice, Result
from mdrun.sinks import dispatch, webhook
from mdrun.sinks.context import SinkContext
from mdrun.sinks.dispatch import Dispatch
from mdrun.sinks.uri import parse_output
from mdrun.sinks.webhook import WebhookSink, sign
from tests.broker import free_port, wait_for
from tests.runtime.live import TRACK_END, make_context, make_event, make_live, make_track_end


@dataclass
class Server:
    """What a test wants of the server, and what it got.

    Attributes:
        answers: status codes, used up one a request; then 204.
        gate: closed: requests hang until it opens.
        posts: (path, headers, body) of every request.
    """

    port: int = 0
    answers: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def items(self) -> list[dict[str, Any]]:
        """Items of all posts that were taken."""
        return [item for _, _, body in list(self.posts) for item in json.loads(body)["items"]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(webhook, "PAUSE_S", (0.02, 0.1))
    monkeypatch.setattr(dispatch, "TICK_S", 0.05)
    state = Server()
    state.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.posts.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
            state.gate.wait()
            code = state.answers.pop(0) if state.answers else 204
            self.send_response(code)
            if code in {301, 302}:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield state
    state.gate.set()
    http.shutdown()
    http.server_close()


@contextmanager
def running(address: str, context: SinkContext | None = None) -> Iterator[tuple[Dispatch, Callable[[], Any]]]:
    """The sink behind a dispatch, and its status."""
    context = context or make_context()
    sink = WebhookSink(parse_output(address), context, Path())
    made = Dispatch([sink], context.monitor)
    made.start()
    try:
        yield made, lambda: context.monitor.sinks[sink.name]
    finally:
        made.finish()


def _offer(made: Dispatch, *results: Result) -> None:
    """Offer results at the pace of the sink's own thread; the server may take its time."""
    worker = made._workers[0]
    for result in results:
        before = worker._status.written
        made.offer(result)
        wait_for(lambda n=before: worker._status.written == n + 1, "the write")  # type: ignore[misc]  # bound now


def _events(made: Dispatch, count: int, first: int = 0) -> None:
    """Offer results with one event each."""
    _offer(made, *(make_live(number, events=(make_event(number),)) for number in range(first, first + count)))


def test_events_are_posted_with_an_id_and_a_signature(server: Server) -> None:
    with running(f"webhook:http://127.0.0.1:{server.port}/hook/a?secret=s3cret%26&query.key=a%20b") as (made, _):
        made.offer(make_live(1))
        made.offer(make_live(2, events=(make_event(5), make_event(6, alarm=True))))
        wait_for(lambda: server.posts, "the post")
    path, headers, body = server.posts[0]
    told = json.loads(body)
    assert path == "/hook/a?key=a%20b"
    assert (told["schema_version"], told["rig"], told["id"]) == (1, "gate", headers["webhook-id"])
    assert [(item["type"], item["kind"], item["track_id"], item["alarm"]) for item in told["items"]] == [
        ("event", "enter", 5, False),
        ("event", "enter", 6, True),
    ]
    assert headers["content-type"] == "application/json"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(b"s3cret&", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300


def test_the_signature_is_that_of_the_standard() -> None:
    """Test vector of the reference libraries (standard-webhooks 1.0, python/tests)."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    assert sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@pytest.mark.parametrize(
    ("on", "wanted"),
    [
        ("alarms", ["event"]),
        ("events", ["event", "event", "notice", "event"]),
        ("results", ["result", "notice", "event"]),
    ],
)
def test_what_is_told(server: Server, on: str, wanted: list[str]) -> None:
    with running(f"webhook:http://127.0.0.1:{server.port}/?on={on}") as (made, status):
        made.offer(make_live(1, events=(make_event(1), make_event(2, alarm=True))))
        wait_for(lambda: status().written == 1, "the write")
        made.notify(Notice("ffc", "gate", 1, {"state": "running"}))
        made.notify(Notice("drift", "gate", 1, {"alarm": True}))  # an alarm, though none of a rule
        made.notify(make_track_end())
        wait_for(lambda: len(server.items) >= len(wanted), "the items")
    assert [item["type"] for item in server.items if item.get("kind") != "drift"] == wanted
    assert any(item == {"type": "event", **TRACK_END} for item in server.items) == (on != "alarms")


def test_results_go_in_batches(server: Server) -> None:
    with running(f"webhook:http://127.0.0.1:{server.port}/?on=results&every=200ms&batch=20") as (made, status):
        _offer(made, *(make_live(number) for number in range(30)))
        wait_for(lambda: status().written == 30, "all of them")
    assert [item["sequence"] for item in server.items] == list(range(30))
    assert {item["type"] for item in server.items} == {"result"}
    assert len(server.posts) < 30
    assert max(len(json.loads(body)["items"]) for _, _, body in server.posts) <= 20


@pytest.mark.parametrize("answers", [[500], [503, 502], [429]])
def test_a_server_that_fails_is_asked_again_under_the_same_id(server: Server, answers: list[int]) -> None:
    server.answers = list(answers)
    with running(f"webhook:http://127.0.0.1:{server.port}/") as (made, status):
        _events(made, 1)
        wait_for(lambda: len(server.posts) == len(answers) + 1, "the last attempt")
        wait_for(lambda: status().alive, "success")
        assert status().dropped == 0
    assert len({headers["webhook-id"] for _, headers, _ in server.posts}) == 1
    assert len({body for _, _, body in server.posts}) == 1


@pytest.mark.parametrize("code", [400, 401, 404, 410, 302])
def test_a_refusal_is_final(server: Server, code: int) -> None:
    server.answers = [code]
    with running(f"webhook:http://127.0.0.1:{server.port}/hook/hunter2") as (made, status):
        _events(made, 1)
        wait_for(lambda: status().dropped == 1, "the loss")
        wait_for(lambda: not status().alive, "the message")
        assert status().message.startswith(f"the server answers {code} ")
        assert "hunter2" not in status().message
        _events(made, 1, first=1)  # the next one is taken
        wait_for(lambda: status().alive, "success")
    assert len(server.posts) == 2


@pytest.mark.parametrize("address", ["?token=hunter2%0A", "?token=hunter2%E2%82%AC", "hunter2/ü"])
def test_what_no_header_can_carry_is_told_and_not_shown(
    server: Server, address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(f"webhook:http://127.0.0.1:{server.port}/{address}") as (made, status):
        for sequence in (1, 2):  # the thread lives on
            made.offer(make_live(sequence, events=(make_event(sequence),)))
            wait_for(lambda n=sequence: status().dropped == n, "the drop")  # type: ignore[misc]  # bound now
        assert not status().alive
        assert "cannot carry" in status().message
    assert "hunter2" not in status().message + capfd.readouterr().err


@pytest.mark.parametrize(("on", "wanted"), [("events", 20), ("alarms", 10), ("results", 30)])
@pytest.mark.parametrize("refuses", [True, False])
def test_results_that_are_wanted_were_delivered_or_dropped(server: Server, on: str, wanted: int, refuses: bool) -> None:
    """A result of several items counts once, and only where all of them were delivered; a notice is no result."""
    server.answers = [404] * 200 if refuses else [404]
    with running(f"webhook:http://127.0.0.1:{server.port}/?on={on}&batch=1&every=0s&queue=100") as (made, status):
        for number in range(30):
            events = (make_event(number), make_event(100 + number, alarm=number % 3 == 1))[: 2 * (number % 3)]
            result = make_live(number, events=events)
            made.offer(result)
            wait_for(lambda: made._workers[0].mail.ended or not made._workers[0].mail._results, "room")
        made.notify(Notice("ffc", "gate", 1, {"state": "running"}))
        expected = (0, wanted) if refuses else (wanted - 1, 1)
        wait_for(lambda: (status().written, status().dropped) == expected, "the count")
        wait_for(lambda: status().lost == (refuses and on != "alarms"), "the notice")
    assert (status().written, status().dropped, status().errors) == (*expected, 0)


def test_a_server_that_always_fails_gets_so_many_attempts(server: Server) -> None:
    server.answers = [500] * 10
    with running(f"webhook:http://127.0.0.1:{server.port}/?retries=2") as (made, status):
        _events(made, 1)
        wait_for(lambda: status().dropped == 1, "the loss")
    assert len(server.posts) == 3
    assert "given up" in status().message


def test_a_slow_server_holds_nothing_up(server: Server) -> None:
    server.gate.clear()
    with running(f"webhook:http://127.0.0.1:{server.port}/?queue=10&timeout=1m") as (made, status):
        _events(made, 1)
        wait_for(lambda: server.posts, "the first post")
        _events(made, 15, first=1)
        wait_for(lambda: status().dropped == 5, "the oldest of fifteen")  # the first one is under way
        assert status().written == 0
        server.gate.set()
        wait_for(lambda: status().written == 11, "the rest")
    assert [item["track_id"] for item in server.items] == [0, *range(6, 16)]
    assert len(server.posts) == 2


def test_the_end_does_not_wait_for_a_slow_server(server: Server) -> None:
    server.gate.clear()
    with running(f"webhook:http://127.0.0.1:{server.port}/?timeout=2m") as (made, status):
        _events(made, 1)
        wait_for(lambda: server.posts, "the post")
        _events(made, 2, first=1)
        began = time.monotonic()
        made.finish()
        assert time.monotonic() - began < 30  # and not the two minutes of the request
        assert (status().written, status().dropped) == (0, 3)
        server.gate.set()  # what the server takes after that belongs to no run
        wait_for(lambda: not any(thread.name.startswith("post-") for thread in threading.enumerate()), "its end")
        assert (status().written, status().dropped) == (0, 3)


def test_what_waits_at_the_end_is_still_posted(server: Server) -> None:
    with running(f"webhook:http://127.0.0.1:{server.port}/?every=1h") as (made, _):
        _events(made, 1)
        wait_for(lambda: server.posts, "the first post")
        _events(made, 3, first=1)
        assert len(server.posts) == 1
    assert [item["track_id"] for item in server.items] == [0, 1, 2, 3]


def test_a_server_that_is_away_comes_back(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    port = free_port()
    with running(f"webhook:http://127.0.0.1:{port}/?retries=100") as (made, status):
        _events(made, 1)
        wait_for(lambda: "not reached (Connection refused)" in status().message, "the message")
        http = ThreadingHTTPServer(("127.0.0.1", port), _taking(server))
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        wait_for(lambda: status().alive, "success")
        assert status().dropped == 0
        http.shutdown()
        http.server_close()
    assert len(server.posts) == 1


def _taking(state: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.posts.append((self.path, {}, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    return Handler


def test_a_server_that_says_nothing_times_out(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with running(f"webhook:http://127.0.0.1:{port}/?timeout=100ms&retries=0") as (made, status):
            _events(made, 1)
            wait_for(lambda: status().dropped == 1, "the loss")
        assert "no answer in time" in status().message


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("webhook:http://us%20er:p%3Aw@127.0.0.1:{port}/", "Basic " + base64.b64encode(b"us er:p:w").decode()),
        ("webhook:http://127.0.0.1:{port}/?token=abc%2B", "Bearer abc+"),
    ],
)
def test_credentials_go_into_the_header(server: Server, address: str, wanted: str) -> None:
    with running(address.format(port=server.port)) as (made, _):
        _events(made, 1)
        wait_for(lambda: server.posts, "the post")
    assert server.posts[0][1]["authorization"] == wanted


def test_what_can_never_work_is_told_before_the_run(tmp_path: Path) -> None:
    context = make_context()
    with pytest.raises(UsageError, match="whsec_"):
        WebhookSink(parse_output("webhook:https://host/?secret=whsec_no*base64"), context, tmp_path)
    with pytest.raises(OutputError, match=r"ca=missing\.pem cannot be read"):
        WebhookSink(parse_output("webhook:https://host/?ca=missing.pem"), context, tmp_path)
