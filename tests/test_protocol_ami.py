"""AMI on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import AsteriskError, BadRequest
from backend.protocol.ami import MAX_LINE, Answer, Message, MessageReader, parse, serialize

GREETING = b"Asterisk Call Manager/5.0.4\r\n"

# --- reading ------------------------------------------------------------------------------------


def read(*segments: bytes) -> list[Message]:
    reader = MessageReader()
    return [message for segment in segments for message in reader.feed(segment)]


def test_greeting_and_messages() -> None:
    reader = MessageReader()
    found = reader.feed(GREETING + b"Event: A\r\nX: 1\r\n\r\nResponse: Success\r\n\r\nEvent: B\r\n")
    assert reader.version == "5.0.4"
    assert [m.headers for m in found] == [{"Event": "A", "X": "1"}, {"Response": "Success"}]
    assert reader.feed(b"\r\n")[0].event == "B"


@given(st.data())
def test_any_segmentation_gives_the_same_messages(data: st.DataObject) -> None:
    wire = GREETING + "Event: A\r\nName: Пётр\r\n\r\nEvent: B\r\nName: 中\r\n\r\n".encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1))))
    segments = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert [m.get("Name") for m in read(*segments)] == ["Пётр", "中"]


def test_repeated_headers_become_a_list() -> None:
    message = parse("Event: X\r\nChanVariable: a=1\r\nChanVariable: b=2\r\nChanVariable: c=3")
    assert message.headers["ChanVariable"] == ["a=1", "b=2", "c=3"]
    assert message.get("ChanVariable") == "c=3"
    assert message.flat()["ChanVariable"] == "a=1\nb=2\nc=3"


def test_names_are_found_in_any_case() -> None:
    assert parse("Event: Cdr\r\nUniqueID: 7").get("Uniqueid") == "7"
    assert parse("Event: Cdr").get("Uniqueid") is None


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("Key:value", {"Key": "value"}),
        ("Key: ", {"Key": ""}),
        ("Key:", {"Key": ""}),
        ("Key:  two", {"Key": " two"}),
        ("URL: sip:a@b:5060", {"URL": "sip:a@b:5060"}),
        ("no colon", {"": "no colon"}),
    ],
)
def test_lines(line: str, headers: dict[str, str]) -> None:
    assert parse(line).headers == headers


def test_bytes_that_are_no_text_are_replaced_not_lost() -> None:
    (message,) = read(GREETING + b"Event: A\r\nName: \xff\x00ok\r\n\r\n")
    assert message.get("Name") == "\ufffd\ufffdok"


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * 300, b"\0\1\2"]
)
def test_another_server_is_refused(data: bytes) -> None:
    with pytest.raises(AsteriskError, match="no AMI server"):
        read(data)


def test_a_message_without_end_is_refused() -> None:
    reader = MessageReader()
    reader.feed(GREETING)
    with pytest.raises(AsteriskError, match="longer than"):
        for _ in range(100):
            reader.feed(b"x" * 65536)


@given(st.binary(max_size=300))
def test_garbage_never_raises_anything_else(data: bytes) -> None:
    read(GREETING, data, b"\r\n\r\n")


# --- answers ------------------------------------------------------------------------------------


def test_a_plain_answer_is_complete_with_its_response() -> None:
    answer = Answer()
    assert answer.takes(parse("Response: Success"))
    assert answer.add(parse("Response: Success\r\nMessage: Originate successfully queued"))


def test_a_list_is_complete_with_its_end() -> None:
    answer = Answer()
    assert not answer.add(parse("Response: Success\r\nEventList: start"))
    assert not answer.add(parse("Event: CoreShowChannel\r\nUniqueid: 1"))
    assert answer.add(parse("Event: CoreShowChannelsComplete\r\nEventList: Complete"))
    assert [event.get("Uniqueid") for event in answer.events] == ["1"]


def test_an_event_before_the_response_is_no_part_of_the_answer() -> None:
    assert not Answer().takes(parse("Event: OriginateResponse\r\nActionID: 1"))


# --- writing ------------------------------------------------------------------------------------


def test_an_action() -> None:
    headers = {"Channel": "PJSIP/1@t", "Variable": ["A=1", "B=x y"]}
    assert serialize("Originate", headers, "id-1") == (
        b"Action: Originate\r\nActionID: id-1\r\nChannel: PJSIP/1@t\r\n"
        b"Variable: A=1\r\nVariable: B=x y\r\n\r\n"
    )


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\r\nAction: Command", "a\0", "a\x1bb", "\ud800"])
def test_a_value_cannot_leave_its_line(bad: str) -> None:
    with pytest.raises(BadRequest) as refused:
        serialize("Originate", {"CallerID": bad}, "1")
    assert refused.value.parameter == "CallerID"
    with pytest.raises(BadRequest):
        serialize("Ping", {}, bad)


@pytest.mark.parametrize("name", ["", "A B", "Ping\r\nX", "Ping:", "1x"])
def test_the_action_is_a_name(name: str) -> None:
    with pytest.raises(BadRequest):
        serialize(name, {}, "1")


@pytest.mark.parametrize("name", ["", "Chan nel", "Channel:", "Channel\r\nX", "Action", "ACTIONID"])
def test_a_header_is_a_name(name: str) -> None:
    with pytest.raises(BadRequest):
        serialize("Ping", {name: "1"}, "1")


@pytest.mark.parametrize(
    "item", ["A", "=x", "SHELL(x)=1", "a b=1", "__A=1", "1A=1", "А=1", "A,B=1"]
)
def test_a_variable_is_name_and_value(item: str) -> None:
    with pytest.raises(BadRequest) as refused:
        serialize("Originate", {"Variable": [item]}, "1")
    assert refused.value.parameter == "Variable"


@pytest.mark.parametrize("value", ["a,b", 'say "hi"', "back\\slash"])
def test_a_variable_that_asterisk_would_change_is_refused(value: str) -> None:
    with pytest.raises(BadRequest, match="NAME holds"):
        serialize("Originate", {"variable": f"NAME={value}"}, "1")


@pytest.mark.parametrize("name", ["Application", "data"])
def test_originate_never_runs_an_application(name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        serialize("Originate", {name: "System"}, "1")
    assert refused.value.parameter == name


def test_mixmonitor_never_runs_a_command() -> None:
    with pytest.raises(BadRequest):
        serialize("MixMonitor", {"Channel": "x", "Command": "rm"}, "1")


def test_the_longest_line_that_asterisk_reads() -> None:
    fits = "x" * (MAX_LINE - len("Data: "))
    serialize("UserEvent", {"Data": fits}, "1")
    with pytest.raises(BadRequest, match="1023 bytes"):
        serialize("UserEvent", {"Data": fits + "x"}, "1")
    with pytest.raises(BadRequest):
        serialize("UserEvent", {"Data": "ж" * 600}, "1")


def test_at_most_128_headers() -> None:
    serialize("Originate", {"Variable": [f"V{n}=1" for n in range(126)]}, "1")
    with pytest.raises(BadRequest, match="129"):
        serialize("Originate", {"Variable": [f"V{n}=1" for n in range(127)]}, "1")


def test_a_refusal_does_not_tell_the_value() -> None:
    with pytest.raises(BadRequest) as refused:
        serialize("Login", {"Secret": "top\nsecret"}, "1")
    assert "secret" not in refused.value.why


@given(st.dictionaries(st.sampled_from(["A", "B", "C"]), st.text(max_size=40)))
def test_what_is_written_is_read_back(headers: dict[str, str]) -> None:
    try:
        wire = serialize("Test", headers, "1")
    except BadRequest:
        return
    (message,) = read(GREETING + wire)
    assert message.headers == {"Action": "Test", "ActionID": "1", **headers}
