"""The offline speech server: SpeechKit's v3 API on this machine, in a process of its own.

    python -m backend.speech.local_server [--port 0] [--api-key KEY] [limits …]

Prints ``ready port=N`` when it serves, and nothing else to standard output. Dies with the thread
that started it (PR_SET_PDEATHSIG), unless ``--stay``; SIGTERM and SIGINT end it cleanly.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import importlib.util
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from yandex.cloud.ai.stt.v3 import stt_service_pb2_grpc
from yandex.cloud.ai.tts.v3 import tts_service_pb2_grpc

from backend.speech.limits import Gatekeeper, Limits
from backend.speech.local_tts import LocalSynthesizer, missing_programs

READY = "ready port="
_PR_SET_PDEATHSIG = 1
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port is an error, not half the traffic
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end. Returns the exit code; 2: something is not installed."""
    options = _parser().parse_args(arguments)
    if not options.stay:
        die_with_parent()
    logging.basicConfig(level=options.log_level, format="speech: %(levelname)s %(message)s")
    if missing := _missing():
        sys.stderr.write(f"the local speech server needs {', '.join(missing)}\n")
        return 2
    return asyncio.run(_serve(options))


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


async def _serve(options: argparse.Namespace) -> int:
    from backend.speech.grammar import DecoderPool, grammars_with
    from backend.speech.local_stt import LocalRecognizer

    limits = Limits(
        session_s=options.session_s,
        session_bytes=options.session_bytes,
        idle_s=options.idle_s,
        requests_per_s=options.requests_per_s,
        synthesis_chars=options.synthesis_chars,
    )
    grammars, unusable = grammars_with(options.phrase)
    if unusable:
        sys.stderr.write(f"the local speech server cannot know: {', '.join(unusable)}\n")
    pool = DecoderPool(grammars)
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=options.max_sessions)
    stt = LocalRecognizer(limits, _gatekeeper(options), pool)
    tts = LocalSynthesizer(limits, _gatekeeper(options))
    stt_service_pb2_grpc.add_RecognizerServicer_to_server(stt, server)
    tts_service_pb2_grpc.add_SynthesizerServicer_to_server(tts, server)
    address = f"{options.host}:{options.port}"
    try:
        port = _bind(server, address, options)
    except (RuntimeError, OSError) as error:
        sys.stderr.write(f"the local speech server cannot listen on {address}: {error}\n")
        return 1
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    await server.start()
    sys.stdout.write(f"{READY}{port}\n")
    sys.stdout.flush()
    await ending.wait()
    await server.stop(grace=0.5)
    return 0


def _bind(server: grpc.aio.Server, address: str, options: argparse.Namespace) -> int:
    if not options.tls_cert:
        return int(server.add_insecure_port(address))
    pair = (options.tls_key.read_bytes(), options.tls_cert.read_bytes())
    return int(server.add_secure_port(address, grpc.ssl_server_credentials([pair])))


def _gatekeeper(options: argparse.Namespace) -> Gatekeeper:
    return Gatekeeper(options.requests_per_s, options.api_key)


def _missing() -> list[str]:
    missing = [f"{name} (apt-get install {name})" for name in missing_programs()]
    if importlib.util.find_spec("pocketsphinx") is None:
        missing.append("pocketsphinx (pip install asterisk-dialog[embedded])")
    return missing


def _parser() -> argparse.ArgumentParser:
    limits = Limits()
    parser = argparse.ArgumentParser("backend.speech.local_server", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0: a free port")
    add("--api-key", help="clients must know this key")
    add("--tls-cert", type=Path, help="PEM; with --tls-key")
    add("--tls-key", type=Path, help="PEM")
    add("--session-s", type=float, default=limits.session_s)
    add("--session-bytes", type=int, default=limits.session_bytes)
    add("--idle-s", type=float, default=limits.idle_s, help="longest time without a message")
    add("--requests-per-s", type=int, default=limits.requests_per_s, help="of each service")
    add("--synthesis-chars", type=int, default=limits.synthesis_chars)
    add("--phrase", action="append", default=[], help="one more that is recognised; repeatable")
    add("--max-sessions", type=int, default=200, help="requests in progress at once")
    add("--log-level", default="WARNING")
    add("--stay", action="store_true", help="outlive the process that started this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
