"""asterisk/fork_socket.c and fork_wire.c against real and misbehaving WebSocket servers.

The driver and the servers are in fixtures_fork.py.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import ssl
import statistics
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.authority import Authority
from tests.fakes.fork_server import read_request, shake_hands
from tests.fixtures_fork import Driver, MakeRaw, Sink, eventually

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def freeze(connection: socket.socket) -> None:
    """Take nothing more, until the connection is broken."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.poll(20_000)


def fill(driver: Driver, frames: int) -> None:
    """More audio than the kernel takes ahead, slowly enough for it to take what it can."""
    for _ in range(frames // 100):
        driver.do("push 1 in 100 8000 1")
        time.sleep(0.01)


# ---- the wire ----


def test_name_first_then_320_bytes_little_endian_and_a_clean_close(
    driver: Driver, sink: Sink
) -> None:
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/calls?token=secret name=PJSIP/a-01")
    assert eventually(lambda: driver.state(1) == "up")
    driver.do("push 1 in 50 8000 -2")
    driver.do("close 1 hangup")
    ended = driver.wait_ended(1)
    assert eventually(lambda: sink.codes == [1000])
    assert sink.paths == ["/calls?token=secret"]
    assert sink.subprotocols == ["echo"]
    assert sink.texts == [["PJSIP/a-01"]]
    assert sink.frames == [[b"\xfe\xff" * 160] * 50]
    assert ended["sent"] == 50
    assert ended["captured_us"] == [1_000_000, 0]
    assert ended["dropped_us"] == [0, 0]
    assert ended["reason"] == "hangup"
    assert not any("secret" in text for _, text in driver.logs)
    driver.do("free 1")


def test_the_request_offers_echo_and_the_frames_are_masked(driver: Driver, raw: MakeRaw) -> None:
    seen: dict[str, bytes] = {}

    def behave(connection: socket.socket) -> None:
        seen["request"] = shake_hands(connection)
        seen["frame"] = connection.recv(4096)

    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/x?y=1 name=abc")
    assert eventually(lambda: "frame" in seen)
    request = seen["request"].decode()
    assert request.startswith("GET /x?y=1 HTTP/1.1\r\n")
    assert "sec-websocket-protocol: echo\r\n" in request.lower()
    assert f"host: 127.0.0.1:{server.port}\r\n" in request.lower()
    assert "deflate" not in request.lower()
    frame = seen["frame"]
    assert frame[:2] == bytes([0x81, 0x80 | 3])
    mask = frame[2:6]
    assert bytes(b ^ mask[i % 4] for i, b in enumerate(frame[6:9])) == b"abc"
    driver.do("close 1 x")
    driver.do("free 1")


def test_audio_from_before_the_connection_is_sent_too(driver: Driver, raw: MakeRaw) -> None:
    got = bytearray()

    def behave(connection: socket.socket) -> None:
        time.sleep(0.3)
        shake_hands(connection)
        while part := connection.recv(65536):
            got.extend(part)

    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/")
    driver.do("push 1 in 30 8000 1")
    assert eventually(lambda: len(got) >= 30 * 328)
    assert driver.stats(1)["sent"] == 30
    driver.do("close 1 x")
    driver.do("free 1")


def test_a_call_shorter_than_the_handshake_loses_nothing(driver: Driver, sink: Sink) -> None:
    driver.send(f"open 1 ws://127.0.0.1:{sink.port}/")
    driver.send("push 1 in 3 8000 1")
    driver.send("close 1 hangup")
    assert driver.wait_ended(1)["sent"] == 3
    assert eventually(lambda: sink.codes == [1000])
    assert len(sink.frames[0]) == 3
    driver.do("free 1")


def test_a_frame_leaves_within_2_ms(driver: Driver, sink: Sink) -> None:
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/")
    assert eventually(lambda: driver.state(1) == "up")
    driver.do("pace 1 in 100")
    assert eventually(lambda: len(sink.frames[0]) == 100)
    late = [
        seen * 1e6 - struct.unpack("<q", frame[:8])[0]
        for frame, seen in zip(sink.frames[0], sink.times[0], strict=True)
    ]
    assert statistics.median(late) < 2000
    driver.do("close 1 x")
    driver.do("free 1")


def test_mute_keeps_the_time(driver: Driver, sink: Sink) -> None:
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/ dir=both")
    assert eventually(lambda: driver.state(1) == "up")
    driver.do("mute 1 in 1")
    driver.do("push 1 in 1 8000 100")
    driver.do("push 1 out 1 8000 10")
    driver.do("push 1 in 1 8000 100")
    driver.do("mute 1 in 0")
    driver.do("push 1 out 1 8000 10")
    driver.do("push 1 in 1 8000 100")
    driver.do("close 1 x")
    driver.wait_ended(1)
    assert eventually(lambda: sink.codes == [1000])
    values = [struct.unpack("<160h", frame)[80] for frame in sink.frames[0]]
    assert values == [0, 10, 110]
    driver.do("free 1")


def test_resampled_to_8_khz(driver: Driver, sink: Sink) -> None:
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/ rate=48000")
    driver.do("push 1 in 50 48000 1000")
    driver.do("close 1 x")
    assert driver.wait_ended(1)["sent"] == 50
    assert eventually(lambda: sink.codes == [1000])
    assert {len(frame) for frame in sink.frames[0]} == {320}
    assert abs(struct.unpack("<160h", sink.frames[0][25])[80] - 1000) < 3
    driver.do("free 1")


def test_pings_are_answered_and_what_the_server_says_is_read(driver: Driver, sink: Sink) -> None:
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/")
    assert eventually(lambda: driver.state(1) == "up" and len(sink.texts) == 1)
    connection = sink.connections[0]
    assert connection.ping().wait(2)
    for _ in range(100):
        connection.send("x" * 20_000)
    assert connection.ping().wait(5)
    driver.do("close 1 x")
    driver.do("free 1")


# ---- bad servers ----


def test_nobody_listens(driver: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    driver.do(f"open 1 ws://127.0.0.1:{port}/")
    ended = driver.wait_ended(1)
    assert "cannot connect" in ended["reason"]
    assert driver.do("push 1 in 3 8000 1") == "ok 0"
    driver.do("free 1")


def test_an_unknown_host_is_named(driver: Driver) -> None:
    driver.do("open 1 ws://no-such-host.invalid/ connect_ms=8000")
    assert "cannot find the host" in driver.wait_ended(1, 20)["reason"]
    driver.do("free 1")


def test_a_host_name_is_resolved(driver: Driver, sink: Sink) -> None:
    driver.do(f"open 1 ws://localhost:{sink.port}/")
    assert eventually(lambda: driver.state(1) == "up"), driver.logs
    driver.do("close 1 x")
    driver.do("free 1")


def test_a_server_that_accepts_and_never_answers_times_out(driver: Driver, raw: MakeRaw) -> None:
    server = raw(freeze)
    begun = time.monotonic()
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/ connect_ms=500")
    assert "timeout connecting" in driver.wait_ended(1)["reason"]
    assert 0.4 < time.monotonic() - begun < 1.5
    driver.do("free 1")


def http_404(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    time.sleep(0.2)


def garbage(connection: socket.socket) -> None:
    connection.sendall(os.urandom(5000))
    time.sleep(0.2)


def closes_at_once(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def bad_accept(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAA\r\n\r\n"
    )
    time.sleep(0.2)


def other_subprotocol(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: AAAA\r\n\r\n"
    )
    time.sleep(0.2)


@pytest.mark.parametrize(
    "behave", [http_404, garbage, closes_at_once, bad_accept, other_subprotocol]
)
def test_a_handshake_that_fails_ends_the_link(
    driver: Driver, raw: MakeRaw, behave: Callable[[socket.socket], None]
) -> None:
    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/")
    assert driver.wait_ended(1)["connects"] == 0
    driver.do("free 1")


def test_a_redirect_is_not_followed(driver: Driver, raw: MakeRaw, sink: Sink) -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(
            f"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:{sink.port}/\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        time.sleep(0.2)

    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/")
    assert driver.wait_ended(1)["connects"] == 0
    assert sink.connections == []
    driver.do("free 1")


@pytest.mark.parametrize("seed", range(6))
def test_bad_frames_end_the_connection_and_nothing_else(
    driver: Driver, raw: MakeRaw, sink: Sink, seed: int
) -> None:
    """Random bytes as frames; the other link does not notice."""

    def behave(connection: socket.socket) -> None:
        shake_hands(connection)
        for _ in range(200):
            connection.sendall(os.urandom(1 + seed * 40))
        time.sleep(0.3)

    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/")
    driver.do(f"open 2 ws://127.0.0.1:{server.port}/")
    driver.do("push 1 in 20 8000 1")
    driver.wait_ended(2)
    driver.do("push 1 in 20 8000 1")
    driver.do("close 1 x")
    assert driver.wait_ended(1)["sent"] == 40
    driver.do("free 1")
    driver.do("free 2")


def test_a_frozen_server_costs_the_oldest_audio_and_no_more(driver: Driver, raw: MakeRaw) -> None:
    thaw = threading.Event()
    got = bytearray()

    def behave(connection: socket.socket) -> None:
        shake_hands(connection)
        thaw.wait(20)
        while part := connection.recv(65536):
            got.extend(part)

    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/ ring_ms=1000 stall_ms=0")
    assert eventually(lambda: driver.state(1) == "up")
    fill(driver, 4000)
    stats = driver.stats(1)
    assert stats["sent"] < 400  # what the kernel took
    assert stats["waiting"] <= 50
    assert stats["dropped_us"][0] == (4000 - stats["sent"] - stats["waiting"]) * 20_000
    thaw.set()
    assert eventually(lambda: driver.stats(1)["waiting"] == 0)
    driver.do("push 1 in 10 8000 1")
    driver.do("close 1 x")
    ended = driver.wait_ended(1)
    assert ended["sent"] + ended["dropped_us"][0] // 20_000 == 4010
    driver.do("free 1")


def test_a_server_frozen_for_too_long_is_given_up(driver: Driver, raw: MakeRaw) -> None:
    def behave(connection: socket.socket) -> None:
        shake_hands(connection)
        freeze(connection)

    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/ stall_ms=1000 ring_ms=500")
    assert eventually(lambda: driver.state(1) == "up")
    fill(driver, 1000)
    assert "taken no audio" in driver.wait_ended(1)["reason"]
    driver.do("free 1")


def test_the_end_of_a_call_does_not_wait_for_a_frozen_server(driver: Driver, raw: MakeRaw) -> None:
    def behave(connection: socket.socket) -> None:
        shake_hands(connection)
        freeze(connection)

    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/ flush_ms=300")
    assert eventually(lambda: driver.state(1) == "up")
    fill(driver, 1000)
    begun = time.monotonic()
    driver.do("close 1 hangup")
    ended = driver.wait_ended(1)
    assert time.monotonic() - begun < 1
    assert ended["reason"] == "hangup"
    assert ended["sent"] + ended["dropped_us"][0] // 20_000 == 1000
    driver.do("free 1")


# ---- reconnection ----


def test_reconnects_says_its_name_again_and_keeps_what_the_ring_holds(driver: Driver) -> None:
    first = Sink()
    driver.do(f"open 1 ws://127.0.0.1:{first.port}/ r=0 delay=100 max_delay=400 name=old")
    assert eventually(lambda: driver.state(1) == "up" and first.texts == [["old"]])
    driver.do("push 1 in 10 8000 1")
    assert eventually(lambda: len(first.frames[0]) == 10)
    first.close()
    assert eventually(lambda: driver.state(1) != "up")
    driver.do("rename 1 new")
    driver.do("push 1 in 20 8000 2")
    time.sleep(0.5)
    second = Sink(first.port)
    assert eventually(lambda: bool(second.frames) and len(second.frames[0]) == 20)
    assert second.texts == [["new"]]
    assert driver.stats(1)["connects"] == 2
    driver.do("close 1 x")
    assert driver.wait_ended(1)["dropped_us"] == [0, 0]
    second.close()
    driver.do("free 1")


def test_attempts_are_counted_and_spaced_ever_more_widely(driver: Driver, raw: MakeRaw) -> None:
    times: list[float] = []

    def behave(connection: socket.socket) -> None:
        times.append(time.monotonic())
        connection.close()

    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/ r=4 delay=100 max_delay=400")
    driver.wait_ended(1)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(gaps) == 4
    for gap, delay in zip(gaps, [0.1, 0.2, 0.4, 0.4], strict=True):
        assert 0.45 * delay < gap < delay + 0.15
    warnings = [text for level, text in driver.logs if level == 3]
    assert len(warnings) == 2  # the first failure and the last
    driver.do("free 1")


def test_closing_ends_the_waiting_at_once(driver: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    driver.do(f"open 1 ws://127.0.0.1:{port}/ r=0 delay=5000 max_delay=5000")
    assert eventually(lambda: driver.state(1) == "waiting")
    driver.do("push 1 in 10 8000 1")
    begun = time.monotonic()
    driver.do("close 1 hangup")
    assert driver.wait_ended(1)["dropped_us"] == [200_000, 0]
    assert time.monotonic() - begun < 3, "of five seconds that it would have waited"
    driver.do("free 1")


@pytest.mark.parametrize(
    ("code", "again"), [(1000, False), (1001, True), (1008, False), (1011, True), (4001, False)]
)
def test_the_server_s_close_code_says_whether_to_come_back(
    driver: Driver, sink: Sink, code: int, again: bool
) -> None:
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/ r=0 delay=50 max_delay=50")
    assert eventually(lambda: len(sink.connections) == 1)
    sink.connections[0].close(code, "why")
    if again:
        assert eventually(lambda: len(sink.connections) == 2)
        driver.do("close 1 x")
        assert driver.wait_ended(1)["connects"] == 2
    else:
        assert f"{code} why" in driver.wait_ended(1)["reason"]
        assert len(sink.connections) == 1
    driver.do("free 1")


# ---- TLS ----


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def tls_sink(certificate: tuple[Path, Path], client_ca: Path | None = None) -> Sink:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return Sink(tls=context)


def test_tls_with_a_known_authority_and_sni(driver: Driver, authority: Authority) -> None:
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("good", "DNS:localhost"))
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    sink = Sink(tls=context)
    driver.do(f"open 1 wss://localhost:{sink.port}/ ca={authority.ca}")
    driver.do("push 1 in 25 8000 1")
    assert eventually(lambda: bool(sink.frames) and len(sink.frames[0]) == 25), driver.logs
    driver.do("close 1 x")
    driver.wait_ended(1)
    assert names == ["localhost"]
    sink.close()
    driver.do("free 1")


@pytest.mark.parametrize(
    ("alternative", "host", "trusted", "days", "named"),
    [("DNS:localhost", "localhost", False, 2, "issuer"),
     ("DNS:other.example", "localhost", True, 2, "ostname mismatch"),
     ("DNS:localhost", "127.0.0.1", True, 2, "mismatch"),
     ("DNS:localhost", "localhost", True, -1, "expired")],
)  # fmt: skip
def test_tls_refuses_a_certificate_and_says_why(
    driver: Driver, authority: Authority, alternative: str, host: str, trusted: bool, days: int,
    named: str,
) -> None:  # fmt: skip
    sink = tls_sink(authority.issue("bad", alternative, days))
    ca = f"ca={authority.ca}" if trusted else ""
    driver.do(f"open 1 wss://{host}:{sink.port}/ {ca}")
    ended = driver.wait_ended(1)
    assert "certificate" in ended["reason"]
    assert named in ended["reason"]
    assert sink.connections == []
    sink.close()
    driver.do("free 1")


def test_tls_client_certificate(driver: Driver, authority: Authority) -> None:
    certificate, key = authority.issue("client", "DNS:client")
    sink = tls_sink(authority.issue("good", "DNS:localhost"), authority.ca)
    url = f"wss://localhost:{sink.port}/"
    driver.do(f"open 1 {url} ca={authority.ca} cert={certificate} key={key}")
    driver.do(f"open 2 {url} ca={authority.ca}")
    assert eventually(lambda: driver.state(1) == "up"), driver.logs
    driver.wait_ended(2)
    driver.do("close 1 x")
    sink.close()
    driver.do("free 1")
    driver.do("free 2")


def test_tls_reconnects(driver: Driver, authority: Authority) -> None:
    certificate = authority.issue("good", "DNS:localhost")
    first = tls_sink(certificate)
    driver.do(f"open 1 wss://localhost:{first.port}/ ca={authority.ca} r=0 delay=100 max_delay=200")
    assert eventually(lambda: driver.state(1) == "up")
    first.close()
    assert eventually(lambda: driver.state(1) != "up")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    second = Sink(first.port, tls=context)
    assert eventually(lambda: driver.stats(1)["connects"] == 2)
    driver.do("close 1 x")
    second.close()
    driver.do("free 1")


# ---- many, and the service itself ----


def resources(pid: int) -> tuple[int, int]:
    return len(list(Path(f"/proc/{pid}/task").iterdir())), len(
        list(Path(f"/proc/{pid}/fd").iterdir())
    )


def test_200_links_leave_no_thread_and_no_descriptor(driver: Driver, sink: Sink) -> None:
    driver.do(f"open 0 ws://127.0.0.1:{sink.port}/")
    assert eventually(lambda: driver.state(0) == "up")
    driver.do("close 0 x")
    driver.do("free 0")
    driver.wait_ended(0)
    before = resources(driver.process.pid)
    for start in range(0, 200, 50):
        for link in range(start, start + 50):
            driver.do(f"open {link + 1} ws://127.0.0.1:{sink.port}/{link} dir=both")
            driver.do(f"push {link + 1} in 10 8000 1")
            driver.do(f"close {link + 1} x")
            driver.do(f"free {link + 1}")
    assert eventually(lambda: len(driver.ended) == 201)
    assert eventually(lambda: resources(driver.process.pid) == before)
    assert eventually(lambda: all(code == 1000 for code in sink.codes))
    assert sum(len(frames) for frames in sink.frames) == 2000


def test_the_service_refuses_to_stop_under_links_and_starts_again(
    driver: Driver, sink: Sink
) -> None:
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/")
    assert driver.do("stop 100") == "ok -1"
    assert eventually(lambda: driver.state(1) == "up")
    driver.do("close 1 x")
    driver.do("free 1")
    assert driver.do("stop 3000") == "ok 0"
    assert driver.do("start 0") == "ok 0"
    driver.do(f"open 2 ws://127.0.0.1:{sink.port}/")
    assert eventually(lambda: driver.state(2) == "up")
    driver.do("close 2 x")
    driver.do("free 2")
