"""The file of the live state under real damage, real limits, real kills and real versions"""

import json
import os
import resource
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from live_story import START, rows, told, turn

from imdiffusion.durations import DAY_NS
from imdiffusion.errors import ModelError, OutputError, StateWarning
from imdiffusion.live.connection.record_json import record_of, record_text
from imdiffusion.live.store.inserts import Checkpoint
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.live.store.schema import NEWEST, STEPS, connect, migrate, version_of


def filled(path, count=400):
    with Store(path) as store:
        store.write(rows(["a", "b"], 0, count), now=START)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


# -- damage


@pytest.mark.parametrize("where", ["head", "middle", "short", "text"])
def test_a_damaged_file_is_set_aside_and_a_fresh_one_begun(tmp_path, where):
    path = tmp_path / "live.db"
    filled(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        if where == "short":
            file.truncate(size // 2 - 100)
        elif where == "text":
            file.write(b"no database at all" * 50)
        else:
            file.seek(0 if where == "head" else size // 3 // 4096 * 4096)
            file.write(os.urandom(9000))
    damaged = path.read_bytes()
    with pytest.warns(StateWarning, match=r"damaged.*set aside as live.db.damaged-"):
        store = Store(path)
    with store:
        store.write(rows(["a"], 0, 1), now=START)
    aside = [name for name in names(tmp_path) if ".damaged-" in name]
    assert len(aside) == 1
    assert (tmp_path / aside[0]).read_bytes() == damaged
    with Store(path) as store, Reader(path) as reader:
        assert len(reader.scores("a", START, START + DAY_NS)) == 1


def test_two_damaged_files_do_not_take_each_others_name(tmp_path):
    path = tmp_path / "live.db"
    for number in range(2):
        path.write_bytes(b"rubbish %d" % number * 300)
        with pytest.warns(StateWarning):
            Store(path).close()
    aside = [tmp_path / name for name in names(tmp_path) if ".damaged-" in name]
    assert sorted(place.read_bytes()[:9] for place in aside) == [b"rubbish 0", b"rubbish 1"]


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE precious (x)")
    other.close()
    before = path.read_bytes()
    for opened in (Store, Reader):
        with pytest.raises(OutputError, match="another program"):
            opened(path)
    after = sqlite3.connect(path)
    assert after.execute("SELECT count(*) FROM precious").fetchone() == (0,)
    after.close()
    assert len(before) == path.stat().st_size
    assert names(tmp_path) == ["other.db"]


# -- versions


def test_a_file_of_version_1_is_brought_up(tmp_path):
    path = tmp_path / "live.db"
    old = connect(path, writes=True)
    assert migrate(old, START, to=1) == 0
    old.execute("INSERT INTO entities VALUES (1, 'a', NULL, NULL, 'ready', 1, NULL, 0)")
    old.execute("INSERT INTO voices VALUES (1, 'zscore', 'm1', '[\"cpu\"]')")
    scores = [told("a", row).record for row in range(300)]
    old.executemany(
        "INSERT INTO scores VALUES (1, ?, 0, 1, ?, 1, NULL)",
        [(one.timestamp, None if one.score != one.score else one.score) for one in scores],
    )
    old.execute("INSERT INTO reigns VALUES (1, 'a', 'm1', 'it won', 7)")
    record = json.loads(record_text(scores[0]))
    record["moment"] = {"online": "arrival", "offline": "hindsight"}[record.pop("mode")]
    old.execute("INSERT INTO feed (kind, record) VALUES ('score', ?)", (json.dumps(record),))
    event = turn("e1", "a", 3, "ongoing")
    record = json.loads(record_text(event))
    record["turn"] = record.pop("update")
    text = json.dumps(record)
    old.execute("INSERT INTO feed (kind, record) VALUES ('event', ?)", (text,))
    old.execute("INSERT INTO turns VALUES ('e1', 3, ?, 7)", (text,))
    old.execute("INSERT INTO events VALUES ('e1', 3, 'a', 'ongoing', 0, NULL, '')")
    old.execute("INSERT INTO states VALUES ('a', 'scorer', ?, 7)", (b"imd2 of a version before",))
    old.close()
    with Store(tmp_path / "new.db") as new:
        new.write(rows(["a"], 0, 300), now=START)
    with Store(path), Reader(path) as reader, Reader(tmp_path / "new.db") as fresh:
        assert version_of(reader._connection()) == NEWEST
        migrated = reader._rows("SELECT * FROM peaks", ())
        assert len(migrated) == 30
        assert migrated == fresh._rows("SELECT * FROM peaks", ())
        assert len(reader.scores("a", 0, START + DAY_NS)) == 300
        assert reader.promotions("a") == [("m1", "it won")]
        found = [record_of(text) for (text,) in reader._rows("SELECT record FROM feed", ())]
        assert found[0] == scores[0]
        for one in (found[1], *reader.event("e1"), *reader.events(until=2**62)):
            assert record_text(one) == record_text(event)
    with Store(path) as store, pytest.raises(ModelError, match=r"another version.*starts afresh"):
        store.state("a", "scorer")


def test_a_step_that_fails_leaves_the_version_before(tmp_path, monkeypatch):
    path = tmp_path / "live.db"
    connect(path, writes=True).close()
    broken = (*STEPS, "CREATE TABLE more (x); INSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr("imdiffusion.live.store.schema.STEPS", broken)
    connection = connect(path, writes=True)
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(connection, START, to=len(broken))
    assert version_of(connection) == NEWEST
    assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchall()
    connection.close()


def test_a_newer_version_is_refused_by_name(tmp_path):
    path = tmp_path / "live.db"
    filled(path, 1)
    later = connect(path, writes=True)
    later.execute("INSERT INTO versions VALUES (99, 0)")
    later.close()
    for opened in (Store, Reader):
        with pytest.raises(OutputError, match=rf"version 99.*up to {NEWEST}.*Upgrade"):
            opened(path)
    assert names(tmp_path) == ["live.db"]


# -- one writer


def test_a_second_writer_is_refused_and_a_killed_one_lets_go(tmp_path):
    path = tmp_path / "live.db"
    program = (
        "import sys; from imdiffusion.live.store.live_state import Store; "
        f"s = Store({str(path)!r}); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(OutputError, match="in use by another process"):
            Store(path)
        other.kill()
    filled(path, 1)


# -- no room, no permission

WRITER = """
import os, resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from live_story import START, rows
from imdiffusion.errors import OutputError
from imdiffusion.live.store.live_state import Store
{setup}
acknowledged = 0
try:
    store = Store({path!r})
    for row in range(0, 100_000, 50):
        store.write(rows(["a", "b"], row, row + 50), now=START)
        acknowledged = row + 50
except OutputError as error:
    print(acknowledged)
    print(error, file=sys.stderr)
    try:
        store.write(rows(["a"], 999_000, 999_500), now=START)  # the next one fails as plainly
    except OutputError:
        os._exit(3)
"""


def write_until_it_fails(path, setup="", **options):
    program = WRITER.format(tests=str(Path(__file__).parent), path=str(path), setup=setup)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, **options
    )


def stands(path, acknowledged):
    """Everything acknowledged is there, nothing of a checkpoint that failed; and it goes on."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Store(path) as store, Reader(path) as reader:
            found = reader.scores("b", START, START + 999 * DAY_NS, limit=999_999)
            assert len(found) == acknowledged
            assert len(reader.feed(0, limit=999_999)) == 2 * acknowledged
            store.write(rows(["a", "b"], acknowledged, acknowledged + 5), now=START)


def test_a_limit_on_the_file_loses_nothing_that_was_acknowledged(tmp_path):
    path = tmp_path / "live.db"
    limit = 1_500_000
    done = write_until_it_fails(
        path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert done.returncode == 3, done.stderr
    assert "cannot be used" in done.stderr
    assert int(done.stdout) >= 50
    stands(path, int(done.stdout))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a file system of 1.5 MB")
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", tmp_path]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("mount is not allowed here: a full disk is tested by a limit on files alone")
    try:
        path = tmp_path / "live.db"
        done = write_until_it_fails(path)
        assert done.returncode == 3, done.stderr
        assert "Free some space" in done.stderr
        assert int(done.stdout) >= 50
        subprocess.run(["mount", "-o", "remount,size=8m", tmp_path], check=True)
        stands(path, int(done.stdout))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_folder_that_may_not_be_written_to(tmp_path):
    filled(tmp_path / "live.db", 1)
    tmp_path.chmod(0o555)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    setup = "os.setuid(65534)" if os.getuid() == 0 else ""
    for name in ("live.db", "new.db"):
        done = write_until_it_fails(tmp_path / name, setup)
        assert "folder that exists and that you may write to" in done.stderr
    tmp_path.chmod(0o755)


def test_a_kill_between_two_checkpoints_leaves_the_first(tmp_path):
    path = tmp_path / "live.db"
    setup = (
        "import imdiffusion.live.store.live_state as module\n"
        "count = iter(range(9))\n"
        "feed = module.Inserts._feed\n"
        "def die(self, record):\n"
        "    feed(self, record)\n"
        "    if record.timestamp > START + 70 * 60 * 10**9: os.kill(os.getpid(), 9)\n"
        "module.Inserts._feed = die\n"
    )
    assert write_until_it_fails(path, setup).returncode == -9
    stands(path, 50)


def test_damage_while_running_is_said(tmp_path):
    path = tmp_path / "live.db"
    filled(path, 2000)
    store = Store(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    said = pytest.raises(OutputError, match="damaged file is set aside and a fresh one is begun")
    with said, Reader(path) as reader:
        reader.entities()
    store.close()
    with pytest.warns(StateWarning):
        Store(path).close()
    with Store(path) as fresh:
        fresh.write(Checkpoint(told=[told("a", 0)]), now=START)
