"""asterisk/fork_options.c and fork_url.c: what AudioFork() accepts, and what it says if not."""

from __future__ import annotations

import ctypes

import pytest

from tests import native


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    target = tmp_path_factory.mktemp("pure") / "pure.so"
    parts = ["fork_audio", "fork_url", "fork_options"]
    return ctypes.CDLL(str(native.build(target, "pure.c", parts, ["m"], ["-fPIC", "-shared"])))


def show(lib: ctypes.CDLL, text: str, inverted: bool = False) -> str:
    out = ctypes.create_string_buffer(4096)
    lib.options_show(text.encode(), int(inverted), out, ctypes.c_size_t(4096))
    return out.value.decode()


def options(lib: ctypes.CDLL, text: str, inverted: bool = False) -> dict[str, str]:
    shown = show(lib, text, inverted)
    assert not shown.startswith("!"), shown
    return dict(line.split("=", 1) for line in shown.split("\n"))


def url(lib: ctypes.CDLL, text: str) -> str:
    out = ctypes.create_string_buffer(2048)
    lib.url_show(text.encode(), out, ctypes.c_size_t(2048))
    return out.value.decode()


def test_without_options(lib: ctypes.CDLL) -> None:
    assert options(lib, "") == {
        "direction": "both", "b": "0", "p": "0", "P": "0", "B": "0", "v": "0", "V": "0", "i": "",
        "tls": "0", "cert": "", "key": "", "ca": "", "R": "-1", "r": "-1", "j": "0", "m": "20",
        "f": "8000", "x": "",
    }  # fmt: skip


def test_all_options_at_once(lib: ctypes.CDLL) -> None:
    text = "bpPB(5)v(-4)V(4)i(MY_ID)D(out)T(/c.pem,/k.pem,/ca.pem)R(3)r(7)jm(60)f(16000)x(A&b_2)"
    assert options(lib, text) == {
        "direction": "write", "b": "1", "p": "1", "P": "1", "B": "5", "v": "-4", "V": "4",
        "i": "MY_ID", "tls": "1", "cert": "/c.pem", "key": "/k.pem", "ca": "/ca.pem", "R": "3",
        "r": "7", "j": "1", "m": "60", "f": "16000", "x": "A&b_2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [("B", "B", "15"), ("B()", "B", "15"), ("W(2)", "v", "2"), ("W(2)", "V", "2"),
     ("W(2)v(1)", "v", "1"), ("T(,,/ca)", "ca", "/ca"), ("T()", "tls", "1"), ("R(0)", "R", "0"),
     ("r(0)", "r", "0"), ("m(200)", "m", "200"), ("f(8000)", "f", "8000"),
     ("jx(A)x(B)", "x", "B"),
     ("jx(" + "&".join(f"N{n}" for n in range(16)) + ")", "x",
      "&".join(f"N{n}" for n in range(16)))],
)  # fmt: skip
def test_forms(lib: ctypes.CDLL, text: str, key: str, value: str) -> None:
    assert options(lib, text)[key] == value


@pytest.mark.parametrize(
    ("text", "standard", "inverted"),
    [("D(read)", "read", "read"), ("D(write)", "write", "write"),
     ("D(in)", "read", "write"), ("D(out)", "write", "read"), ("D(both)", "both", "read"),
     ("", "both", "read"), ("D(IN)", "read", "write"), ("D(stereo)", "stereo", "stereo")],
)  # fmt: skip
def test_direction_names(lib: ctypes.CDLL, text: str, standard: str, inverted: str) -> None:
    assert options(lib, text)["direction"] == standard
    assert options(lib, text, inverted=True)["direction"] == inverted


def test_the_article_s_line_asks_for_the_caller_s_voice(lib: ctypes.CDLL) -> None:
    parsed = options(lib, "D(out)i(WS_SOCKET_SESSION)", inverted=True)
    assert (parsed["direction"], parsed["i"]) == ("read", "WS_SOCKET_SESSION")


@pytest.mark.parametrize(
    ("text", "named"),
    [("Q", "Q is not known"), ("D(left)", "D(left)"), ("D", "D()"), ("D(in", "D has no closing"),
     ("v(5)", "v(5)"), ("V(x)", "V(x)"), ("W()", "W()"), ("v( 1)", "v( 1)"), ("B(0)", "B(0)"),
     ("i()", "i()"), ("i(A(B)", "i(A(B)"), ("i(a b)", "i(a b)"), ("i(" + "x" * 80 + ")", "i(x"),
     ("T(a,b,c,d)", "T(a,b,c,d)"), ("T(" + "x" * 300 + ")", "T(x"), ("R(-1)", "R(-1)"),
     ("R(1.5)", "R(1.5)"), ("r(many)", "r(many)"), ("D(in) ", "stray"), ("\x01", "stray"),
     ("D(" + "x" * 900 + ")", "D has no closing"), ("m(30)", "m(30): 20 to 200"),
     ("m(0)", "m(0)"), ("m(220)", "m(220)"), ("m()", "m()"), ("f(44100)", "f(44100): 8000 or"),
     ("f()", "f()"), ("jx()", "x(): names"), ("jx(A&)", "x(A&)"), ("jx(A&&B)", "x(A&&B)"),
     ("jx(A,B)", "x(A,B)"), ("jx(CALLERID(num))", "x(CALLERID(num)"), ("x(A)", "x wants option j"),
     ("jx(" + "&".join("N" * 17) + ")", "at most 16"), ("jx(" + "N" * 80 + ")", "x(NNN")],
)  # fmt: skip
def test_what_is_wrong_is_named(lib: ctypes.CDLL, text: str, named: str) -> None:
    shown = show(lib, text)
    assert shown.startswith("!")
    assert named in shown


@pytest.mark.parametrize(
    ("text", "parts"),
    [("ws://h", "0|80|h|/|ws://h"), ("wss://h", "1|443|h|/|wss://h"),
     ("ws://127.0.0.1:8081/", "0|8081|127.0.0.1|/|ws://127.0.0.1:8081/"),
     ("WS://H:1/a/b?token=x#f", "0|1|H|/a/b?token=x|WS://H:1/a/b"),
     ("ws://h?token=x", "0|80|h|/?token=x|ws://h"),
     ("ws://[::1]:99/p", "0|99|::1|/p|ws://[::1]:99/p")],
)  # fmt: skip
def test_urls_taken_apart_and_shown_without_their_secrets(
    lib: ctypes.CDLL, text: str, parts: str
) -> None:
    assert url(lib, text) == parts


@pytest.mark.parametrize(
    "text",
    ["", "http://h", "ws:/h", "ws://", "ws:///p", "ws://u:p@h/", "ws://h:0", "ws://h:65536",
     "ws://h:8x/", "ws://h:/", "ws://h h/", "ws://h/\r\nX: y", "ws://h/\u0442", "ws://h/a b",
     "ws://[::1", "ws://[::1]x/", "ws://" + "h" * 300 + "/", "ws://h/" + "p" * 600,
     "ws://h/{}", "ws://a,b/"],
)  # fmt: skip
def test_bad_urls(lib: ctypes.CDLL, text: str) -> None:
    assert url(lib, text).startswith("!")


@pytest.mark.parametrize(
    ("entry", "text", "allowed"),
    [("ws://h:1/", "ws://h:1/", True), ("ws://h:1", "ws://h:1/x?y", True),
     ("ws://h:1/", "ws://H:1/x", True), ("ws://h:1/", "ws://h:2/", False),
     ("ws://h:1/", "wss://h:1/", False), ("ws://h/", "ws://h.evil/", False),
     ("ws://h", "ws://hh/", False), ("ws://h/a", "ws://h/a", True),
     ("ws://h/a", "ws://h/a?q", True),
     ("ws://h/a", "ws://h/a/b", True), ("ws://h/a", "ws://h/ab", False),
     ("ws://h/a/", "ws://h/a/b", True), ("ws://h/a", "ws://h/a/../b", False),
     ("ws://h/a", "ws://h/a/%2e%2e/b", False), ("wss://h/", "wss://h:443/", True),
     ("nonsense", "ws://h/", False)],
)  # fmt: skip
def test_the_allow_list_compares_parts_not_text(
    lib: ctypes.CDLL, entry: str, text: str, allowed: bool
) -> None:
    assert bool(lib.url_allowed(entry.encode(), text.encode())) is allowed
