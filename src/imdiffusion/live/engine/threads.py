"""The engine in threads, until it is stopped: one for each source, one for each sink, one for all
that is scored and written. A stop is graceful: what was read is scored, written and sent first.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.sink_writer import SinkWriter
from imdiffusion.live.engine.source_reader import SourceReader

log = logging.getLogger(__name__)

IDLE = 0.05  # seconds a thread rests when it had nothing to do


def run(engine: Engine, stop: threading.Event) -> None:
    """Run an open engine until `stop` is set or every source has ended, then close it.

    OutputError: the last checkpoint could not be written. What fails in a thread, and is no
    trouble of a source or a sink, stops all and is raised here.
    """
    failed: list[BaseException] = []
    inner = threading.Event()

    def guarded(work: Callable[[], bool], rest: float) -> None:
        try:
            while not inner.is_set():
                if not work():
                    inner.wait(rest)
        except BaseException as error:  # noqa: BLE001  a thread's failure is raised by `run`
            failed.append(error)
            inner.set()

    threads = [
        *(_thread(f"source {name}", guarded, _reading(engine, one), IDLE)
          for name, one in engine.readers.items()),
        *(_thread(f"sink {name}", guarded, _sending(one), 2 * IDLE)
          for name, one in engine.writers.items()),
    ]  # fmt: skip
    try:
        for thread in threads:
            thread.start()
        while not stop.is_set() and not inner.is_set():
            worked = engine.advance()
            engine.tell_sources()
            over = all(one.ended and not one.queued for one in engine.readers.values())
            if over and not worked:
                break
            if not worked:
                stop.wait(IDLE)
    finally:
        inner.set()
        for thread in threads:
            thread.join()
        engine.close()
    if failed:
        raise failed[0]


def _thread(
    name: str, guarded: Callable[[Callable[[], bool], float], None], work: Callable[[], bool],
    rest: float,
) -> threading.Thread:  # fmt: skip
    return threading.Thread(target=guarded, args=(work, rest), name=name, daemon=True)


def _reading(engine: Engine, reader: SourceReader) -> Callable[[], bool]:
    def work() -> bool:
        reader.commit_asked()
        return reader.once(engine.options.poll)

    return work


def _sending(writer: SinkWriter) -> Callable[[], bool]:
    return writer.once


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Within, SIGTERM and SIGINT set `stop`; a second one kills as usual. Main thread only."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, ask)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
