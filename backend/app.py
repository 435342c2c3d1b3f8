"""Composition root: which process holds what, and how the parts are joined. Only this module
knows all of them.

supervisor ─┬─ PostgreSQL     when no database_url is given
            ├─ speech         the local speech server, when speech=local
            ├─ control        AMI event log, dialer, sweeper
            ├─ voice-0 … n    FastAGI, frame sink, the calls
            └─ web            gunicorn
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from flask import Flask
from sqlalchemy import Engine

from backend import web_server
from backend.agi_server import AgiServer, ThreadedAgi, listen, request_of
from backend.ami_events import EventLog
from backend.ami_listener import AmiConnection
from backend.ami_manager import Account
from backend.call import scenario
from backend.call.call import CallConfig
from backend.call.runner import Services, VoiceConfig, run_call
from backend.config import Settings
from backend.dialing.dialer import Dialer
from backend.dialing.policy import Rules
from backend.dialing.sweeper import Sweeper
from backend.errors import AsteriskError, ConfigError, SpeechError, StorageUnavailable
from backend.model import Outcome, Task
from backend.ports import Recognizer
from backend.protocol.ami import Message
from backend.storage.apply import RecordStore
from backend.storage.backlog import Backlog
from backend.storage.drain import Drainer, drain_leftovers
from backend.storage.embedded import EmbeddedPostgres
from backend.storage.engine import make_engine
from backend.storage.journal import Journal
from backend.storage.migrate import migrate
from backend.storage.tasks import OpenTask, Tasks
from backend.storage.upkeep import Events, Instance, Instances, Overview, Routes
from backend.storage.waiting import TaskWaiter
from backend.supervisor import Ready, Spec, Supervisor
from backend.web import Door, create_app
from backend.ws_frames import FrameSink

if TYPE_CHECKING:
    from backend.speech.endpoint import Endpoint
    from backend.speech.synthesis import SpeechKitSynthesizer

log = logging.getLogger(__name__)

BEAT_S = 2.0
DRAIN_S = 5.0  # for calls in progress when the backend stops; then their AGI connection is cut
JOURNAL_S = 5.0  # for the journal's rest; what is left is drained at the next start
SWITCH_S = 0.0005
SYNTHESIS_S = 10.0  # for a prompt that is not in the cache
READY_SCENARIOS = Path(__file__).parent / "scenarios"


@dataclass(frozen=True, slots=True)
class SpeechAddress:
    """Where recognition and synthesis are served (host:port each)."""

    stt: str
    tts: str
    local: bool


@dataclass(frozen=True, slots=True)
class Home:
    """What every child is told."""

    settings: Settings
    dsn: str
    speech: SpeechAddress


@dataclass(frozen=True, slots=True)
class VoiceSpec:
    """A voice worker: the n-th of this machine."""

    home: Home
    number: int

    @property
    def name(self) -> str:
        return f"voice-{self.number}"


def scenario_folders(settings: Settings) -> list[Path]:
    """The ready scenarios, then the user's own, which replace by name."""
    own = [settings.scenarios_dir] if settings.scenarios_dir else []
    return [READY_SCENARIOS, *own]


class Heartbeat:
    """A process's life in PostgreSQL: its figures, for /health and /metrics."""

    def __init__(self, instances: Instances, instance: Instance) -> None:
        self._instances = instances
        self._instance = instance
        self._missed = False

    def run(self, stop: threading.Event, figures: Callable[[], Mapping[str, Any]]) -> None:
        """Beat until ``stop``; PostgreSQL being away is logged once."""
        while not stop.is_set():
            self._beat(figures())
            stop.wait(BEAT_S)
        try:
            self._instances.leave(self._instance)
        except StorageUnavailable as error:
            log.debug("left without saying so: %s", error)

    def _beat(self, figures: Mapping[str, Any]) -> None:
        try:
            self._instances.beat(self._instance, figures)
        except StorageUnavailable as error:
            if not self._missed:
                log.warning("no heartbeat: %s", error)
            self._missed = True
        else:
            self._missed = False


# --- the voice worker -----------------------------------------------------------------------------


def run_voice(stop: threading.Event, ready: Ready, spec: VoiceSpec) -> None:
    """Target of a voice worker's process."""
    settings = spec.home.settings
    # A scenario that computes must not keep the audio loop from its frames: with the default of
    # 5 ms the gap between two reads becomes 100 ms and more.
    sys.setswitchinterval(SWITCH_S)
    scenarios = scenario.load(scenario_folders(settings))
    if settings.default_scenario not in scenarios:
        raise ConfigError(f"default_scenario: there is no scenario {settings.default_scenario!r}")
    with ExitStack() as rooms:
        engine = make_engine(spec.home.dsn, name=spec.name)
        rooms.callback(engine.dispose)
        journal = Journal(settings.data_dir / "journal" / spec.name)
        rooms.callback(journal.close)
        drainer = Drainer(journal, RecordStore(engine))
        drainer.start()
        rooms.callback(drainer.drain_and_stop, JOURNAL_S)
        sink = FrameSink(
            settings.ws_host,
            settings.ws_port + spec.number if settings.ws_port else 0,
            allow=settings.agi_allow,
        )
        sink.start()
        rooms.callback(sink.stop)
        ami = AmiConnection(ami_account(settings, events="off"))
        ami.start()
        rooms.callback(ami.stop)
        recognizer, synthesizer = open_speech(settings, spec.home.speech, rooms)
        routes = RouteBook(Routes(engine))
        services = Services(
            node=settings.node,
            worker=spec.name,
            call=CallConfig(
                command_s=settings.agi_command_s,
                recognition_s=settings.recognition_s,
                max_call_s=settings.max_call_s,
                recordings_dir=settings.recordings_dir,
            ),
            voice=VoiceConfig(
                mode=settings.vad_mode,
                onset_ms=settings.vad_onset_ms,
                end_silence_ms=settings.end_silence_ms,
                own_end_of_utterance=settings.end_of_utterance == "silence",
            ),
            default_scenario=settings.default_scenario,
            language=settings.speech_language,
            fork_url=f"ws://{settings.ws_public_host or settings.ws_host}:{sink.port}/",
            own_fork=settings.workers > 1,
            ami=ami,
            streams=sink,
            recognizer=recognizer,
            records=journal,
            scenarios=lambda: scenarios,
            route=routes.scenario,
            prompt_name=prompt_namer(settings, synthesizer),
            stopping=stop.is_set,
        )

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
        ready({"agi_port": server.port, "ws_port": sink.port})

        def figures() -> dict[str, Any]:
            routes.refresh()
            server.cut_older(settings.max_call_s)
            return {
                "calls": server.calls,
                "streams": sink.streams,
                "audio_messages": sink.counters.messages,
                "streams_refused": sink.counters.refused,
                "streams_unclaimed": sink.counters.unclaimed,
                "ami_connected": ami.connected,
                "journal_backlog_bytes": journal.backlog_bytes,
                "records_stored": drainer.stored,
                "records_rejected": drainer.rejected,
                "drainer_alive": drainer.alive,
            }

        instance = Instance(settings.node, spec.name)
        Heartbeat(Instances(engine), instance).run(stop, figures)


class RouteBook:
    """Inbound number → scenario, from memory: a call does not wait for PostgreSQL. Read again
    with every heartbeat."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._inbound: dict[str, str] = {}

    def refresh(self) -> None:
        """Read the table; while PostgreSQL is away the last known routes stay."""
        try:
            found = self._routes.all()
        except StorageUnavailable as error:
            log.debug("routes as they were: %s", error)
            return
        self._inbound = {pattern: name for pattern, way, name in found if way == "inbound"}

    def scenario(self, number: str) -> str | None:
        """The number itself first, then the longest beginning that fits (``8495*``)."""
        fitting = [
            pattern
            for pattern in self._inbound
            if pattern == number or (pattern.endswith("*") and number.startswith(pattern[:-1]))
        ]
        best = max(fitting, key=lambda pattern: (pattern == number, len(pattern)), default=None)
        return None if best is None else self._inbound[best]


def ami_account(settings: Settings, *, events: Literal["on", "off"]) -> Account:
    """Where the AMI is and who logs in."""
    return Account(
        settings.ami_host,
        settings.ami_port,
        settings.ami_user,
        settings.ami_secret.get_secret_value(),
        events,
    )


def open_speech(
    settings: Settings, where: SpeechAddress, rooms: ExitStack
) -> tuple[Recognizer, SpeechKitSynthesizer]:
    """Recogniser and synthesiser, closed with ``rooms``."""
    # Here, not above: grpc must not be imported in the web process, which forks.
    from backend.speech.rolling import RollingRecognizer
    from backend.speech.speechkit import SpeechKitRecognizer
    from backend.speech.synthesis import SpeechKitSynthesizer

    recognizer = SpeechKitRecognizer(
        _endpoint(settings, where, where.stt, "speechkit_stt"),
        end_of_utterance=settings.end_of_utterance,
        max_pause_ms=settings.end_silence_ms,
        # A little less than the call's patience: then its own words say what was wrong.
        answer_s=settings.recognition_s * 0.9,
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


def prompt_namer(
    settings: Settings, synthesizer: SpeechKitSynthesizer
) -> Callable[[str, str], str]:
    """What gives Asterisk's name of the sound for a text in a language."""
    from backend.speech.cache import PromptCache

    cache = PromptCache(settings.prompts_dir, synthesizer, identity=synthesizer.identity)

    def name(text: str, language: str) -> str:
        path = cache.path(text, language=language, timeout_s=SYNTHESIS_S)
        return settings.prompt_for_asterisk(path)

    return name


# --- the web process ------------------------------------------------------------------------------


class _PortPipe:
    """web_server's Ready: the port becomes the supervisor's message."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready

    def send(self, obj: Any) -> None:
        self._ready({"port": obj})


def run_web(_stop: threading.Event, ready: Ready, home: Home) -> None:
    """Target of the web process; gunicorn ends it with SIGTERM."""
    settings = home.settings

    def build() -> Flask:
        engine = make_engine(home.dsn, name="web", pool=settings.http_threads)
        names = scenario.load(scenario_folders(settings))
        door = Door(
            rules=Rules.of(settings, names),
            clients={name: key.get_secret_value() for name, key in settings.http_tokens.items()},
            token_in_query=settings.http_token_in_query,
            node=settings.node,
        )
        return create_app(door, Tasks(engine), Overview(engine))

    web_server.serve(
        build,
        settings.http_host,
        settings.http_port,
        threads=settings.http_threads,
        ready=_PortPipe(ready),
    )


# --- the control process --------------------------------------------------------------------------


class NodeTasks:
    """This machine's tasks, as the dialer and the sweeper need them."""

    def __init__(self, tasks: Tasks, waiter: TaskWaiter, backlog: Backlog, me: Instance) -> None:
        self._tasks = tasks
        self._backlog = backlog
        self._me = me
        self.wait = waiter.wait
        self.release = tasks.release

    def in_progress(self) -> int:
        return self._tasks.in_progress(self._me.node)

    def claim(self, limit: int) -> list[Task]:
        return self._tasks.claim(self._me.node, self._me.id, limit)

    def settle(self, task_id: UUID, outcome: Outcome, *, error: str | None = None) -> bool:
        return self._tasks.settle(task_id, outcome, error=error)

    def open_tasks(self) -> list[OpenTask]:
        return self._tasks.open_tasks(self._me.node)

    def backlog_s(self) -> float:
        return self._backlog.age_s()


class _WakeSweeper:
    """An AMI listener: Asterisk is back, so look at once which calls are left."""

    def __init__(self) -> None:
        self.sweeper: Sweeper | None = None

    def opened(self) -> None: ...

    def received(self, events: Sequence[Message]) -> None: ...

    def ready(self) -> None:
        if self.sweeper is not None:
            self.sweeper.wake()

    def lost(self, error: AsteriskError) -> None: ...


def run_control(stop: threading.Event, ready: Ready, home: Home) -> None:
    """Target of the control process."""
    settings = home.settings
    me = Instance(settings.node, "control")
    with ExitStack() as rooms:
        engine = make_engine(home.dsn, name="control")
        rooms.callback(engine.dispose)
        root = settings.data_dir / "journal"
        journal = Journal(root / "control")
        rooms.callback(journal.close)
        store = RecordStore(engine)
        drainer = Drainer(journal, store)
        drainer.start()
        rooms.callback(drainer.drain_and_stop, JOURNAL_S)
        events = EventLog(journal)
        wake = _WakeSweeper()
        ami = AmiConnection(ami_account(settings, events="on"), listeners=[events, wake])
        waiter = TaskWaiter(engine)
        rooms.callback(waiter.close)
        tasks = NodeTasks(Tasks(engine), waiter, Backlog(root), me)
        sweeper = Sweeper(tasks, ami, asterisk_started_at=lambda: events.asterisk_started_at)
        wake.sweeper = sweeper
        dialer = Dialer(
            tasks,
            ami,
            channels=settings.channels,
            max_calls=settings.max_calls,
            rate_per_s=settings.dial_rate_per_s,
        )
        upkeep = threading.Thread(
            target=_keep_up, args=(stop, root, store, engine, settings), name="upkeep"
        )
        for start, end in (
            (ami.start, ami.stop),
            (sweeper.start, sweeper.stop),
            (dialer.start, dialer.stop),
            (upkeep.start, lambda: upkeep.join(10)),
        ):
            start()
            rooms.callback(end)
        ready({})

        def figures() -> dict[str, Any]:
            return {
                "ami_connected": ami.connected,
                "ami_error": ami.last_error,
                "ami_clock_skew_s": ami.clock_skew_s,
                "ami_events": events.received_total,
                "ami_events_dropped": events.dropped_total,
                "ami_gaps": events.gaps_total,
                "originates": dialer.sent_total,
                "originates_refused": dialer.refused_total,
                "swept": sweeper.settled_total,
                "journal_backlog_bytes": journal.backlog_bytes,
                "records_stored": drainer.stored,
                "records_rejected": drainer.rejected,
                "drainer_alive": drainer.alive,
            }

        Heartbeat(Instances(engine), me).run(stop, figures)


def _keep_up(
    stop: threading.Event, root: Path, store: RecordStore, engine: Engine, settings: Settings
) -> None:
    """What dead processes left, then once an hour what has become too old."""
    drain_leftovers(root, store, stop)
    while not stop.is_set():
        try:
            Events(engine).delete_older(settings.events_keep_days, stop)
            Instances(engine).forget_old()
        except StorageUnavailable as error:
            log.warning("upkeep: %s; next try in an hour", error)
        stop.wait(3600)


# --- the supervisor -------------------------------------------------------------------------------


def serve(settings: Settings, announce: Callable[[Mapping[str, Any]], None]) -> None:
    """Start everything, ``announce`` the addresses, watch until SIGTERM or SIGINT, stop it all.

    Raises ConfigError and ChildFailed when something cannot be started; nothing is left then.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor()
    with ExitStack() as rooms:
        dsn, keep_database = _database(settings, rooms)
        rooms.callback(supervisor.stop)
        home = Home(settings, dsn, _start_speech(settings, supervisor))
        supervisor.start(Spec("control", run_control, home, drain_s=20))
        voices = [
            supervisor.start(
                Spec(f"voice-{n}", run_voice, VoiceSpec(home, n), drain_s=DRAIN_S + JOURNAL_S + 10)
            )
            for n in range(settings.workers)
        ]
        web = supervisor.start(Spec("web", run_web, home))
        announce(
            {
                "http": f"http://{settings.http_host}:{web['port']}",
                "agi": f"{settings.agi_host}:{voices[0]['agi_port']}",
                "ws": [voice["ws_port"] for voice in voices],
                "pids": supervisor.pids(),
                # The embedded server's address holds no secret.
                "database": dsn if settings.database_url is None else "database_url",
            }
        )
        supervisor.watch(keep_database)


def _start_speech(settings: Settings, supervisor: Supervisor) -> SpeechAddress:
    """Where speech is served; the local server is started when it is wanted."""
    if settings.speech == "speechkit":
        return SpeechAddress(settings.speechkit_stt, settings.speechkit_tts, local=False)
    port = settings.speech_local_port
    if port == 0:  # chosen here: it must be the same again when the server is restarted
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
    supervisor.start(Spec("speech", run_speech, port))
    address = f"127.0.0.1:{port}"
    return SpeechAddress(address, address, local=True)


def run_speech(stop: threading.Event, ready: Ready, port: int) -> None:
    """Target of the speech process: keeps the local server."""
    from backend.speech.local_process import LocalSpeechServer

    server = LocalSpeechServer(port=port)
    try:
        ready({})
        while not stop.wait(0.5):
            if not server.alive:
                raise SpeechError("the local speech server has died")
    finally:
        server.stop()


def _database(settings: Settings, rooms: ExitStack) -> tuple[str, Callable[[], None]]:
    """The DSN, and what keeps the server alive; the tables are there when it returns."""

    def nothing() -> None: ...

    keep: Callable[[], None] = nothing
    if settings.database_url is not None:
        dsn = settings.database_url.get_secret_value()
    else:
        server = EmbeddedPostgres(settings.data_dir / "postgres")
        rooms.callback(server.stop)
        dsn = server.start()

        def restart_when_dead() -> None:
            if server.pid is None:
                log.error("embedded PostgreSQL has died: it is started again")
                server.restart()

        keep = restart_when_dead
    engine = make_engine(dsn, name="migrate")
    try:
        migrate(engine)
    finally:
        engine.dispose()
    return dsn, keep
