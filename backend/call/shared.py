"""What a call has beside its line, the same for all calls of a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from backend.call.memory_store import MemoryStore
from backend.dialing.policy import Rules, admit
from backend.errors import BadRequest, StorageUnavailable
from backend.model import Task
from backend.ports import HttpAnswer, HttpDoor, HttpRequest, KeyValues, TaskDesk

# As a request's parameters are called here.
_ARGUMENTS = {"phone": "number"}


class NoHttp:
    """No system may be asked."""

    def send(self, request: HttpRequest) -> HttpAnswer:
        raise BadRequest("url", f"no {request.method} from here: flow_http_hosts is empty")


@dataclass(frozen=True, slots=True)
class Shared:
    """The store, the settings for scenarios, how to hand in a call, and the way to other systems.
    The defaults are for trying a scenario: nothing is shared, and nobody dials."""

    values: KeyValues = field(default_factory=MemoryStore)
    config: Mapping[str, Any] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    tasks: TaskDesk | None = None
    http: HttpDoor = field(default_factory=NoHttp)

    def originate(self, number: str, **options: object) -> TaskHandle:
        """Hand in a call, after the very checks of the HTTP door. ``options`` by the names of its
        parameters; None: left out. Raises BadRequest, StorageUnavailable."""
        given = {name: value for name, value in options.items() if value is not None}
        try:
            request = admit({"phone": number, **given}, self.rules)
        except BadRequest as error:
            argument = _ARGUMENTS.get(error.parameter, error.parameter)
            raise BadRequest(argument, error.why) from None
        if self.tasks is None:
            raise StorageUnavailable("hand in a call: nobody takes any here")
        task, new = self.tasks.submit(request)
        return TaskHandle(task.id, new, self.tasks)


class TaskHandle:
    """A call that was handed in: a task like any other. ``new``: False when its ``external_id``
    was known; then it is that task, as it is."""

    def __init__(self, task_id: UUID, new: bool, tasks: TaskDesk) -> None:
        self.id = task_id
        self.new = new
        self._tasks = tasks

    def __repr__(self) -> str:
        return f"TaskHandle({self.id})"

    def status(self) -> Task:
        """How far it is: ``state``, ``reason``, ``result``, ``transcript`` and the rest, as they
        are now. Raises StorageUnavailable within a few seconds."""
        task = self._tasks.get(self.id)
        assert task is not None, "tasks are not deleted"
        return task
