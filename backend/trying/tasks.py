"""The tasks that a tried scenario hands in: they are kept, and nobody dials."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from backend.model import Task, TaskRequest, TaskState


class TaskList:
    """ports.TaskDesk."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def submit(self, request: TaskRequest) -> tuple[Task, bool]:
        known = request.external_id
        for task in self.tasks:
            if known is not None and task.request.external_id == known:
                return task, False
        now = datetime.now(UTC)
        task = Task(uuid4(), request, TaskState.QUEUED, None, len(self.tasks) + 1, now)
        self.tasks.append(task)
        return task, True

    def get(self, task_id: UUID) -> Task | None:
        return next((task for task in self.tasks if task.id == task_id), None)
