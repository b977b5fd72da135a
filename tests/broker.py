"""A real mosquitto broker on a free port of the loopback, for tests."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 20.0  # a machine that does many other things


def free_port() -> int:
    """A TCP port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return once the condition holds; fails where it does not in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.01)


class Broker:
    """One mosquitto; it can be stopped and started again on the same port.

    Attributes:
        port: where it listens.
        certificate: of its own making, with `tls`.
    """

    def __init__(
        self, folder: Path, user: str | None = None, password: str | None = None, *, tls: bool = False
    ) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if program is None:
            pytest.skip("no mosquitto: apt-get install mosquitto")
        self.port = free_port()
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        self._process: subprocess.Popen[bytes] | None = None
        lines = [f"listener {self.port} 127.0.0.1", "persistence false", f"allow_anonymous {str(user is None).lower()}"]
        self.certificate = folder / "certificate.pem"
        if tls:
            key = _make_certificate(self.certificate)
            lines += [f"certfile {self.certificate}", f"keyfile {key}", "user root"]
        if user is not None:
            passwords = folder / "passwords"
            making = shutil.which("mosquitto_passwd")
            if making is None:
                pytest.skip("no mosquitto_passwd: apt-get install mosquitto")
            subprocess.run([making, "-b", "-c", str(passwords), user, password or ""], check=True, capture_output=True)
            passwords.chmod(0o644)  # mosquitto started by root reads it as another user
            lines.append(f"password_file {passwords}")
            lines.append("user root")
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._listens, "mosquitto")

    def freeze(self) -> None:
        """Let it hang: connections stay, and nothing is read from them."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """Kill it: nothing is said to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running_broker(
    folder: Path, user: str | None = None, password: str | None = None, *, tls: bool = False
) -> Iterator[Broker]:
    """A broker for one test; with a user, nobody else gets in."""
    broker = Broker(folder, user, password, tls=tls)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _make_certificate(path: Path) -> Path:
    """A certificate for the loopback that signs itself; returns its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl: apt-get install openssl")
    key = path.with_name("key.pem")
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return key


class Wire:
    """The network between a sink and a broker, which a test can cut while both stay up.

    Attributes:
        port: what the sink connects to.
        swallow: what the broker is sent and begins like this never arrives; None: all arrives.
        swallowed: something did not arrive.
    """

    def __init__(self, broker: Broker) -> None:
        self.swallow: bytes | None = None
        self.swallowed = threading.Event()
        self._far = broker.port
        self._ends: list[socket.socket] = []
        self.port = free_port()
        self._door: socket.socket | None = None
        self.mend()

    def cut(self) -> None:
        """Drop the connections and take no more."""
        door, self._door = self._door, None
        for end in [*([door] if door else []), *self._ends]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def mend(self) -> None:
        """Take connections."""
        self._door = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._door,), daemon=True).start()

    def _accept(self, door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = door.accept()
                far = socket.create_connection(("127.0.0.1", self._far))
                self._ends += [near, far]
                threading.Thread(target=_pump, args=(near, far, self._passes), daemon=True).start()
                threading.Thread(target=_pump, args=(far, near, lambda _: True), daemon=True).start()

    def _passes(self, data: bytes) -> bool:
        if self.swallow is None or not data.startswith(self.swallow):
            return True
        self.swallowed.set()
        return False


def _pump(source: socket.socket, sink: socket.socket, passes: Callable[[bytes], bool]) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            if passes(data):
                sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


class Listener:
    """Everything that is published, in the order in which it comes, also after the broker was away.

    Attributes:
        messages: (topic, payload, retained).
    """

    def __init__(self, broker: Broker, user: str | None = None, password: str | None = None) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: list[tuple[str, str, bool]] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        if user is not None:
            self._client.username_pw_set(user, password)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=2)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self.messages.append(
            (message.topic, message.payload.decode(), message.retain)
        )
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE_S)

    def payloads(self, topic: str) -> list[str]:
        """What came on one topic."""
        return [payload for at, payload, _ in list(self.messages) if at == topic]

    def objects(self, topic: str) -> list[dict[str, Any]]:
        """The same, parsed."""
        return [json.loads(payload) for payload in self.payloads(topic)]

    def wait(self, topic: str, count: int = 1) -> list[str]:
        """Wait until that many messages came on one topic."""
        wait_for(lambda: len(self.payloads(topic)) >= count, f"{count} messages on {topic}")
        return self.payloads(topic)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()
