"""What the tests of the live page ask it with."""

from __future__ import annotations

import email.parser
import email.policy
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

WAIT_S = 30.0  # for what a loaded machine does late


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(url: str, method: str = "GET", data: Any = None, **headers: str) -> Answer:
    body = None if data is None else data if isinstance(data, bytes) else json.dumps(data).encode()
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310  # our own server
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as reply:  # noqa: S310
            return Answer(reply.status, reply.headers, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)
    return found


def parts_of(answer: Answer) -> dict[str, bytes]:
    """The parts of a `frame`, by name, as a browser takes them apart."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + answer.body)
    found = {}
    for part in message.iter_parts():
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found[str(part.get_param("name", header="content-disposition"))] = payload
    return found


def decode(jpeg: bytes) -> NDArray[Any]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def stream_parts(reply: Any) -> Iterator[bytes]:
    """The pictures of an MJPEG stream."""
    while line := reply.readline():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
            reply.readline()
            yield reply.read(length)


def events_of(reply: Any) -> Iterator[tuple[str, Any]]:
    kind = ""
    while line := reply.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def stream(url: str) -> Any:
    """An answer that is read while it comes."""
    return urllib.request.urlopen(url, timeout=WAIT_S)  # noqa: S310  # our own server
