"""Brings the database to this version of the tables, whoever starts first."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from backend.errors import ConfigError
from backend.storage.changes import MIGRATION_LOCK
from backend.storage.engine import reaching

log = logging.getLogger(__name__)

VERSION_TABLE = "dialog_version"  # not alembic's usual name: the database may be shared


def migrate(engine: Engine) -> None:
    """Apply the missing migrations. Safe when many processes and machines do it at once.

    Raises StorageUnavailable; ConfigError when the database is newer than this program.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its steps are of no use to an admin
    config = _config()
    head = ScriptDirectory.from_config(config).get_current_head()
    with reaching("migrations"), engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        before = current(connection)
        if before == head:
            return
        _refuse_newer(config, before)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        log.info("database tables brought from version %s to %s", before or "nothing", head)


def current(connection: Connection) -> str | None:
    """The version that the database is at; None: no tables yet."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _refuse_newer(config: Config, version: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise ConfigError(
            f"database_url: the database is at version {version}, which this program does not "
            "know: it was made by a newer one; update this machine"
        )


def _config() -> Config:
    config = Config()
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
