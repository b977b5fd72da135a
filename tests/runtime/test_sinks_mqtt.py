"""The MQTT sink against a real mosquitto."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mdrun.frames import Modality, Notice, SourceState, StateChange
from mdrun.sinks import dispatch, mqtt
from mdrun.sinks.context import SinkContext
from mdrun.sinks.dispatch import Dispatch
from mdrun.sinks.mqtt import MqttSink
from mdrun.sinks.uri import parse_output
from mdrun.sources.uri import redact
from tests.broker import PATIENCE_S, Broker, Listener, Wire, running_broker, wait_for
from tests.runtime.live import TRACK_END, make_context, make_event, make_live, make_track_end

TOPIC = "mdrun/gate"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "RECONNECT_S", (1, 1))
    monkeypatch.setattr(dispatch, "TICK_S", 0.05)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as started:
        yield started


@contextmanager
def running(address: str, context: SinkContext) -> Iterator[tuple[MqttSink, Dispatch]]:
    """The sink behind a dispatch, as in a run."""
    sink = MqttSink(parse_output(address), context, Path())
    made = Dispatch([sink], context.monitor)
    made.start()
    try:
        yield sink, made
    finally:
        made.finish()


@contextmanager
def listening(broker: Broker) -> Iterator[Listener]:
    listener = Listener(broker)
    try:
        yield listener
    finally:
        listener.close()


def _connected(sink: MqttSink) -> None:
    wait_for(lambda: sink.connected, "the broker")


def test_availability_and_states_are_retained(broker: Broker) -> None:
    context = make_context()
    with running(f"mqtt://127.0.0.1:{broker.port}", context):
        with listening(broker) as first:
            first.wait(f"{TOPIC}/status/pair")
        with listening(broker) as late:  # comes when everything has been said
            assert late.wait(f"{TOPIC}/available") == ["online"]
            late.wait(f"{TOPIC}/status/visible")
            late.wait(f"{TOPIC}/status/thermal")
            late.wait(f"{TOPIC}/status/pair")
            assert all(retained for _, _, retained in late.messages)
            visible, pair = late.objects(f"{TOPIC}/status/visible")[0], late.objects(f"{TOPIC}/status/pair")[0]
        after = Listener(broker)
    assert (visible["name"], visible["state"]) == ("cam0", "live")
    assert (pair["engine"], pair["rung"]) == ("blob", 0)
    wait_for(lambda: after.payloads(f"{TOPIC}/available")[-1:] == ["offline"], "the goodbye")
    after.close()
    assert context.monitor.sinks[f"mqtt://127.0.0.1:{broker.port}"].alive  # a farewell is no loss


def test_states_are_told_on_change_and_from_time_to_time(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context()
    with listening(broker) as listener, running(f"mqtt://127.0.0.1:{broker.port}/site/a", context) as (_, made):
        listener.wait("site/a/gate/status/thermal")
        change = StateChange(Modality.THERMAL, "cam1", SourceState.LOST, 0, "MDR-405", "the camera is gone")
        context.monitor.add_state(change)
        made.notify(Notice("source", "gate", 5, {"source": "cam1", "state": "lost"}))
        listener.wait("site/a/gate/status/thermal", 2)
        told = listener.objects("site/a/gate/status/thermal")[-1]
        assert (told["state"], told["code"], told["message"]) == ("lost", "MDR-405", "the camera is gone")
        assert len(listener.payloads("site/a/gate/status/visible")) == 1  # nothing changed there
        made.notify(make_track_end())
        listener.wait("site/a/gate/events")
        assert listener.objects("site/a/gate/events") == [TRACK_END]
        notice = listener.objects("site/a/gate/notices")[-1]
        assert notice["kind"] == "source"
        assert (notice["rig"], notice["state"], notice["at_ns"]) == ("gate", "lost", 5)
        monkeypatch.setattr(mqtt, "STATUS_S", 0.0)
        listener.wait("site/a/gate/status/visible", 2)


@pytest.mark.parametrize(("query", "results"), [("", []), ("?results=events", [3]), ("?results=all&qos=2", [1, 2, 3])])
def test_events_always_and_results_on_request(broker: Broker, query: str, results: list[int]) -> None:
    context = make_context()
    with listening(broker) as listener:
        with running(f"mqtt://127.0.0.1:{broker.port}{query}", context) as (sink, made):
            _connected(sink)
            for sequence in (1, 2, 3):
                made.offer(make_live(sequence, events=(make_event(),) if sequence == 3 else ()))
            listener.wait(f"{TOPIC}/events")
        listener.wait(f"{TOPIC}/results", len(results))
        wait_for(lambda: "offline" in listener.payloads(f"{TOPIC}/available"), "the goodbye")
    event = listener.objects(f"{TOPIC}/events")
    assert [(one["kind"], one["place"], one["sequence"], one["rig"]) for one in event] == [("enter", "yard", 3, "gate")]
    assert [line["sequence"] for line in listener.objects(f"{TOPIC}/results")] == results


@pytest.mark.parametrize("qos", [1, 2])
def test_events_of_an_outage_arrive_once(broker: Broker, qos: int) -> None:
    """With QoS 1 only what the broker had acknowledged before the cut: else it comes again, under the same id."""
    context = make_context()
    wire = Wire(broker)
    name = f"mqtt://127.0.0.1:{wire.port}"
    try:
        with listening(broker) as listener, running(f"{name}?qos={qos}", context) as (sink, made):
            _connected(sink)
            made.offer(make_live(0, events=(make_event(0),)))
            listener.wait(f"{TOPIC}/events")
            if qos == 1:
                wait_for(lambda: sink.waiting == 0, "the acknowledgement")
            wire.cut()
            wait_for(lambda: not context.monitor.sinks[name].alive, "the loss")
            assert "connection lost" in context.monitor.sinks[name].message
            listener.wait(f"{TOPIC}/available", 2)
            for sequence in range(1, 6):
                made.offer(make_live(sequence, events=(make_event(sequence),)))
            wait_for(lambda: sink.waiting == 5, "five events")
            wire.mend()
            listener.wait(f"{TOPIC}/available", 3)
            made.offer(make_live(6, events=(make_event(6),)))
            listener.wait(f"{TOPIC}/events", 7)
        wait_for(lambda: len(listener.payloads(f"{TOPIC}/available")) == 4, "the goodbye")
    finally:
        wire.cut()
    assert sorted(event["track_id"] for event in listener.objects(f"{TOPIC}/events")) == list(range(7))
    assert listener.payloads(f"{TOPIC}/available") == ["online", "offline", "online", "offline"]
    status = context.monitor.sinks[name]
    assert (status.dropped, status.errors, status.written) == (0, 0, 7)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("restart", [False, True])
def test_a_long_outage_comes_in_portions_that_a_broker_takes(broker: Broker, qos: int, restart: bool) -> None:
    """Of QoS 2 Mosquitto takes 20 messages at a time, and drops further ones while it says that it has them."""
    context = make_context()
    wire = Wire(broker)
    name = f"mqtt://127.0.0.1:{wire.port}"
    try:
        with running(f"{name}?qos={qos}", context) as (sink, made):
            _connected(sink)
            wait_for(lambda: sink.waiting == 0, "the first states")
            wire.cut()
            wait_for(lambda: not context.monitor.sinks[name].alive, "the loss")
            for sequence in range(60):
                made.offer(make_live(sequence, events=(make_event(sequence),)))
                wait_for(lambda n=sequence: sink.waiting == n + 1, "the event")  # type: ignore[misc]  # bound now
            if restart:
                broker.stop()  # with the session
                broker.start()
            with listening(broker) as listener:  # before the sink is back: nobody keeps anything for whoever is away
                wire.mend()
                listener.wait(f"{TOPIC}/events", 60)
                wait_for(lambda: sink.waiting == 0, "the acknowledgements")
                made.offer(make_live(60, events=(make_event(60),)))
                listener.wait(f"{TOPIC}/events", 61)
                wait_for(lambda: sink.waiting == 0, "the acknowledgement")
    finally:
        wire.cut()
    assert [event["track_id"] for event in listener.objects(f"{TOPIC}/events")] == list(range(61))
    status = context.monitor.sinks[name]
    assert (status.written, status.dropped, status.errors, status.lost) == (61, 0, 0, 0)


@pytest.mark.parametrize("restart", [False, True])
def test_what_the_broker_may_have_passed_on_and_forgotten_is_lost(broker: Broker, restart: bool) -> None:
    """The broker has the message but not the word to pass it on; to that word alone it would say that it is done."""
    wire = Wire(broker)
    sink = MqttSink(parse_output(f"mqtt://127.0.0.1:{wire.port}?qos=2"), make_context(), Path())
    sink.start()
    try:
        _connected(sink)
        sink.tick()
        wait_for(lambda: sink.waiting == 0, "the first states")
        wire.swallow = b"\x62\x02"  # PUBREL
        sink.write(make_live(0, events=(make_event(0),)))
        assert wire.swallowed.wait(PATIENCE_S)
        wire.cut()
        wait_for(lambda: sink.problem, "the loss")
        wire.swallow = None
        if restart:
            broker.stop()  # with the session
            broker.start()
        with listening(broker) as listener:
            wire.mend()
            sink.write(make_live(1, events=(make_event(1),)))
            listener.wait(f"{TOPIC}/events", 1 if restart else 2)
            wait_for(lambda: sink.waiting == 0, "the acknowledgements")
            sink.finish()
            wait_for(lambda: listener.payloads(f"{TOPIC}/available")[-1:] == ["offline"], "the goodbye")
    finally:
        sink.abandon()
        wire.cut()
    assert [event["track_id"] for event in listener.objects(f"{TOPIC}/events")] == ([1] if restart else [0, 1])
    assert (sink.delivered, sink.given_up, sink.lost) == ((1, 1, 1) if restart else (2, 0, 0))


@pytest.mark.parametrize("query", ["", "?queue=2", "?qos=2", "?qos=0", "?results=all"])
@pytest.mark.parametrize("ends", ["dead", "frozen"])
def test_what_is_not_acknowledged_at_the_end_is_lost(broker: Broker, query: str, ends: str) -> None:
    """Results that bring nothing are none for this sink; of a broker that hangs, QoS 0 asks for no word."""
    context = make_context()
    name = f"mqtt://127.0.0.1:{broker.port}"
    if ends == "dead":
        broker.stop()
    with running(f"{name}{query}", context) as (sink, made):
        if ends == "frozen":
            _connected(sink)
            wait_for(lambda: sink.waiting == 0, "the first states")
            broker.freeze()
        for sequence in range(6):
            made.offer(make_live(sequence, events=(make_event(sequence),) if sequence % 2 else ()))
        made.notify(make_track_end())
    wanted = 6 if query == "?results=all" else 3
    status = context.monitor.sinks[name]
    assert status.written + status.dropped + status.errors == wanted
    assert status.errors == 0
    if ends == "dead":
        assert (status.written, status.lost) == (0, 4)  # the events; a result's own line is a dropped result
    elif query == "?qos=0":
        assert (status.written, status.lost) == (3, 0)
    else:
        assert status.written == (3 if query == "?results=all" else 0)  # those without an event, of QoS 0
        assert status.lost >= 4  # states that changed go along


def test_a_restart_loses_results_and_no_events(broker: Broker) -> None:
    """The lines of results are of QoS 0: those of the outage are dropped results, and nothing else."""
    context = make_context()
    name = f"mqtt://127.0.0.1:{broker.port}"
    with running(f"{name}?results=all", context) as (sink, made):
        _connected(sink)
        wait_for(lambda: sink.waiting == 0, "the first states")
        broker.stop()
        wait_for(lambda: not context.monitor.sinks[name].alive, "the loss")
        for sequence in range(4):
            made.offer(make_live(sequence, events=(make_event(),) if sequence == 0 else ()))
        wait_for(lambda: sink.given_up == 3 and sink.waiting == 1, "the event that waits")
        broker.start()
        wait_for(lambda: sink.waiting == 0 and context.monitor.sinks[name].alive, "the acknowledgements")
    status = context.monitor.sinks[name]
    assert (status.written, status.dropped, status.errors, status.lost) == (0, 4, 0, 0)


def test_at_the_end_retained_states_have_the_counts_of_the_whole_run(broker: Broker) -> None:
    context = make_context()
    with listening(broker) as listener:
        with running(f"mqtt://127.0.0.1:{broker.port}", context) as (sink, _):
            listener.wait(f"{TOPIC}/status/pair")
            wait_for(lambda: sink.waiting == 0, "the first states")
            context.monitor.results = 335
        wait_for(lambda: listener.payloads(f"{TOPIC}/available")[-1:] == ["offline"], "the goodbye")
        topics = [topic for topic, _, _ in listener.messages]
    assert topics[-1] == f"{TOPIC}/available"
    assert {topics.count(f"{TOPIC}/status/{part}") for part in ("visible", "thermal", "pair")} == {2}
    with listening(broker) as late:
        late.wait(f"{TOPIC}/status/pair")
        assert late.objects(f"{TOPIC}/status/pair")[0]["results"] == 335


def test_a_broker_that_acknowledges_nothing_is_a_problem(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "SILENT_S", 0.5)
    context = make_context()
    wire = Wire(broker)
    name = f"mqtt://127.0.0.1:{wire.port}"
    try:
        with running(name, context) as (sink, made):
            _connected(sink)
            wait_for(lambda: sink.waiting == 0, "the first states")
            time.sleep(0.6)  # nothing is to be acknowledged: that is no silence
            wire.swallow = b"\x32"  # PUBLISH of QoS 1
            made.offer(make_live(0, events=(make_event(0),)))
            wait_for(lambda: not context.monitor.sinks[name].alive, "the problem")
            assert context.monitor.sinks[name].message == mqtt.SILENT
            assert sink.connected
            wire.swallow = None
            made.offer(make_live(1, events=(make_event(1),)))
            wait_for(lambda: context.monitor.sinks[name].alive, "the acknowledgement")
    finally:
        wire.cut()


def test_a_client_that_fails_is_told_once(broker: Broker) -> None:
    context = make_context()
    sink = MqttSink(parse_output(f"mqtt://127.0.0.1:{broker.port}"), context, Path())

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    sink._client.on_connect = fail
    notices: list[Notice] = []
    made = Dispatch([sink], context.monitor, on_notice=notices.append)
    made.start()
    try:
        wait_for(lambda: "RuntimeError: broken" in context.monitor.sinks[sink.name].message, "the message")
        made.offer(make_live(0, events=(make_event(0),)))
        wait_for(lambda: sink.waiting == 1, "the event")
    finally:
        made.finish()
    assert [notice.data["alive"] for notice in notices] == [False]
    status = context.monitor.sinks[sink.name]
    assert (status.alive, status.dropped, status.lost) == (False, 1, 1)


def test_a_broker_that_was_restarted_knows_everything_again(broker: Broker) -> None:
    context = make_context()
    with running(f"mqtt://127.0.0.1:{broker.port}", context) as (sink, _):
        _connected(sink)
        broker.stop()  # with everything that it retained
        wait_for(lambda: not all(sink.alive for sink in context.monitor.sinks.values()), "the loss")
        broker.start()
        with listening(broker) as listener:
            assert listener.wait(f"{TOPIC}/available")[-1] == "online"
            for part in ("visible", "thermal", "pair"):
                listener.wait(f"{TOPIC}/status/{part}")


def test_an_outage_keeps_a_bounded_number_of_messages(broker: Broker) -> None:
    wire = Wire(broker)
    wire.cut()  # not there at the start, which is no end
    context = make_context()
    name = f"mqtt://127.0.0.1:{wire.port}"
    try:
        with listening(broker) as listener, running(f"{name}?queue=5", context) as (sink, made):
            wait_for(
                lambda: "no connection to the broker (Connection refused)" in context.monitor.sinks[name].message,
                "the message",
            )
            for sequence in range(8):
                made.offer(make_live(sequence, events=(make_event(sequence),)))
                wait_for(lambda n=sequence: sink.waiting + sink.lost == n + 1, "the write")  # type: ignore[misc]  # bound now
            wait_for(lambda: context.monitor.sinks[name].lost == 3, "the lost messages")
            assert (context.monitor.sinks[name].written, context.monitor.sinks[name].dropped) == (0, 3)
            wire.mend()
            listener.wait(f"{TOPIC}/events", 5)
            listener.wait(f"{TOPIC}/available")  # a full queue does not hold it up
            wait_for(lambda: sink.waiting == 0, "the acknowledgements")
            made.offer(make_live(8, events=(make_event(8),)))  # there is room again
            listener.wait(f"{TOPIC}/events", 6)
    finally:
        wire.cut()
    assert [event["track_id"] for event in listener.objects(f"{TOPIC}/events")] == [0, 1, 2, 3, 4, 8]


def test_what_a_frozen_broker_never_read_takes_no_place_for_ever(broker: Broker) -> None:
    """Messages of QoS 0 are gone with their connection, and nobody acknowledges them."""
    context = make_context()
    name = f"mqtt://127.0.0.1:{broker.port}"
    with running(name, context) as (sink, made):
        _connected(sink)
        wait_for(lambda: sink.waiting == 0, "the first states")
        broker.freeze()
        for _ in range(10):
            sink._publish("notices", {"x": "x" * 2_000_000}, qos=0)  # more than the sockets hold
        assert sink.waiting
        broker.stop()
        wait_for(lambda: not context.monitor.sinks[name].alive, "the loss")
        assert sink.lost
        broker.start()
        with listening(broker) as listener:
            listener.wait(f"{TOPIC}/available")
            wait_for(lambda: sink.waiting == 0, "free places")
            made.offer(make_live(0, events=(make_event(0),)))
            listener.wait(f"{TOPIC}/events")


def test_a_wrong_password_is_one_clear_line(tmp_path: Path) -> None:
    with running_broker(tmp_path, "rig", "right") as broker:
        context = make_context()
        name = f"mqtt://127.0.0.1:{broker.port}"
        with running(f"mqtt://rig:wrong-hunter2@127.0.0.1:{broker.port}", context):
            wait_for(lambda: "refuses" in context.monitor.sinks[name].message, "the refusal")
            status = context.monitor.sinks[name]
        assert status.message == (
            "the broker refuses the connection (Not authorized); check the user name and password in its address"
        )
        assert redact(status.message) == status.message  # the log makes no nonsense of it
        assert not status.alive
        assert "hunter2" not in json.dumps(context.monitor.snapshot())
        with running(f"mqtt://rig:right@127.0.0.1:{broker.port}", context) as (sink, _):
            _connected(sink)


def test_tls_checks_who_the_broker_is(tmp_path: Path) -> None:
    with running_broker(tmp_path, tls=True) as broker:
        context = make_context()
        name = f"mqtts://127.0.0.1:{broker.port}"
        with running(f"{name}?ca={broker.certificate}", context) as (sink, _):
            _connected(sink)
        with running(name, context) as (sink, _):
            wait_for(lambda: "certificate is not accepted" in context.monitor.sinks[name].message, "the refusal")
            assert "ca=FILE" in context.monitor.sinks[name].message


CHILD = """
import sys, time
from pathlib import Path
from mdrun.sinks.mqtt import MqttSink
from mdrun.sinks.uri import parse_output
from tests.runtime.live import make_context
sink = MqttSink(parse_output(sys.argv[1]), make_context(), Path())
sink.start()
while True:
    sink.tick()
    time.sleep(0.05)
"""


def test_the_last_will_arrives_when_the_process_is_killed(broker: Broker) -> None:
    with listening(broker) as listener:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, f"mqtt://127.0.0.1:{broker.port}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'runtime'}:{ROOT}"},
        )
        try:
            wait_for(lambda: "online" in listener.payloads(f"{TOPIC}/available"), "the rig", 60)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        listener.wait(f"{TOPIC}/available", 2)
    assert listener.payloads(f"{TOPIC}/available") == ["online", "offline"]
    with listening(broker) as late:
        assert late.wait(f"{TOPIC}/available") == ["offline"]  # retained


def test_a_sink_that_is_given_up_is_offline_too(broker: Broker) -> None:
    """As where another output of the same run cannot start."""
    made = MqttSink(parse_output(f"mqtt://127.0.0.1:{broker.port}"), make_context(), Path())
    with listening(broker) as listener:
        made.start()
        wait_for(lambda: listener.payloads(f"{TOPIC}/available") == ["online"], "the connection")
        made.abandon()
        wait_for(lambda: listener.payloads(f"{TOPIC}/available") == ["online", "offline"], "the goodbye")
        made.abandon()
    assert listener.payloads(f"{TOPIC}/available") == ["online", "offline"]


def test_the_end_is_quick_without_a_broker(tmp_path: Path) -> None:
    context = make_context()
    broker = Broker(tmp_path)
    with running(f"mqtt://127.0.0.1:{broker.port}", context) as (_, made):
        made.offer(make_live(0, events=(make_event(),)))
        began = time.monotonic()
        made.finish()
        assert time.monotonic() - began < 10  # it waits for a broker no longer than for any other sink
    assert context.monitor.sinks[f"mqtt://127.0.0.1:{broker.port}"].message != "did not end in time"
