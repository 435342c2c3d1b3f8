"""FastAGI over real sockets; each defect of pyst2 that ThreadedAgi mends has its test here."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from backend.agi_server import AgiServer, ThreadedAgi, listen, request_of
from backend.errors import AsteriskUnavailable, BadRequest, CommandRefused, CommandTimeout, Hangup
from tests.fakes.agi_peer import ENVIRONMENT, AgiPeer, environment


class Session:
    """A ThreadedAgi and the scripted Asterisk at its other end."""

    def __init__(self, answer: Callable[[str], bytes | None]) -> None:
        self.peer = AgiPeer(answer)
        self.agi = ThreadedAgi(self.peer.theirs)


@pytest.fixture
def session() -> Iterator[Callable[[Callable[[str], bytes | None]], Session]]:
    sessions: list[Session] = []

    def make(answer: Callable[[str], bytes | None]) -> Session:
        sessions.append(Session(answer))
        return sessions[-1]

    yield make
    for one in sessions:
        one.peer.close()
        one.agi.close()


Make = Callable[[Callable[[str], bytes | None]], Session]


def test_environment_is_read_outside_the_main_thread(session: Make) -> None:
    """pyst2: ValueError, for signal.signal works in the main thread only."""
    found: list[dict[str, str]] = []
    thread = threading.Thread(target=lambda: found.append(session(lambda _: None).agi.env))
    thread.start()
    thread.join(5)
    assert found == [ENVIRONMENT]


def test_nothing_goes_to_stderr(session: Make, capfd: pytest.CaptureFixture[str]) -> None:
    session(lambda _: b"200 result=0\n").agi.execute("NOOP")
    assert capfd.readouterr().err == ""


def test_pyst2_methods_work(session: Make) -> None:
    one = session(lambda line: b"200 result=1 (42)\n" if "GET" in line else b"200 result=0\n")
    assert one.agi.get_variable("X") == "42"
    one.agi.set_variable("NAME", 'a "quoted" \\ value')
    assert one.peer.commands == [
        'GET VARIABLE "X"',
        'SET VARIABLE "NAME" "a \\"quoted\\" \\\\ value"',
    ]


def test_injection_is_refused(session: Make) -> None:
    one = session(lambda _: b"200 result=0\n")
    with pytest.raises(BadRequest):
        one.agi.set_variable("X", 'a"\nEXEC System "reboot"')
    assert one.peer.commands == []


def test_trying_is_skipped(session: Make) -> None:
    one = session(lambda _: b"100 Trying...\n200 result=7\n")
    assert one.agi.execute("NOOP")["result"] == ("7", "")


def test_511_is_a_hangup(session: Make) -> None:
    one = session(lambda _: b"511 Command Not Permitted on a dead channel\n")
    with pytest.raises(Hangup):
        one.agi.execute("ANSWER")
    with pytest.raises(Hangup):
        one.agi.execute("NOOP")
    assert one.peer.commands == ["ANSWER"]
    assert not one.agi.asterisk_lost


def test_hangup_line_before_the_result(session: Make) -> None:
    one = session(lambda _: b"HANGUP\n200 result=-1 endpos=800\n")
    with pytest.raises(Hangup):
        one.agi.execute("CONTROL STREAM FILE", "x", "")


def test_hangup_line_while_idle(session: Make) -> None:
    one = session(lambda _: b"200 result=0\n")
    one.agi.poll_hangup()
    one.peer.send(b"HANGUP\n")
    with pytest.raises(Hangup):
        one.agi.poll_hangup()
    with pytest.raises(Hangup):
        one.agi.execute("NOOP")
    assert one.peer.commands == []


def test_hangup_line_and_eof_together_are_no_loss_of_asterisk(session: Make) -> None:
    one = session(lambda _: b"200 result=-1 endpos=800\n")
    one.agi.command("CONTROL STREAM FILE", "x", "", timeout_s=5)
    one.peer.send(b"HANGUP\n")
    one.peer.mine.shutdown(socket.SHUT_WR)
    with pytest.raises(Hangup):
        one.agi.execute("NOOP")
    assert not one.agi.asterisk_lost


def test_eof_is_a_hangup_and_says_asterisk_was_lost(session: Make) -> None:
    """pyst2: ValueError."""
    one = session(lambda _: None)
    one.peer.mine.shutdown(socket.SHUT_WR)
    with pytest.raises(Hangup):
        one.agi.execute("NOOP", timeout_s=5)
    assert one.agi.asterisk_lost


def test_value_of_several_lines_keeps_step(session: Make) -> None:
    """pyst2: the second line is taken for the next command's result."""

    def answer(line: str) -> bytes:
        return b"200 result=1 (one\ntwo)\n" if "MULTI" in line else b"200 result=1 (next)\n"

    agi = session(answer).agi
    assert agi.get_variable("MULTI") == "one\ntwo"
    assert agi.get_variable("OTHER") == "next"


def test_leftovers_of_an_ambiguous_value_are_dropped(session: Make) -> None:
    def answer(line: str) -> bytes:
        return b"200 result=1 (one)\ntwo)\n" if "MULTI" in line else b"200 result=1 (next)\n"

    agi = session(answer).agi
    assert agi.get_variable("MULTI") == "one"
    assert agi.get_variable("OTHER") == "next"


@pytest.mark.parametrize(
    "line", [b"510 Invalid or unknown command\n", b"520-Usage\nmore\n520 End\n", b"200 result=-1\n"]
)
def test_refusals_carry_asterisks_words(session: Make, line: bytes) -> None:
    with pytest.raises(CommandRefused, match="Asterisk answered"):
        session(lambda _: line).agi.execute("FOO")


def test_a_silent_asterisk_is_a_timeout_that_names_the_command(session: Make) -> None:
    with pytest.raises(CommandTimeout, match=r"GET VARIABLE.*0\.05 s"):
        session(lambda _: None).agi.command("GET VARIABLE", "X", timeout_s=0.05)


def test_abort_ends_a_wait_at_once(session: Make) -> None:
    arrived = threading.Event()

    def answer(_: str) -> None:
        arrived.set()

    agi = session(answer).agi
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            agi.command("WAIT FOR DIGIT", "-1", timeout_s=60)
        except Hangup as error:
            failed.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert arrived.wait(5)
    agi.abort("enough")
    thread.join(5)
    assert len(failed) == 1
    assert not agi.asterisk_lost


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        ("agi://127.0.0.1:4573/survey", ("survey", {})),
        ("agi://127.0.0.1/", ("", {})),
        ("agi://h/a%20b?x=1&y=%D0%B4", ("a b", {"x": "1", "y": "д"})),
    ],
)
def test_request_of(request_line: str, expected: tuple[str, dict[str, str]]) -> None:
    assert request_of({"agi_request": request_line}) == expected


# The server


@pytest.fixture
def server() -> Iterator[tuple[AgiServer, list[ThreadedAgi], threading.Event, threading.Event]]:
    calls: list[ThreadedAgi] = []
    came, leave = threading.Event(), threading.Event()

    def on_call(agi: ThreadedAgi) -> None:
        calls.append(agi)
        came.set()
        if agi.env["agi_request"].endswith("raise"):
            raise RuntimeError("a defect in the call's own code")
        leave.wait(10)

    server = AgiServer(listen("127.0.0.1", 0), on_call, max_calls=2)
    server.start()
    yield server, calls, came, leave
    leave.set()
    server.drain(5)


Served = tuple[AgiServer, list[ThreadedAgi], threading.Event, threading.Event]


def connect(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.settimeout(5)
    connection.sendall(data)
    return connection


def test_a_call_gets_a_thread_and_its_connection_is_closed(served: Served) -> None:
    server, calls, came, leave = served
    with connect(server.port, environment()) as connection:
        assert came.wait(5)
        assert server.calls == 1
        assert calls[0].env == ENVIRONMENT
        leave.set()
        assert connection.recv(1) == b""


def test_more_calls_than_allowed_are_closed_at_once(served: Served) -> None:
    server, _, came, _ = served
    with connect(server.port, environment()), connect(server.port, environment()):
        assert came.wait(5)
        with connect(server.port) as third:
            assert third.recv(1) == b""


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\n", b"agi_x: 1\n" * 200]
)
def test_garbage_is_closed_and_the_server_goes_on(served: Served, data: bytes) -> None:
    server, calls, came, _ = served
    with connect(server.port, data) as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    assert not calls
    with connect(server.port, environment()):
        assert came.wait(5)


def test_a_raising_call_does_not_hurt_the_others(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    server, _, came, _ = served
    env = {**ENVIRONMENT, "agi_request": "agi://h/raise"}
    with connect(server.port, environment(env)) as connection:
        assert connection.recv(1) == b""
    assert "nobody handled" in caplog.text
    came.clear()
    with connect(server.port, environment()):
        assert came.wait(5)


def test_peers_outside_the_allow_list_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    server = AgiServer(listen("127.0.0.1", 0), lambda _: None, max_calls=1, allow=["10.0.0.0/8"])
    server.start()
    with connect(server.port) as connection:
        assert connection.recv(1) == b""
    server.drain(1)
    assert "127.0.0.1 refused: not in agi_allow" in caplog.text


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
            listen("127.0.0.1", port)


def test_drain_cuts_a_call_that_does_not_end() -> None:
    began = threading.Event()

    def on_call(agi: ThreadedAgi) -> None:
        began.set()
        try:
            agi.command("WAIT FOR DIGIT", "-1", timeout_s=60)
        except Hangup:
            return

    server = AgiServer(listen("127.0.0.1", 0), on_call, max_calls=1)
    server.start()
    with connect(server.port, environment()):
        assert began.wait(5)
        server.drain(0.05)
    assert server.calls == 0


def test_a_call_that_lasts_too_long_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    began, ended = threading.Event(), threading.Event()
    why: list[str | None] = []

    def on_call(agi: ThreadedAgi) -> None:
        began.set()
        try:
            agi.command("WAIT FOR DIGIT", "-1", timeout_s=60)
        except Hangup:
            why.append(agi.aborted)
        ended.set()

    server = AgiServer(listen("127.0.0.1", 0), on_call, max_calls=1)
    server.start()
    with connect(server.port, environment()):
        assert began.wait(5)
        server.cut_older(3600)
        assert not ended.is_set()
        server.cut_older(0)
        assert ended.wait(5)
    server.drain(5)
    assert why == ["ended after max_call_s=0 s"]
    assert "lasted longer" in caplog.text


@pytest.fixture
def served(server: Served) -> Served:
    return server


def test_a_session_that_closes_within_its_environment() -> None:
    mine, theirs = socket.socketpair()
    mine.sendall(b"agi_network: yes\n")
    mine.close()
    with pytest.raises(AsteriskUnavailable), theirs:
        ThreadedAgi(theirs)
