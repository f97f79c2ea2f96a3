"""One thread that does one job after another. Messages must not wait for a model, so whatever takes long goes here."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Worker:
    """Jobs in the order in which they come. The thread lives while there is work. A job handles its own errors."""

    def __init__(self, name: str):
        self.name = name
        self._jobs: deque[Callable[[], None]] = deque()
        self._idle = threading.Condition()
        self._thread: threading.Thread | None = None

    def do(self, job: Callable[[], None]) -> None:
        """Put a job at the end of the queue."""
        with self._idle:
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
                self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Return when all is done: True, or False after `timeout` seconds."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._jobs and self._thread is None, timeout)

    def _work(self) -> None:
        while True:
            with self._idle:
                if not self._jobs:
                    self._thread = None
                    self._idle.notify_all()
                    return
                job = self._jobs.popleft()
            job()
