"""Child processes: messages and answers, ends that are asked for, and ends that are not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from imdiffusion import workers
from imdiffusion.workers import WorkerEndedError, WorkerProcess

# A child that does what a message asks; "save" takes a moment to end after an interrupt.
CHILD = """
import json, os, sys, time
from imdiffusion.workers import serve

def answer(message, note):
    match message.get("do"):
        case "print":
            print("a library says hello", flush=True)
            os.write(1, b"and so does C\\n")
        case "notes":
            for number in range(3):
                note({"number": number})
        case "facts":
            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            return {"pid": os.getpid(), "session": os.getsid(0), "nice": os.nice(0),
                    "threads": [os.environ[name] for name in names]}
        case "die":
            sys.exit(f"no {'very ' * 200}luck")
        case "cut":
            os.write(answers, b'{"answer": "ha')
            os.kill(os.getpid(), 9)
        case "close":
            os.close(answers)
            time.sleep(600)
        case "save" | "sleep" as what:
            try:
                note({"pid": os.getpid()})
                time.sleep(600)
            finally:
                if what == "save":
                    time.sleep(0.5)
                    open(message["path"], "w").write("saved")
    return {"answer": message}

answers = os.dup(1)
os.close(answers)  # the lowest that is free: `serve` puts the answers there
serve(answer)
"""


@contextlib.contextmanager
def child(**options) -> Iterator[WorkerProcess]:
    process = WorkerProcess("-c", CHILD, **options)
    try:
        yield process
    finally:
        process.interrupt()
        process.close()


def gone(process: psutil.Process) -> None:
    until = time.monotonic() + 30
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "it outlives its parent"
        time.sleep(0.02)


def test_each_message_is_answered_in_its_order_and_prints_are_no_answers():
    with child() as process:
        assert process.pid == 0
        assert process.end() == 0
        for message in ({"do": "notes"}, {"do": "print"}, {"text": "\ud800\n", "x": "y" * 200_000}):
            process.send(message)
        assert [process.receive() for _ in range(3)] == [{"number": n} for n in range(3)]
        assert process.receive() == {"answer": {"do": "notes"}}
        assert process.receive() == {"answer": {"do": "print"}}
        assert process.receive() == {"answer": {"text": "\ud800\n", "x": "y" * 200_000}}
        assert process.receive(0.05) is None
        process.release()
        assert process.end() == 0  # by itself
        with pytest.raises(WorkerEndedError, match=r"^exit code 0: a library .* and so does C$"):
            process.receive()


def test_a_process_has_its_threads_its_session_and_steps_back():
    with child(threads=3, nice=5) as process:
        process.send({"do": "facts"})
        facts = process.receive()
        assert facts == {
            "pid": process.pid,
            "session": process.pid,
            "nice": min(19, os.nice(0) + 5),
            "threads": ["3", "3", "3"],
        }


def test_an_end_is_told_with_the_last_of_stderr_and_the_next_message_starts_another(tmp_path):
    with child(log=tmp_path / "log.txt") as process:
        process.send({"do": "die"})
        with pytest.raises(WorkerEndedError, match=r"^exit code 1: .*very luck$") as told:
            process.receive()
        assert told.value.code == 1
        assert len(str(told.value)) == len("exit code 1: ") + workers.STDERR_QUOTED
        assert (tmp_path / "log.txt").read_text().count("very") == 200
        first = process.pid
        process.send({"again": 1})
        assert process.receive() == {"answer": {"again": 1}}
        assert process.pid != first


def test_an_answer_that_a_kill_cuts_short_is_none():
    with child() as process:
        process.send({})
        process.send({"do": "cut"})
        assert process.receive() == {"answer": {}}
        with pytest.raises(WorkerEndedError, match=r"^signal SIGKILL$") as told:
            process.receive()
        assert told.value.code == -signal.SIGKILL


def test_a_process_that_closes_its_answers_and_goes_on_is_killed(monkeypatch):
    monkeypatch.setattr(workers, "GRACE", 0.3)
    with child() as process:
        process.send({"do": "close"})
        with pytest.raises(WorkerEndedError, match="SIGKILL"):
            process.receive()


@pytest.mark.parametrize("ignored", [False, True])
def test_who_is_interrupted_saves_even_if_asked_twice(tmp_path, ignored):
    # A shell starts what runs behind it with SIGINT ignored, and children take that over.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else None
    try:
        with child() as process:
            process.send({"do": "save", "path": str(tmp_path / "state")})
            process.receive()
            process.interrupt()
            time.sleep(0.1)
            process.interrupt()
            assert process.end() == workers.INTERRUPTED
    finally:
        if ignored:
            signal.signal(signal.SIGINT, before)
    assert (tmp_path / "state").read_text() == "saved"


def test_who_takes_longer_than_the_grace_is_killed(tmp_path):
    with child() as process:
        process.send({"do": "save", "path": str(tmp_path / "state")})
        process.receive()
        process.interrupt()
        assert process.end(0.1) == -signal.SIGKILL
    assert not (tmp_path / "state").exists()


PARENT = f"""
import sys, time
from imdiffusion.workers import WorkerProcess
process = WorkerProcess("-c", {CHILD!r})
process.send({{"do": "sleep" if sys.argv[1] == "busy" else "facts"}})
print(process.receive()["pid"], flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("state", ["busy", "idle"])
def test_a_child_ends_when_its_parent_is_killed(state):
    words = [sys.executable, "-c", PARENT, state]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        process = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        gone(process)


def test_of_several_those_are_named_that_have_something_to_say():
    with child() as one, child() as other:
        one.start()
        other.start()
        assert workers.wait([one, other], 0.0) == []
        one.send({"a": 1})
        one.send({"a": 2})
        assert workers.wait([one, other], None) == [one]
        assert one.receive() == {"answer": {"a": 1}}
        while workers.wait([one, other], 10) != [one]:
            pass
        assert one.receive() == {"answer": {"a": 2}}
        os.kill(other.pid, signal.SIGKILL)
        assert workers.wait([one, other], None) == [other]


def test_what_is_printed_before_it_serves_is_passed_over(caplog):
    process = WorkerProcess("-c", f"print('hello', {json.dumps('{')!r}, flush=True)\n{CHILD}")
    process.send({})
    assert process.receive() == {"answer": {}}
    process.release()
    process.close()
    assert "hello" in caplog.text
