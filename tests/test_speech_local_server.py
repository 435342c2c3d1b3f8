"""The local server holds its clients to SpeechKit's API and limits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import grpc
import pytest
from yandex.cloud.ai.stt.v3 import stt_pb2, stt_service_pb2_grpc
from yandex.cloud.ai.tts.v3 import tts_pb2, tts_service_pb2_grpc

from backend.errors import SpeechError, SynthesisUnavailable
from backend.media.pcm import level_dbfs, read_wav
from backend.ports import RecognitionOptions
from backend.speech.limits import Gatekeeper, Refused
from backend.speech.local_process import LocalSpeechServer
from backend.speech.speechkit import SpeechKitRecognizer, SpeechKitSynthesizer
from tests.fixtures_speech import Hearing, ServerFactory, line_noise, local, send

Say = Callable[[str], bytes]
Request = stt_pb2.StreamingRequest


def options(rate_hz: int = 8000, channels: int = 1) -> Request:
    raw = stt_pb2.RawAudio(
        audio_encoding=stt_pb2.RawAudio.LINEAR16_PCM,
        sample_rate_hertz=rate_hz,
        audio_channel_count=channels,
    )
    model = stt_pb2.RecognitionModelOptions(
        model="general", audio_format=stt_pb2.AudioFormatOptions(raw_audio=raw)
    )
    eou = stt_pb2.EouClassifierOptions(external_classifier=stt_pb2.ExternalEouClassifier())
    return Request(
        session_options=stt_pb2.StreamingOptions(recognition_model=model, eou_classifier=eou)
    )


def chunk(pcm: bytes) -> Request:
    return Request(chunk=stt_pb2.AudioChunk(data=pcm))


def recognize(address: str, requests: Iterable[Request]) -> list[stt_pb2.StreamingResponse]:
    with grpc.insecure_channel(address) as channel:
        stub = stt_service_pb2_grpc.RecognizerStub(channel)
        return list(stub.RecognizeStreaming(iter(requests), timeout=15))


def refusal(address: str, requests: Iterable[Request]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        recognize(address, requests)
    code: grpc.StatusCode = caught.value.code()
    return code


def synthesize(address: str, request: tts_pb2.UtteranceSynthesisRequest) -> bytes:
    with grpc.insecure_channel(address) as channel:
        stub = tts_service_pb2_grpc.SynthesizerStub(channel)
        responses = stub.UtteranceSynthesis(request, timeout=15)
        return b"".join(response.audio_chunk.data for response in responses)


@pytest.mark.parametrize(
    "first",
    [
        chunk(bytes(320)),
        Request(eou=stt_pb2.Eou()),
        options(rate_hz=44100),
        options(channels=2),
        Request(session_options=stt_pb2.StreamingOptions()),
    ],
    ids=["chunk", "eou", "44100", "stereo", "empty"],
)
def test_what_a_session_must_begin_with(speech_server: LocalSpeechServer, first: Request) -> None:
    assert refusal(speech_server.address, [first]) == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("later", [options(), chunk(b"abc"), Request()], ids=str)
def test_what_must_not_come_later(speech_server: LocalSpeechServer, later: Request) -> None:
    code = refusal(speech_server.address, [options(), later])
    assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_nothing_at_all(speech_server: LocalSpeechServer) -> None:
    assert refusal(speech_server.address, []) == grpc.StatusCode.INVALID_ARGUMENT


def test_every_response_says_where_it_is(speech_server: LocalSpeechServer, say: Say) -> None:
    pcm = line_noise(300) + say("yes") + line_noise(300)
    eou = Request(eou=stt_pb2.Eou())
    responses = recognize(speech_server.address, [options(), chunk(pcm), eou, chunk(pcm), eou])
    assert len({response.session_uuid.uuid for response in responses}) == 1
    finals = [response for response in responses if response.HasField("final")]
    assert [final.final.alternatives[0].text for final in finals] == ["yes", "yes"]
    assert [final.audio_cursors.final_index for final in finals] == [0, 1]
    ends = [r.eou_update.time_ms for r in responses if r.HasField("eou_update")]
    assert ends == [len(pcm) // 16, len(pcm) // 8]
    received = [response.audio_cursors.received_data_ms for response in responses]
    assert received == sorted(received)


def test_16_khz(speech_server: LocalSpeechServer) -> None:
    spec = tts_pb2.AudioFormatOptions(
        raw_audio=tts_pb2.RawAudio(
            audio_encoding=tts_pb2.RawAudio.LINEAR16_PCM, sample_rate_hertz=16000
        )
    )
    request = tts_pb2.UtteranceSynthesisRequest(
        text="operator", hints=[tts_pb2.Hints(voice="rms")], output_audio_spec=spec
    )
    pcm = line_noise(600) + synthesize(speech_server.address, request) + line_noise(600)
    responses = recognize(speech_server.address, [options(rate_hz=16000), chunk(pcm)])
    texts = [r.final.alternatives[0].text for r in responses if r.HasField("final")]
    assert texts == ["operator"]


def slowly(*requests: Request, pause_s: float) -> Iterator[Request]:
    for request in requests:
        yield request
        time.sleep(pause_s)


def test_limits_of_a_session(start_speech_server: ServerFactory) -> None:
    server = start_speech_server("--session-s", "1", "--session-bytes", "12000", "--idle-s", "0.4")
    exhausted, late = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED
    noise, quiet = (
        chunk(line_noise(500)),
        Request(silence_chunk=stt_pb2.SilenceChunk(duration_ms=600)),
    )
    assert refusal(server.address, [options(), noise, noise]) == exhausted  # bytes
    assert refusal(server.address, [options(), quiet, quiet]) == exhausted  # time of the audio
    assert refusal(server.address, slowly(options(), quiet, pause_s=0.8)) == late  # no message
    little = [Request(silence_chunk=stt_pb2.SilenceChunk(duration_ms=1))] * 10
    assert refusal(server.address, slowly(options(), *little, pause_s=0.2)) == exhausted  # time


def test_requests_per_second() -> None:
    now = 0.0
    gate = Gatekeeper(3, clock=lambda: now)
    for _ in range(3):
        gate.admit(())
    with pytest.raises(Refused) as caught:
        gate.admit(())
    assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    now = 1.0
    gate.admit(())


def test_requests_per_second_over_the_wire(start_speech_server: ServerFactory) -> None:
    server = start_speech_server("--requests-per-s", "2")
    client = SpeechKitRecognizer(local(server.address))
    hearings = [Hearing() for _ in range(5)]
    for hearing in hearings:
        client.open(RecognitionOptions(("en-US",)), hearing).close()
    for hearing in hearings:
        hearing.wait_last()
    failures = [hearing.failure for hearing in hearings if hearing.failure]
    assert len(failures) == 3
    assert all(failure.retryable and "quota" in failure.message for failure in failures)
    client.close()


def test_speech_comes_while_the_rest_is_spoken(speech_server: LocalSpeechServer) -> None:
    client = SpeechKitSynthesizer(local(speech_server.address))
    text = "This is the first sentence. " + "And here is another one, which is longer. " * 5
    began = time.monotonic()
    times, size = [], 0
    for piece in client.stream(text, language="en-US", timeout_s=10):
        assert len(piece) % 2 == 0
        times.append(time.monotonic() - began)
        size += len(piece)
    client.close()
    assert size > 16_000 * 8
    assert len(times) > 40, "in pieces of 200 ms at most"
    assert times[0] < times[-1] / 2, "the first sentence is there before the last is spoken"


def test_the_pieces_of_a_text_know_their_times(speech_server: LocalSpeechServer) -> None:
    raw = tts_pb2.RawAudio(audio_encoding=tts_pb2.RawAudio.LINEAR16_PCM, sample_rate_hertz=8000)
    request = tts_pb2.UtteranceSynthesisRequest(
        text="One. Two. … Three!",
        hints=[tts_pb2.Hints(voice="kal")],
        output_audio_spec=tts_pb2.AudioFormatOptions(raw_audio=raw),
    )
    with grpc.insecure_channel(speech_server.address) as channel:
        stub = tts_service_pb2_grpc.SynthesizerStub(channel)
        responses = list(stub.UtteranceSynthesis(request, timeout=15))
    end_ms = 0
    for response in responses:
        assert response.start_ms == pytest.approx(end_ms, abs=3)
        end_ms = response.start_ms + response.length_ms


def test_synthesis_is_limited_and_the_client_splits(
    start_speech_server: ServerFactory,
) -> None:
    server = start_speech_server("--synthesis-chars", "250")
    with pytest.raises(grpc.RpcError) as caught:
        synthesize(server.address, tts_pb2.UtteranceSynthesisRequest(text="a " * 126))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    client = SpeechKitSynthesizer(local(server.address))
    text = "This is a sentence of some length. " * 20
    pcm = client.synthesize(text, language="en-US", timeout_s=20)
    assert len(pcm) / 16_000 > 20
    client.close()


@pytest.mark.parametrize(
    ("language", "text"),
    [("en-US", "Hello there"), ("ru-RU", "Добрый день"), ("de-DE", "Guten Tag"), ("kk", "Сәлем")],
)
def test_it_speaks(speech_server: LocalSpeechServer, language: str, text: str) -> None:
    client = SpeechKitSynthesizer(local(speech_server.address))
    pcm = client.synthesize(text, language=language, timeout_s=10)
    assert 0.3 < len(pcm) / 16_000 < 3
    assert -40 < level_dbfs(pcm) < -5
    assert client.synthesize(" … ", language=language, timeout_s=10) == b""
    client.close()


def test_speed(speech_server: LocalSpeechServer) -> None:
    lengths = []
    for language in ("en-US", "ru-RU"):
        for speed in (0.7, 1.0, 1.5):
            client = SpeechKitSynthesizer(local(speech_server.address), speed=speed)
            lengths.append(len(client.synthesize("one two", language=language, timeout_s=10)))
            client.close()
    assert lengths[0] > lengths[1] > lengths[2]
    assert lengths[3] > lengths[4] > lengths[5]


def test_a_text_is_never_a_command(
    speech_server: LocalSpeechServer, tmp_path: os.PathLike[str]
) -> None:
    client = SpeechKitSynthesizer(local(speech_server.address))
    trap = os.path.join(tmp_path, "trap")  # noqa: PTH118
    for text in (f"$(touch {trap})", f"-o {trap}", f"`touch {trap}`; touch {trap}"):
        client.synthesize(text, language="en-US", timeout_s=10)
        client.synthesize(text, language="ru-RU", timeout_s=10)
    assert not os.path.exists(trap)  # noqa: PTH110
    client.close()


def test_the_default_format_is_a_wav_file(speech_server: LocalSpeechServer) -> None:
    request = tts_pb2.UtteranceSynthesisRequest(text="да")
    rate_hz, pcm = read_wav(synthesize(speech_server.address, request))
    assert rate_hz == 22050
    assert len(pcm) > 5_000


def test_voices(speech_server: LocalSpeechServer) -> None:
    client = SpeechKitSynthesizer(local(speech_server.address), voice="nobody", language="ru-RU")
    with pytest.raises(SynthesisUnavailable, match="'nobody' is unknown"):
        client.synthesize("да", language="ru-RU", timeout_s=10)
    with pytest.raises(SynthesisUnavailable, match="no voice speaks 'fr-FR'"):
        client.synthesize("oui", language="fr-FR", timeout_s=10)
    client.close()
    with pytest.raises(SynthesisUnavailable, match=r"closed|CANCELLED"):
        client.synthesize("yes", language="en-US", timeout_s=10)


def test_spoken_and_heard(
    speech_server: LocalSpeechServer, recognizer: SpeechKitRecognizer
) -> None:
    for voice in ("kal", "slt", "rms"):
        client = SpeechKitSynthesizer(local(speech_server.address), voice=voice, language="en-US")
        for text in ("yes", "no", "operator", "no thank you"):
            pcm = client.synthesize(text, language="en-US", timeout_s=10)
            hearing = Hearing()
            stream = recognizer.open(RecognitionOptions(("en-US",)), hearing)
            send(stream, line_noise(300) + pcm + line_noise(300))
            stream.end_utterance()
            hearing.wait_ends()
            assert hearing.texts == [text], voice
            stream.close()
        client.close()


def test_a_port_in_use(speech_server: LocalSpeechServer) -> None:
    with pytest.raises(SpeechError, match="exit code 1"):
        LocalSpeechServer(port=speech_server.port)


def test_it_ends_with_its_parent() -> None:
    script = (
        "from backend.speech.local_process import LocalSpeechServer\n"
        "server = LocalSpeechServer()\n"
        "print(server.pid, flush=True)\n"
        "import os; os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    pid = int(parent.stdout)
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
