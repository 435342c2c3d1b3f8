"""A browser's signalling, as far as Asterisk sees it: SIP over a WebSocket (RFC 7118)."""

from __future__ import annotations

import re
import uuid
from contextlib import ExitStack
from types import TracebackType

from websockets.sync.client import connect
from websockets.typing import Subprotocol

BODY = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 39998 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
)


class WebPhone:
    """``with WebPhone(port) as phone: phone.call("100")``."""

    def __init__(self, port: int) -> None:
        url = f"ws://127.0.0.1:{port}/ws"
        self._rooms = ExitStack()
        self._socket = self._rooms.enter_context(
            connect(url, subprotocols=[Subprotocol("sip")], proxy=None)
        )
        self._host = f"{uuid.uuid4().hex[:12]}.invalid"

    def __enter__(self) -> WebPhone:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rooms.close()

    def call(self, number: str) -> None:
        """Dial, and wait for the answer."""
        to = f"<sip:{number}@127.0.0.1>"
        call_id = uuid.uuid4().hex
        self._send("INVITE", number, to, call_id, BODY)
        answer = self._until(r"SIP/2.0 ([2-6]\d\d)")
        assert answer.startswith("SIP/2.0 200"), answer
        tagged = re.search(r"^To: *(.*?)\r$", answer, re.M | re.I)
        assert tagged is not None
        self._send("ACK", number, tagged[1], call_id)

    def _send(self, method: str, number: str, to: str, call_id: str, body: str = "") -> None:
        lines = [
            f"{method} sip:{number}@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/WS {self._host};branch=z9hG4bK{uuid.uuid4().hex}",
            "Max-Forwards: 70",
            f"From: <sip:web@127.0.0.1>;tag={call_id[:8]}",
            f"To: {to}",
            f"Call-ID: {call_id}",
            f"CSeq: 1 {method}",
            f"Contact: <sip:web@{self._host};transport=ws>",
        ]
        lines += ["Content-Type: application/sdp"] if body else []
        lines += [f"Content-Length: {len(body)}", "", body]
        self._socket.send("\r\n".join(lines))

    def _until(self, pattern: str) -> str:
        while True:
            message = self._socket.recv(timeout=30)
            text = message if isinstance(message, str) else message.decode()
            if re.match(pattern, text):
                return text
