"""app_audiofork and wss://: whom it trusts, and what it says when it does not."""

from __future__ import annotations

import pytest

from tests.e2e.fork_lab import FAR_HZ, LEVEL, Call, ForkLab
from tests.fakes.authority import Authority, server_context
from tests.fakes.fork_server import ForkServer, level

pytestmark = pytest.mark.usefixtures("story")


def trusting(authority: Authority, certificate: str = "", key: str = "") -> str:
    return f"D(in)T({certificate},{key},{authority.ca})"


def works(fork: ForkLab, call: Call, server: ForkServer, name: str) -> bool:
    """The audio comes, whole and in the clear for the server."""
    one = server.frames("", 40)
    assert level(one.frames[10:], FAR_HZ) == pytest.approx(LEVEL, rel=0.05)
    fork.stop(call.channel, AudioForkID=name)
    assert server.closed(one) == 1000
    end = fork.ended(name)
    assert (end.captured, end.sent) == (len(one.frames), len(one.frames))
    return end.lost_s == 0


def test_a_good_certificate(fork: ForkLab, call: Call, authority: Authority) -> None:
    names: list[str | None] = []
    context = server_context(authority.issue("good", "DNS:localhost"))
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with ForkServer(tls=context, host="localhost") as server:
        name = fork.start(call.channel, server.url(), trusting(authority))
        assert works(fork, call, server, name)
    assert set(names) == {"localhost"}


def test_an_address_in_the_certificate(fork: ForkLab, call: Call, authority: Authority) -> None:
    with ForkServer(tls=server_context(authority.issue("ip", "IP:127.0.0.1"))) as server:
        name = fork.start(call.channel, server.url(), trusting(authority))
        assert works(fork, call, server, name)


def test_the_authority_of_audiofork_conf(fork: ForkLab, call: Call, authority: Authority) -> None:
    context = server_context(authority.issue("conf", "DNS:localhost"))
    with ForkServer(tls=context, host="localhost") as server:
        fork.configure(f"tls_ca_file = {authority.ca}")
        name = fork.start(call.channel, server.url(), "D(in)")
        fork.configure("")
        assert works(fork, call, server, name)


def test_a_client_certificate(fork: ForkLab, call: Call, authority: Authority) -> None:
    certificate, key = map(str, authority.issue("client", "DNS:client"))
    context = server_context(authority.issue("asks", "DNS:localhost"), authority.ca)
    with ForkServer(tls=context, host="localhost") as server:
        name = fork.start(call.channel, server.url(), trusting(authority, certificate, key))
        without = fork.start(call.channel, server.url(), trusting(authority))
        assert works(fork, call, server, name)
        assert fork.ended(without).sent <= 50, "what the kernel took before the server's alert"
        assert len(server.received) == 1


@pytest.mark.parametrize(
    ("alternative", "host", "is_trusted", "days", "named"),
    [
        ("DNS:localhost", "localhost", False, 2, "issuer"),
        ("DNS:other.example", "localhost", True, 2, "ostname mismatch"),
        ("DNS:localhost", "127.0.0.1", True, 2, "mismatch"),
        ("DNS:localhost", "localhost", True, -1, "expired"),
    ],
    ids=["unknown-authority", "another-name", "a-name-for-an-address", "expired"],
)
def test_a_bad_certificate_is_refused_by_name(
    fork: ForkLab,
    call: Call,
    authority: Authority,
    alternative: str,
    host: str,
    is_trusted: bool,
    days: int,
    named: str,
) -> None:
    context = server_context(authority.issue("bad", alternative, days))
    with ForkServer(tls=context, host=host) as server:
        options = trusting(authority) if is_trusted else "D(in)"
        name = fork.start(call.channel, server.url(), options)
        end = fork.ended(name)
        assert "certificate" in end.reason
        assert named in end.reason
        assert (end.sent, end.connections) == (0, 0)
        assert server.received == []
    assert call.is_up


def test_a_server_without_tls(fork: ForkLab, call: Call, authority: Authority) -> None:
    url = fork.server.url().replace("ws:", "wss:")
    end = fork.ended(fork.start(call.channel, url, trusting(authority)))
    assert end.connections == 0
    assert call.is_up


def test_a_key_that_is_none(fork: ForkLab, call: Call, authority: Authority) -> None:
    context = server_context(authority.issue("keyless", "DNS:localhost"))
    with ForkServer(tls=context, host="localhost") as server:
        options = trusting(authority, str(authority.ca), str(authority.ca))
        end = fork.ended(fork.start(call.channel, server.url(), options))
        assert end.connections == 0
        assert server.received == []
