"""A speech service of the test's own: SpeechKit v3's recognition, which hears in each utterance the
languages that its session allows.

    with SttServer() as server:
        … DIALOG_SPEECHKIT_STT=server.address …
        server.sessions    the languages of each session, in the order in which they began
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import grpc
from yandex.cloud.ai.stt.v3 import stt_pb2, stt_service_pb2_grpc

MAX_SESSIONS = 8  # at once
WORDS_MS = 500  # so long are the words before the end of their utterance


class SttServer(stt_service_pb2_grpc.RecognizerServicer):
    """The text of an utterance is the session's languages, "kk-KZ ru-RU"; the last one is the most
    probable."""

    def __init__(self) -> None:
        self.sessions: list[tuple[str, ...]] = []
        self._server = grpc.server(ThreadPoolExecutor(MAX_SESSIONS))
        stt_service_pb2_grpc.add_RecognizerServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> SttServer:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(None).wait()

    def RecognizeStreaming(
        self, request_iterator: Iterator[stt_pb2.StreamingRequest], context: object
    ) -> Iterator[stt_pb2.StreamingResponse]:
        languages: tuple[str, ...] = ()
        at_ms = utterances = 0
        for request in request_iterator:
            kind = request.WhichOneof("Event")
            answer = stt_pb2.StreamingResponse()
            if kind == "session_options":
                model = request.session_options.recognition_model
                languages = tuple(model.language_restriction.language_code)
                self.sessions.append(languages)
                answer.status_code.code_type = stt_pb2.WORKING
                yield answer
            elif kind == "chunk":
                at_ms += len(request.chunk.data) // 16
            elif kind == "silence_chunk":
                at_ms += request.silence_chunk.duration_ms
            elif kind == "eou":
                answer.audio_cursors.received_data_ms = at_ms
                answer.audio_cursors.final_index = utterances
                answer.final.alternatives.append(_heard(languages, at_ms))
                yield answer
                yield stt_pb2.StreamingResponse(eou_update=stt_pb2.EouUpdate(time_ms=at_ms))
                utterances += 1


def _heard(languages: tuple[str, ...], at_ms: int) -> stt_pb2.Alternative:
    return stt_pb2.Alternative(
        text=" ".join(languages),
        start_time_ms=max(at_ms - WORDS_MS, 0),
        end_time_ms=at_ms,
        languages=[
            stt_pb2.LanguageEstimation(language_code=code, probability=n / len(languages))
            for n, code in enumerate(languages, 1)
        ],
    )
