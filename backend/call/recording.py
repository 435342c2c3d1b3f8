"""Recordings of a call, by Asterisk's MixMonitor.

A pause stops the monitor and resuming starts another that appends to the file, so what was said
meanwhile is cut out. The AMI action MixMonitorMute would leave silence instead, but until 16.28 it
takes no MixMonitorID and mutes the first recording of the channel, whichever was meant.

StopMixMonitor closes the file before it returns (app_mixmonitor.c, stop_mixmonitor_full).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from urllib.parse import quote

from backend.errors import BadRequest, CommandRefused, Hangup

MAX_AT_ONCE = 8  # each is a thread in Asterisk

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_NAME = re.compile(_PART)
_DIRECTORY = re.compile(rf"{_PART}(?:/{_PART}){{0,7}}")
_APPEND, _REPLACE = "a", ""


class Recording:
    """A recording of both sides, mixed: WAV, 8 kHz, 16 bit. It ends by ``stop`` or with the call.

    ``path``: as Asterisk writes it. ``url``: where it can be fetched (setting recordings_url).
    """

    def __init__(self, line: Recordings, path: str, url: str) -> None:
        self.path = path
        self.url = url
        self._line = line
        self._monitor = ""  # empty: paused, or over
        self._over = False

    @property
    def running(self) -> bool:
        """Whether what is said now is recorded, as far as the call knows: a hangup ends it."""
        return bool(self._monitor)

    def begin(self, options: str = _REPLACE) -> None:
        """For Recordings."""
        self._monitor = self._line.monitor(self.path, options)

    def pause(self) -> None:
        """From now on nothing is recorded: it will be missing in the file, without a gap. The
        file is complete as far as it is when this returns. While paused it does nothing; raises
        BadRequest after ``stop``, Hangup."""
        self._refuse_over()
        self._end()

    def resume(self) -> None:
        """Go on at the end of the file. While it runs it does nothing; raises BadRequest after
        ``stop``, Hangup, CommandRefused."""
        self._refuse_over()
        if not self._monitor:
            self.begin(_APPEND)

    def stop(self) -> None:
        """End it now; the file is complete when this returns. Does nothing when it has been
        stopped, or the call has been hung up: that was its end."""
        self._over = True
        try:
            self._end()
        except Hangup:
            self._monitor = ""
        self._line.over(self)

    def _end(self) -> None:
        monitor, self._monitor = self._monitor, ""
        if monitor:
            self._line.execute("StopMixMonitor", monitor)

    def _refuse_over(self) -> None:
        if self._over:
            raise BadRequest("recording", f"{self.path} has been stopped; start another")


class Recordings:
    """All of a call. ``execute``: run an application with its data; ``variable``: a channel
    variable's value; ``on_start`` gets each path."""

    def __init__(
        self,
        execute: Callable[[str, str], str],
        variable: Callable[[str], str | None],
        *,
        folder: str,
        url: str,
        default_name: str,
        on_start: Callable[[str], None],
    ) -> None:
        self.execute = execute
        self._variable = variable
        self._folder = folder.rstrip("/")
        self._url = url.rstrip("/")
        self._default_name = default_name
        self._on_start = on_start
        self._numbers = count(1)
        self._unnamed = count(1)
        self._open: list[Recording] = []

    def start(self, name: str | None, directory: str | None) -> Recording:
        """See Call.start_recording."""
        if len(self._open) >= MAX_AT_ONCE:
            raise BadRequest("name", f"{MAX_AT_ONCE} recordings run already, the most at a time")
        place = f"{self._place(directory)}{self._file(name)}.wav"
        path = f"{self._folder}/{place}"
        if any(recording.path == path for recording in self._open):
            raise BadRequest("name", f"{path} is being recorded already")
        recording = Recording(self, path, f"{self._url}/{quote(place)}")
        recording.begin()
        self._open.append(recording)
        self._on_start(path)
        return recording

    def monitor(self, path: str, options: str) -> str:
        """Start a MixMonitor; its id. A variable of its own each time: an older id would stop
        another recording, and no id the first."""
        variable = f"DIALOG_MIXMONITOR_{next(self._numbers)}"
        self.execute("MixMonitor", f"{path},{options}i({variable})")
        monitor = self._variable(variable)
        if not monitor:
            raise CommandRefused(f"MixMonitor did not start for {path}: see Asterisk's log")
        return monitor

    def over(self, recording: Recording) -> None:
        """It is not to be counted any more."""
        if recording in self._open:
            self._open.remove(recording)

    def _place(self, directory: str | None) -> str:
        if directory is None:
            return ""
        inside = directory.removeprefix(f"{self._folder}/")
        if not _DIRECTORY.fullmatch(inside):
            raise BadRequest(
                "directory",
                f"{directory[:80]!r}: expected a folder below recordings_dir, {self._folder}:"
                " letters, digits, '_', '-', '.', parted by '/'",
            )
        return f"{inside}/"

    def _file(self, name: str | None) -> str:
        if name is None:
            number = next(self._unnamed)
            return self._default_name if number == 1 else f"{self._default_name}-{number}"
        if not _NAME.fullmatch(name):
            raise BadRequest("name", f"{name[:80]!r}: letters, digits, '_', '-' and '.' only")
        return name
