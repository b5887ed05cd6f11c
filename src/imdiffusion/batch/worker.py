"""A worker process of the engine `local`: orders in, answers out, one JSON line each.

out  {"ready": "0.1.0"}                once, with the version
in   {"verb": "fit", "entity": ...}    see `order.Order`
out  {"status": "done", ...}           see `order.Answer`
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import TextIO

from imdiffusion import __version__
from imdiffusion.batch.messages import Order


class _Orders:
    """Lines of standard input, and the end of this process when the sender is gone."""

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.open = 0  # orders that were read and not answered
        self._counting = threading.Lock()

    def listen(self) -> None:
        """Until the other end closes: an orphan must not work on beside its successor."""
        for line in sys.stdin:
            with self._counting:
                self.open += 1
            self.waiting.put(line)
        with self._counting:
            if self.open:
                os._exit(1)
        self.waiting.put(None)

    def answered(self) -> None:
        """The last order taken is done with."""
        with self._counting:
            self.open -= 1


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    orders = _Orders()
    threading.Thread(target=orders.listen, daemon=True).start()
    _say(answers, json.dumps({"ready": __version__}))
    while (line := orders.waiting.get()) is not None:
        from imdiffusion.batch.task import answer

        told = answer(Order.of_json(line)).to_json()
        orders.answered()
        _say(answers, told)


def _say(answers: TextIO, line: str) -> None:
    answers.write(line + "\n")
    answers.flush()


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):  # asked to stop; a fit has saved its state
        sys.exit(130)
