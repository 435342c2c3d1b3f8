"""The SpeechKit client against the local server: real gRPC, real recognition."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from yandex.cloud.ai.stt.v3 import stt_pb2, stt_service_pb2_grpc

from backend.errors import ConfigError, SynthesisUnavailable
from backend.media.gate import Audio, EndOfUtterance, Silence, VoiceGate
from backend.media.voice import VoiceDetector
from backend.ports import RecognitionFailed, RecognitionOptions, RecognitionStream, StreamEnded
from backend.speech import speechkit, text
from backend.speech.local_process import LocalSpeechServer
from backend.speech.rolling import RollingRecognizer, RollLimits
from backend.speech.speechkit import (
    ApiKey,
    Endpoint,
    IamToken,
    SpeechKitRecognizer,
    SpeechKitSynthesizer,
)
from tests.fixtures_speech import (
    Hearing,
    ServerFactory,
    assert_no_threads,
    line_noise,
    local,
    send,
)

ENGLISH = RecognitionOptions(languages=("en-US",))
Say = Callable[[str], bytes]
PHRASES = ("yes", "no", "operator", "yes please", "no thank you")


@pytest.fixture
def silent_address() -> Iterator[str]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def utter(stream: RecognitionStream, pcm: bytes) -> None:
    send(stream, line_noise(300) + pcm + line_noise(300))
    stream.end_utterance()


def test_partials_then_the_final_with_words_and_times(
    recognizer: SpeechKitRecognizer, say: Say
) -> None:
    hearing = Hearing()
    stream = recognizer.open(ENGLISH, hearing)
    stream.silence(2_000)
    utter(stream, say("yes please"))
    hearing.wait_ends()
    assert [partial.text for partial in hearing.partials] == ["yes", "yes please"]
    (final,) = hearing.finals
    assert (final.text, final.language) == ("yes please", "en-US")
    assert final.confidence is not None
    assert 0 < final.confidence <= 1
    length_ms = len(say("yes please")) // 16
    first, last = final.words
    assert (first.text, last.text) == ("yes", "please")
    assert 2_300 <= first.start_ms < first.end_ms <= last.start_ms
    assert last.end_ms <= 2_300 + length_ms + 200
    assert hearing.ends[0].at_ms == 2_600 + length_ms
    assert hearing.threads == {"stt-1"}
    stream.close()
    assert isinstance(hearing.wait_last(), StreamEnded)


def test_many_utterances_in_one_session(recognizer: SpeechKitRecognizer, say: Say) -> None:
    hearing = Hearing()
    stream = recognizer.open(ENGLISH, hearing)
    for phrase in PHRASES:
        utter(stream, say(phrase))
        stream.silence(1_000)
    stream.close()
    hearing.wait_last()
    assert hearing.texts == list(PHRASES)
    starts = [final.start_ms for final in hearing.finals]
    assert starts == sorted(starts)
    assert all(gap > 1_300 for gap in map(int.__sub__, starts[1:], starts))


def test_no_partials_when_none_are_wanted(recognizer: SpeechKitRecognizer, say: Say) -> None:
    hearing = Hearing()
    stream = recognizer.open(RecognitionOptions(languages=("en-US",), partials=False), hearing)
    utter(stream, say("operator"))
    hearing.wait_ends()
    assert not hearing.partials
    assert hearing.texts == ["operator"]


def test_closing_delivers_what_is_owed(recognizer: SpeechKitRecognizer, say: Say) -> None:
    hearing = Hearing()
    stream = recognizer.open(ENGLISH, hearing)
    send(stream, line_noise(300) + say("no") + line_noise(300))
    stream.close()
    assert isinstance(hearing.wait_last(), StreamEnded)
    assert hearing.texts == ["no"]


@pytest.mark.parametrize("text", ["banana", "tomorrow", "good morning", "call me later"])
def test_other_words_are_not_answers(recognizer: SpeechKitRecognizer, say: Say, text: str) -> None:
    hearing = Hearing()
    utter(recognizer.open(ENGLISH, hearing), say(text))
    hearing.wait_ends()
    assert hearing.texts == []


@pytest.mark.parametrize("amplitude", [0, 5, 100, 1_000, 5_000])
def test_noise_is_no_answer(recognizer: SpeechKitRecognizer, amplitude: float) -> None:
    hearing = Hearing()
    utter(recognizer.open(ENGLISH, hearing), line_noise(1_500, amplitude))
    hearing.wait_ends()
    assert hearing.texts == []


def test_digits(recognizer: SpeechKitRecognizer, say: Say) -> None:
    digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    hearing = Hearing()
    stream = recognizer.open(RecognitionOptions(("en-US",), "grammar:digits"), hearing)
    for digit in digits:
        utter(stream, say(digit))
    hearing.wait_ends(len(digits))
    right = sum(digit == text for digit, text in zip(digits, hearing.texts, strict=True))
    assert right >= 9


def test_speechkits_own_classifier_ends_utterances(
    speech_server: LocalSpeechServer, say: Say
) -> None:
    client = SpeechKitRecognizer(
        local(speech_server.address), end_of_utterance="speechkit", max_pause_ms=400
    )
    hearing = Hearing()
    stream = client.open(ENGLISH, hearing)
    for phrase in ("yes", "no thank you"):
        send(stream, line_noise(300) + say(phrase) + line_noise(300))
        stream.end_utterance()  # is not ours to say in this mode
        stream.silence(500)
    hearing.wait_ends(2)
    assert hearing.texts == ["yes", "no thank you"]
    client.close()


def test_through_the_voice_gate(recognizer: SpeechKitRecognizer, say: Say) -> None:
    hearing = Hearing()
    stream = recognizer.open(ENGLISH, hearing)
    gate = VoiceGate(VoiceDetector())
    pcm = line_noise(3_000) + say("operator") + line_noise(2_000, seed=2)
    sent_ms = 0
    for place in range(0, len(pcm), 320):
        for action in gate.push(pcm[place : place + 320]):
            if isinstance(action, Audio):
                stream.feed(action.pcm)
                sent_ms += len(action.pcm) // 16
            elif isinstance(action, Silence):
                stream.silence(action.duration_ms)
            elif isinstance(action, EndOfUtterance):
                stream.end_utterance()
    hearing.wait_ends()
    (final,) = hearing.finals
    assert final.text == "operator"
    assert 3_000 <= final.start_ms < 3_300
    assert sent_ms < 2_000  # of more than 5,500


def test_twenty_streams_at_once(recognizer: SpeechKitRecognizer, say: Say) -> None:
    hearings = [Hearing() for _ in range(20)]
    streams = [recognizer.open(ENGLISH, hearing) for hearing in hearings]
    for number, stream in enumerate(streams):
        utter(stream, say(PHRASES[number % 5]))
    for number, hearing in enumerate(hearings):
        hearing.wait_ends()
        assert hearing.texts == [PHRASES[number % 5]]


def test_the_servers_warning_is_logged(
    recognizer: SpeechKitRecognizer, say: Say, caplog: pytest.LogCaptureFixture
) -> None:
    hearing = Hearing()
    with caplog.at_level(logging.WARNING):
        utter(recognizer.open(RecognitionOptions(languages=("ru-RU",)), hearing), say("yes"))
        hearing.wait_ends()
    assert "SpeechKit warns: asked for ru-RU" in caplog.text


def test_a_wrong_key_is_final_and_never_shown(start_speech_server: ServerFactory) -> None:
    server = start_speech_server("--api-key", "right-key")
    endpoint = Endpoint(
        server.address, "speechkit_stt", credentials=ApiKey("wrong-key"), insecure=True
    )
    assert "wrong-key" not in repr(endpoint)
    client = SpeechKitRecognizer(endpoint)
    hearing = Hearing()
    client.open(ENGLISH, hearing)
    failure = hearing.wait_last()
    assert isinstance(failure, RecognitionFailed)
    assert not failure.retryable
    assert "speechkit_api_key" in failure.message
    assert server.address in failure.message
    assert "wrong-key" not in failure.message
    client.close()
    synthesizer = SpeechKitSynthesizer(endpoint)
    with pytest.raises(SynthesisUnavailable, match="speechkit_api_key"):
        synthesizer.synthesize("yes", language="en-US", timeout_s=5)
    synthesizer.close()


def test_the_right_key(start_speech_server: ServerFactory, say: Say) -> None:
    server = start_speech_server("--api-key", "right-key")
    endpoint = Endpoint(server.address, "x", credentials=ApiKey("right-key"), insecure=True)
    client = SpeechKitRecognizer(endpoint)
    hearing = Hearing()
    utter(client.open(ENGLISH, hearing), say("yes"))
    hearing.wait_ends()
    client.close()


def test_metadata() -> None:
    endpoint = Endpoint("x:1", "x", credentials=IamToken("T"), folder_id="F")
    headers = dict(endpoint.metadata())
    assert headers["authorization"] == "Bearer T"
    assert headers["x-folder-id"] == "F"
    assert headers["x-client-request-id"] != dict(endpoint.metadata())["x-client-request-id"]


def test_an_unknown_model_is_final(recognizer: SpeechKitRecognizer) -> None:
    hearing = Hearing()
    recognizer.open(RecognitionOptions(("en-US",), "grammar:none"), hearing)
    failure = hearing.wait_last()
    assert isinstance(failure, RecognitionFailed)
    assert not failure.retryable
    assert "grammar:none" in failure.message


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    client = SpeechKitRecognizer(local(address))
    hearing = Hearing()
    client.open(ENGLISH, hearing)
    failure = hearing.wait_last()
    assert isinstance(failure, RecognitionFailed)
    assert failure.retryable
    assert "check speechkit_stt" in failure.message
    client.close()
    assert_no_threads("stt-")


def test_no_answer_is_a_failure_and_leaves_no_thread(silent_address: str) -> None:
    client = SpeechKitRecognizer(local(silent_address), answer_s=0.3)
    hearing = Hearing()
    stream = client.open(ENGLISH, hearing)
    stream.feed(line_noise(100))
    stream.end_utterance()
    failure = hearing.wait_last()
    assert isinstance(failure, RecognitionFailed)
    assert failure.retryable
    assert "did not answer in time" in failure.message
    client.close()
    assert_no_threads("stt-")


class Mute(stt_service_pb2_grpc.RecognizerServicer):
    """Alive, but answers only what ``answers`` holds, one response for each end of utterance."""

    def __init__(self, *answers: stt_pb2.StreamingResponse) -> None:
        self._answers = list(answers)

    def RecognizeStreaming(
        self, request_iterator: Iterator[stt_pb2.StreamingRequest], context: object
    ) -> Iterator[stt_pb2.StreamingResponse]:
        for request in request_iterator:
            if request.WhichOneof("Event") == "eou":
                yield from self._answers
                working = stt_pb2.StatusCode(code_type=stt_pb2.WORKING)
                yield stt_pb2.StreamingResponse(status_code=working)


@contextmanager
def serving(servicer: Mute) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    stt_service_pb2_grpc.add_RecognizerServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def final_response(index: int, text: str) -> stt_pb2.StreamingResponse:
    update = stt_pb2.AlternativeUpdate(alternatives=[stt_pb2.Alternative(text=text)])
    cursors = stt_pb2.AudioCursors(final_index=index, received_data_ms=100)
    return stt_pb2.StreamingResponse(final=update, audio_cursors=cursors)


def test_an_end_that_is_not_confirmed_by_a_living_session() -> None:
    with serving(Mute()) as address:
        client = SpeechKitRecognizer(local(address), answer_s=0.2)
        hearing = Hearing()
        stream = client.open(ENGLISH, hearing)
        stream.end_utterance()
        hearing.wait_ends()
        stream.close()
        assert isinstance(hearing.wait_last(), StreamEnded)
        client.close()


def test_finals_come_once_with_their_normalised_text() -> None:
    refined = stt_pb2.StreamingResponse(
        final_refinement=stt_pb2.FinalRefinement(
            final_index=0,
            normalized_text=stt_pb2.AlternativeUpdate(
                alternatives=[stt_pb2.Alternative(text="21")]
            ),
        )
    )
    end = stt_pb2.StreamingResponse(eou_update=stt_pb2.EouUpdate(time_ms=100))
    with serving(Mute(final_response(0, "twenty one"), end, refined)) as address:
        client = SpeechKitRecognizer(local(address), normalize=True)
        hearing = Hearing()
        stream = client.open(ENGLISH, hearing)
        stream.end_utterance()
        hearing.wait_ends()
        assert hearing.texts == ["21"]
        client.close()


def test_a_normalised_text_that_does_not_come() -> None:
    end = stt_pb2.StreamingResponse(eou_update=stt_pb2.EouUpdate(time_ms=100))
    with serving(Mute(final_response(0, "twenty one"), end)) as address:
        client = SpeechKitRecognizer(local(address), normalize=True, answer_s=0.2)
        hearing = Hearing()
        client.open(ENGLISH, hearing).end_utterance()
        hearing.wait_ends()
        assert hearing.texts == ["twenty one"]
        client.close()


def test_a_service_that_takes_nothing_fails_the_stream(silent_address: str) -> None:
    client = SpeechKitRecognizer(local(silent_address))
    hearing = Hearing()
    stream = client.open(ENGLISH, hearing)
    for _ in range(400):
        stream.feed(line_noise(100))
    failure = hearing.wait_last()
    assert isinstance(failure, RecognitionFailed)
    assert "takes no audio" in failure.message
    client.close()


def test_the_sessions_deadline(silent_address: str) -> None:
    client = SpeechKitRecognizer(local(silent_address), session_s=0.2)
    hearing = Hearing()
    client.open(ENGLISH, hearing)
    failure = hearing.wait_last()
    assert isinstance(failure, RecognitionFailed)
    assert failure.retryable
    client.close()


def test_closing_the_recognizer_fails_its_streams(speech_server: LocalSpeechServer) -> None:
    client = SpeechKitRecognizer(local(speech_server.address))
    hearing = Hearing()
    stream = client.open(ENGLISH, hearing)
    client.close()
    assert isinstance(hearing.events[-1], RecognitionFailed)
    stream.feed(line_noise(100))
    stream.close()
    assert_no_threads("stt-")
    with pytest.raises(RuntimeError):
        client.open(ENGLISH, hearing)


def test_a_receiver_that_raises_does_not_end_the_stream(
    recognizer: SpeechKitRecognizer, say: Say, caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()

    def receive(event: object) -> None:
        if isinstance(event, StreamEnded):
            ended.set()
        raise ValueError("not mine")

    stream = recognizer.open(ENGLISH, receive)
    utter(stream, say("yes"))
    stream.close()
    assert ended.wait(10)
    assert "not mine" in caplog.text


def test_killed_in_mid_stream_and_back(start_speech_server: ServerFactory, say: Say) -> None:
    server = start_speech_server()
    client = SpeechKitRecognizer(local(server.address))
    hearing = Hearing()
    limits = RollLimits(back_off_ms=(0, *[100] * 100))
    stream = RollingRecognizer(client, limits).open(ENGLISH, hearing)
    utter(stream, say("yes"))
    hearing.wait_ends()
    pcm = line_noise(300) + say("operator") + line_noise(300)
    send(stream, pcm[:8_000])
    server.kill()
    back = start_speech_server(port=server.port)
    send(stream, pcm[8_000:])
    stream.end_utterance()
    for _ in range(80):  # the call goes on: each piece of it is a chance to connect again
        if len(hearing.ends) == 2:
            break
        stream.silence(100)
        threading.Event().wait(0.05)
    hearing.wait_ends(2)
    assert hearing.texts == ["yes", "operator"]
    assert back.alive
    stream.close()
    assert isinstance(hearing.wait_last(), StreamEnded)
    client.close()


def test_a_long_stream_rolls_over_without_losing_or_doubling_words(
    start_speech_server: ServerFactory, say: Say
) -> None:
    server = start_speech_server("--session-s", "6")
    client = SpeechKitRecognizer(local(server.address))
    hearing = Hearing()
    limits = RollLimits(soft_ms=3_000, hard_ms=5_500)
    stream = RollingRecognizer(client, limits).open(ENGLISH, hearing)
    said, starts, now_ms = [], [], 0
    for round_ in range(25):
        phrase = PHRASES[round_ % 5]
        said.append(phrase)
        starts.append(now_ms + 300)
        utter(stream, say(phrase))
        stream.silence(400)
        now_ms += 600 + len(say(phrase)) // 16 + 400
        if round_ % 5 == 4:
            hearing.wait_ends(round_ + 1)  # a call does not come in one piece either
    stream.close()
    assert isinstance(hearing.wait_last(), StreamEnded)
    assert hearing.texts == said
    assert stream.rolled >= 8
    assert stream.reopened == 0
    assert all(abs(f.start_ms - s) < 250 for f, s in zip(hearing.finals, starts, strict=True))
    client.close()


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-made certificate for 127.0.0.1 and its key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


def test_tls(start_speech_server: ServerFactory, say: Say, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "ours")
    other, _ = certificate(tmp_path, "other")
    server = start_speech_server("--tls-cert", str(cert), "--tls-key", str(key))
    client = SpeechKitRecognizer(Endpoint(server.address, "speechkit_stt", ca_file=cert))
    hearing = Hearing()
    utter(client.open(ENGLISH, hearing), say("yes"))
    hearing.wait_ends()
    assert hearing.texts == ["yes"]
    client.close()
    stranger = SpeechKitRecognizer(Endpoint(server.address, "speechkit_stt", ca_file=other))
    refused = Hearing()
    stranger.open(ENGLISH, refused)
    failure = refused.wait_last()
    assert isinstance(failure, RecognitionFailed)
    assert "speechkit_ca_file" in failure.message
    stranger.close()


def test_a_ca_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="speechkit_ca_file"):
        Endpoint("x:1", "speechkit_stt", ca_file=tmp_path / "none.pem").connect()


def test_hints_are_recognised_by_the_local_server(
    speech_server: LocalSpeechServer, say: Say, caplog: pytest.LogCaptureFixture
) -> None:
    """What "general" refuses; what it hears it still hears; a cough is still no word."""
    client = SpeechKitRecognizer(local(speech_server.address), hints_as_model=True)
    hints = ("Balance, please!", "good morning", "бланк")
    hearing = Hearing()
    with caplog.at_level(logging.WARNING):
        stream = client.open(RecognitionOptions(("en-US",), hints=hints), hearing)
        for phrase in ("balance please", "good morning", "no thank you", "banana"):
            utter(stream, say(phrase))
        utter(stream, line_noise(400, 5_000))
        hearing.wait_ends(5)
    assert hearing.texts == ["balance please", "good morning", "no thank you"]
    assert "the dictionary does not have: бланк" in caplog.text
    client.close()
    assert_no_threads("stt-")


def final_of(*texts: str) -> stt_pb2.AlternativeUpdate:
    return stt_pb2.AlternativeUpdate(alternatives=[stt_pb2.Alternative(text=t) for t in texts])


@pytest.mark.parametrize(
    ("hints", "chosen"),
    [
        ((), "balance it"),
        (("other",), "balance it"),
        (("Balans!",), "my balans"),
        (("lanc",), "balance it"),
        (("a lance", "balans"), "a lance"),
    ],
)
def test_of_several_texts_the_hinted_one_is_taken(hints: tuple[str, ...], chosen: str) -> None:
    """SpeechKit's API takes no hints: they choose among what it offers; whole words count."""
    folded = [text.folded(hint) for hint in hints]
    update = final_of("", "balance it", "a lance", "my balans")
    found = speechkit._hypothesis(update, final=True, hints=folded)
    assert found is not None
    assert found.text == chosen


def test_the_pause_that_a_turn_asks_for_goes_to_the_service(
    speech_server: LocalSpeechServer, say: Say
) -> None:
    client = SpeechKitRecognizer(
        local(speech_server.address), end_of_utterance="speechkit", max_pause_ms=300
    )
    hearing = Hearing()
    stream = client.open(RecognitionOptions(("en-US",), max_pause_ms=2_000), hearing)
    send(stream, line_noise(300) + say("no") + line_noise(900) + say("thank you"))
    stream.silence(3_000)
    hearing.wait_ends()
    assert hearing.texts == ["no thank you"]
    client.close()
