"""A task that takes longer than a person waits: in a thread of its own, with its progress told, and to be stopped."""

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any

from l2gnet.widgets.viewer import RefusedError

Progress = Callable[[int, int], None]
_TASKS: "weakref.WeakSet[LongTask]" = weakref.WeakSet()


class LongTask:
    """One task at a time, which shares what it works with; the end of the program ends it, too, at its next step.

    Args:
        busy: held while the task works, and let go for a moment whenever it tells of its progress.
        tell: hears {"running", "done", "total"}, and in the end what the task found, or that it was "stopped".
        reporting: shows an error that is raised within it.
    """

    def __init__(
        self,
        busy: threading.Lock,
        tell: Callable[[dict[str, Any]], None],
        reporting: Callable[[], AbstractContextManager[None]],
    ):
        self._busy, self._tell, self._reporting = busy, tell, reporting
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        _TASKS.add(self)

    def start(self, work: Callable[[Progress], dict[str, Any]], total: int) -> None:
        """Do the work, which tells how many of `total` are done.

        Raises:
            RefusedError: another is running.
        """
        self.require_free()
        self._stopped.clear()
        self._tell({"running": True, "done": 0, "total": total})
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def require_free(self) -> None:
        """Raise RefusedError while a task is running."""
        if self._thread is not None and self._thread.is_alive():
            raise RefusedError("one task must end before the next begins; stop it, or wait")

    def stop(self) -> None:
        """End the task at its next step."""
        self._stopped.set()

    def wait(self) -> None:
        """Return when nothing is running."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, work: Callable[[Progress], dict[str, Any]]) -> None:
        started = time.perf_counter()
        with self._reporting():
            try:
                with self._busy:
                    found = work(self._progress)
            except InterruptedError:
                self._tell({"running": False, "stopped": True})
                return
            except Exception:
                self._tell({"running": False})
                raise
            self._tell(found | {"running": False, "seconds": round(time.perf_counter() - started, 1)})

    def _progress(self, done: int, total: int) -> None:
        if self._stopped.is_set():
            raise InterruptedError
        self._busy.release()  # whoever looks at something else meanwhile does not wait for the end
        time.sleep(0.001)
        self._busy.acquire()
        self._tell({"running": True, "done": done, "total": total})


def end(tasks: "Collection[LongTask]") -> None:
    """Stop tasks, and return when none of them is running."""
    for task in tasks:
        task.stop()
    for task in tasks:
        task.wait()


atexit.register(end, _TASKS)  # a program that goes while a thread computes is aborted, and counts as failed
