"""Recognition and synthesis: SpeechKit's, or the local server's, which is kept here.

grpc is imported in the functions: this module is also loaded in the web process, which forks.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from backend.app.home import SpeechAddress
from backend.config import Settings
from backend.errors import SpeechError
from backend.ports import CallRecognizer
from backend.supervisor import Ready, Spec, Supervisor

if TYPE_CHECKING:
    from backend.speech.endpoint import Endpoint
    from backend.speech.synthesis import SpeechKitSynthesizer

NICENESS = 10


def start_speech(settings: Settings, supervisor: Supervisor) -> SpeechAddress:
    """Where speech is served; the local server is started when it is wanted."""
    if settings.speech == "speechkit":
        return SpeechAddress(settings.speechkit_stt, settings.speechkit_tts, local=False)
    port = settings.speech_local_port
    if port == 0:  # chosen here: it must be the same again when the server is restarted
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
    supervisor.start(Spec("speech", run_speech, (port, settings.speech_local_phrases)))
    address = f"127.0.0.1:{port}"
    return SpeechAddress(address, address, local=True)


def run_speech(stop: threading.Event, ready: Ready, local: tuple[int, tuple[str, ...]]) -> None:
    """Target of the speech process: keeps the local server, at that port, with those phrases."""
    from backend.speech.local_process import LocalSpeechServer

    # On a machine that is short of processor time a caller's audio goes before its recognition:
    # late frames make a late stop of the prompt, late text only a late answer.
    os.nice(NICENESS)
    port, phrases = local
    server = LocalSpeechServer(port=port, arguments=[f"--phrase={phrase}" for phrase in phrases])
    try:
        ready({})
        while not stop.wait(0.5):
            if not server.alive:
                raise SpeechError("the local speech server has died")
    finally:
        server.stop()


def open_speech(
    settings: Settings, where: SpeechAddress, rooms: ExitStack
) -> tuple[CallRecognizer, SpeechKitSynthesizer]:
    """Recogniser and synthesiser, closed with ``rooms``."""
    from backend.speech.rolling import RollingRecognizer
    from backend.speech.speechkit import SpeechKitRecognizer
    from backend.speech.synthesis import SpeechKitSynthesizer

    recognizer = SpeechKitRecognizer(
        _endpoint(settings, where, where.stt, "speechkit_stt"),
        end_of_utterance=settings.end_of_utterance,
        max_pause_ms=settings.end_silence_ms,
        # A little less than the call's patience: then its own words say what was wrong.
        answer_s=settings.recognition_s * 0.9,
        hints_as_model=where.local,
    )
    rooms.callback(recognizer.close)
    synthesizer = SpeechKitSynthesizer(
        _endpoint(settings, where, where.tts, "speechkit_tts"),
        voice=settings.speech_voice,
        language=settings.speech_language,
    )
    rooms.callback(synthesizer.close)
    rolling = RollingRecognizer(recognizer, end_of_utterance=settings.end_of_utterance)
    return rolling, synthesizer


def _endpoint(settings: Settings, where: SpeechAddress, address: str, name: str) -> Endpoint:
    from backend.speech.endpoint import ApiKey, Endpoint, IamToken

    if where.local:
        return Endpoint(address, name, insecure=True)
    credentials: ApiKey | IamToken | None = None
    if settings.speechkit_api_key is not None:
        credentials = ApiKey(settings.speechkit_api_key.get_secret_value())
    elif settings.speechkit_iam_token is not None:
        credentials = IamToken(settings.speechkit_iam_token.get_secret_value())
    return Endpoint(
        address,
        name,
        credentials,
        settings.speechkit_folder_id,
        settings.speechkit_ca_file,
        settings.speechkit_insecure,
    )
