"""The HTTP door's GET /recordings/…: the files that calls recorded, whole or in ranges."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from flask import Flask, Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from backend.http_api import problem
from backend.web_wire import json_answer, query

MAX_DEPTH = 9  # call.recording: a directory of eight parts at most
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def add_recordings(app: Flask, folder: Path) -> None:
    """Add GET /recordings/<path> for the WAV files below ``folder``, which need not be there."""

    @app.get("/recordings/<path:path>")
    def recording(path: str) -> Response:
        query(known=())
        file = open_below(folder, path)
        if file is None:
            return json_answer(problem("not_found", "there is no such recording", "path"), 404)
        size = os.fstat(file.fileno()).st_size
        response = Response(FileWrapper(file), content_type="audio/wav", direct_passthrough=True)
        response.content_length = size
        try:
            response.make_conditional(request.environ, accept_ranges=True, complete_length=size)
        except RequestedRangeNotSatisfiable:
            file.close()
            raise
        return response


def open_below(folder: Path, path: str) -> BinaryIO | None:
    """The regular file ``path`` below ``folder``; None: there is none, or the way leads through a
    symbolic link. Opened part by part, so that no link can be put in between."""
    *folders, name = path.split("/")
    parts = [*folders, name]
    if len(parts) > MAX_DEPTH or not all(map(_PART.fullmatch, parts)) or not name.endswith(".wav"):
        return None
    here = -1
    try:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        # Not blocking: a pipe of that name would wait for a writer.
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    except OSError:
        return None
    finally:
        if here >= 0:
            os.close(here)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        return None
    return os.fdopen(found, "rb")
