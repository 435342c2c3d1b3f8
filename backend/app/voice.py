"""A voice worker: FastAGI, the frame sink, and the calls between them."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.agi_server import AgiServer, ThreadedAgi, listen, request_of
from backend.ami_listener import AmiConnection
from backend.ami_watch import EventWatch
from backend.app.bus import ProcessBus
from backend.app.flows import Published, dial_rules, watch_flows
from backend.app.home import (
    Heartbeat,
    Home,
    Records,
    ami_account,
    open_shelf,
    watch_routes,
)
from backend.app.screening import open_judges
from backend.app.speech import open_speech
from backend.bus.records import ToldRecords
from backend.call import backchannel
from backend.call.call import CallConfig
from backend.call.leg_desk import LegDesk
from backend.call.others import LegServices
from backend.call.runner import Services, VoiceConfig, run_call
from backend.call.shared import Shared
from backend.call.shelf import Names, Shelf
from backend.config import Settings
from backend.dialing.policy import Rules
from backend.errors import ConfigError
from backend.outgoing import Outgoing
from backend.speech.cache import PromptCache
from backend.speech.decoded import Decoded
from backend.speech.prompts import SoundBook
from backend.storage.deadline import keep_deadlines
from backend.storage.engine import make_engine
from backend.storage.routes import RouteBook
from backend.storage.store import KeyValues
from backend.storage.tasks import CallTasks
from backend.storage.turns import Turns
from backend.storage.upkeep import Instance, Instances
from backend.supervisor import Ready
from backend.ws_frames import FrameSink

if TYPE_CHECKING:
    from backend.speech.synthesis import SpeechKitSynthesizer

log = logging.getLogger(__name__)

DRAIN_S = 5.0  # for calls in progress when the backend stops; then their AGI connection is cut
SYNTHESIS_S = 10.0  # for each part of a prompt that is not in the cache
SWITCH_S = 0.0005
CONNECTIONS = 10  # to PostgreSQL, for what calls ask


@dataclass(frozen=True, slots=True)
class VoiceSpec:
    """A voice worker: the n-th of this machine."""

    home: Home
    number: int

    @property
    def name(self) -> str:
        return f"voice-{self.number}"


def run_voice(stop: threading.Event, ready: Ready, spec: VoiceSpec) -> None:
    """Target of a voice worker's process."""
    settings = spec.home.settings
    # A scenario that computes must not keep the audio loop from its frames: with the default of
    # 5 ms the gap between two reads becomes 100 ms and more.
    sys.setswitchinterval(SWITCH_S)
    keep_deadlines()
    with ExitStack() as rooms:
        engine = make_engine(spec.home.dsn, name=spec.name)
        rooms.callback(engine.dispose)
        records = Records(settings, spec.name, engine, rooms)
        # Closed after the calls: what they tell at their end is delivered, too.
        bus = ProcessBus(spec.home, spec.name, rooms)
        sink = _open_sink(settings, spec.number, rooms)
        watch = EventWatch()
        ami = AmiConnection(ami_account(settings, events="calls"), listeners=[watch])
        ami.start()
        rooms.callback(ami.stop)
        routes = watch_routes(settings, engine, rooms)
        shelf = open_shelf(settings)
        flows = watch_flows(settings, engine, shelf, rooms)
        _watch_scenarios(settings, shelf, flows, rooms)
        leg_server, desk = _open_desk(settings, spec.number, rooms)
        legs = LegServices(desk, watch, Rules.of(settings), open_judges(settings))
        told = bus.told(records.journal)
        services = _services(spec, stop, ami, sink, told, routes, shelf, flows, legs, rooms)
        server = _open_agi(settings, services, rooms)
        ready({"agi_port": server.port, "ws_port": sink.port})

        def each_beat() -> dict[str, Any]:
            """What is due every two seconds, and the figures."""
            server.cut_older(settings.max_call_s)
            return {
                "calls": server.calls,
                "legs": desk.legs,
                "leg_sessions": leg_server.calls,
                "streams": sink.streams,
                "audio_messages": sink.counters.messages,
                "streams_refused": sink.counters.refused,
                "streams_unclaimed": sink.counters.unclaimed,
                "ami_connected": ami.connected,
                **flows.told(),
                **records.figures(),
                **bus.figures(),
            }

        Heartbeat(Instances(engine), Instance(settings.node, spec.name)).run(stop, each_beat)


def _watch_scenarios(settings: Settings, shelf: Shelf, flows: Published, rooms: ExitStack) -> None:
    if settings.default_scenario not in Names(flows):
        why = "".join(f"; refused: {refused}" for refused in shelf.refused())
        raise ConfigError(f"default_scenario: no scenario {settings.default_scenario!r}{why}")
    shelf.start()
    rooms.callback(shelf.stop)


def _open_sink(settings: Settings, number: int, rooms: ExitStack) -> FrameSink:
    port = settings.ws_port + number if settings.ws_port else 0
    sink = FrameSink(settings.ws_host, port, allow=settings.agi_allow)
    sink.start()
    rooms.callback(sink.stop)
    return sink


def _open_agi(settings: Settings, services: Services, rooms: ExitStack) -> AgiServer:
    def on_call(agi: ThreadedAgi) -> None:
        run_call(agi, request_of(agi.env)[0], services)

    server = AgiServer(
        listen(settings.agi_host, settings.agi_port),
        on_call,
        max_calls=settings.max_calls,
        allow=settings.agi_allow,
    )
    server.start()
    rooms.callback(server.drain, DRAIN_S)
    return server


def _open_desk(settings: Settings, number: int, rooms: ExitStack) -> tuple[AgiServer, LegDesk]:
    """Where this worker's legs come to: a port of its own, since the calls' is shared by all."""
    port = settings.legs_port + number if settings.legs_port else 0
    desk = LegDesk()
    server = AgiServer(
        listen(settings.agi_host, port),
        desk.serve,
        max_calls=settings.max_calls,
        allow=settings.agi_allow,
        name="leg",
    )
    server.start()
    rooms.callback(server.drain, 1.0)
    host = settings.ws_public_host or settings.agi_host
    desk.address = f"[{host}]:{server.port}" if ":" in host else f"{host}:{server.port}"
    return server, desk


def _services(
    spec: VoiceSpec,
    stop: threading.Event,
    ami: AmiConnection,
    sink: FrameSink,
    records: ToldRecords,
    routes: RouteBook,
    shelf: Shelf,
    flows: Published,
    legs: LegServices,
    rooms: ExitStack,
) -> Services:
    """What the worker's calls share."""
    settings = spec.home.settings
    recognizer, synthesizer = open_speech(settings, spec.home.speech, rooms)
    return Services(
        node=settings.node,
        worker=spec.name,
        call=CallConfig(
            command_s=settings.agi_command_s,
            recognition_s=settings.recognition_s,
            max_call_s=settings.max_call_s,
            recordings_dir=settings.recordings_dir,
            recordings_url=settings.recordings_url,
        ),
        voice=VoiceConfig(
            mode=settings.vad_mode,
            onset_ms=settings.vad_onset_ms,
            end_silence_ms=settings.end_silence_ms,
            own_end_of_utterance=settings.end_of_utterance == "silence",
            decide_ms=settings.decide_ms,
            backchannel=backchannel.load(settings.backchannel_file),
        ),
        default_scenario=settings.default_scenario,
        language=settings.speech_language,
        fork_url=f"ws://{settings.ws_public_host or settings.ws_host}:{sink.port}/",
        own_fork=settings.workers > 1,
        ami=ami,
        streams=sink,
        recognizer=recognizer,
        records=records,
        scenarios=shelf.current,
        route=lambda number: routes.scenario_for(number, "inbound"),
        prompts=_prompts(settings, synthesizer, rooms),
        stopping=stop.is_set,
        shared=_shared(spec, flows, routes, rooms),
        legs=legs,
        steps=records.keep_step,
        published=flows.for_caller,
    )


def _shared(spec: VoiceSpec, flows: Published, routes: RouteBook, rooms: ExitStack) -> Shared:
    """What calls have beside the line. Connections of their own: no call waits for a drainer."""
    engine = make_engine(spec.home.dsn, name=f"{spec.name} calls", pool=CONNECTIONS)
    rooms.callback(engine.dispose)
    turns = Turns(CONNECTIONS)
    settings = spec.home.settings
    return Shared(
        KeyValues(engine, turns),
        settings.scenario_config,
        dial_rules(settings, flows, routes),
        CallTasks(engine, turns),
        Outgoing.of(settings),
    )


def _prompts(settings: Settings, synthesizer: SpeechKitSynthesizer, rooms: ExitStack) -> SoundBook:
    """What calls can play. Synthesised texts and the admin's own files share a folder."""
    folder = settings.prompts_dir
    decoded = Decoded(settings.sounds_memory_mb * 1024 * 1024)
    cache = PromptCache(
        folder,
        synthesizer,
        identity=synthesizer.identity,
        synthesis_s=SYNTHESIS_S,
        decoded=decoded,
    )
    rooms.callback(cache.close)
    rooms.callback(synthesizer.close)  # first, so that nothing is synthesised any more
    return SoundBook(cache, folder, settings.prompt_for_asterisk, decoded)
