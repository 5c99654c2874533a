#!/usr/bin/env python3
"""Sessions that outlive memory and restarts: caches on the disk, saved by a stop, lost by a kill,
and the same logits bit for bit as of sessions that never left.

The seed is printed; PT2_SEED=N tells the same story again, as far as threads allow;
PT2_TEST_ROUNDS=N makes it longer."""

import contextlib
import http.client
import os
import random
import threading
import time

from exporting import small_disk, state_files
from harness import SEED, Daemon, until
from stepping import FLAGS, Session, main, only, program

ROUNDS = int(os.environ.get("PT2_TEST_ROUNDS") or 6)
GONE = (OSError, http.client.HTTPException)  # the daemon, while it was asked
TEXT = list(b"It was the best of times, it was the worst of times, it was the age of wisdom, "
            b"it was the age of foolishness, it was the epoch of belief, it was the epoch of incredulity")
SMALL = (*FLAGS, "--set", "sessions.max_cache_bytes=1 MiB")
PERSIST = ("--set", "sessions.persist=yes")


def text_of(i):
    """Another for each session."""
    return TEXT[i % 40:] + TEXT[:i % 40]


class Reader:
    """A session that reads its text, in steps as it likes; what it answers is remembered by
    where it stood before and after."""

    def __init__(self, d, i, p, **body):
        self.session, self.i, self.at = Session(d, p, **body), i, 0

    def step(self, n, expect=200):
        ids = text_of(self.i)[self.at:self.at + n]
        reply = self.session.step(ids, headers={"Accept": "application/octet-stream"}, expect=expect)
        if reply.status == 200:
            self.at += n
        return reply.body


def lengths(i, n_rounds):
    """Of the steps that reader i takes."""
    return [1 + (7 * i + 5 * k) % 9 for k in range(n_rounds)]


def expected(d, p, n, n_rounds, **body):
    """The logits of n readers that stay in memory, one after another."""
    answers = []
    for i in range(n):
        reader = Reader(d, i, p, **body)
        answers.append([reader.step(s) for s in lengths(i, n_rounds)])
        reader.session.delete()
    return answers


def saved(d):
    return [f for f in state_files(d, "sessions") if f.endswith(".saved")]


def spilled(d):
    return [f for f in state_files(d, "sessions") if f.endswith(".spill")]


# ---- memory is short ----

def round_robin(d, p, want, n, n_rounds, **body):
    readers = [Reader(d, i, p, **body) for i in range(n)]
    for k in range(n_rounds):
        for i, reader in enumerate(readers):
            assert reader.step(lengths(i, n_rounds)[k]) == want[i][k], (i, k)
    return readers


def story_twenty_sessions_in_the_memory_of_few(d):
    dtypes = [{}] if Session.engine == "aten" else [{}, {"cache_dtype": "int8"}]
    n, n_rounds = 20, 10
    for body in dtypes:
        want = expected(d, program(d, length=128), n, n_rounds, **body)
        with Daemon(*SMALL) as small:
            p = program(small, length=128)
            readers = round_robin(small, p, want, n, n_rounds, **body)
            assert small.metric("pt2d_session_cache_bytes") <= 1 << 20
            away = [s for s in small.get("/v1/sessions", expect=200).json["data"] if not s["resident"]]
            if body == {}:
                assert len(away) > 4, away
                assert small.metric("pt2d_session_spills_total", result="ok") > n
                assert small.metric("pt2d_session_returns_total", result="ok") > n
            assert small.metric("pt2d_sessions_spilled") == len(away) == len(spilled(small))
            assert small.metric("pt2d_session_spills_total", result="failed") == 0
            for reader in readers:
                reader.session.delete()
            until(lambda: state_files(small, "sessions") == [], "their files go")


def story_several_clients_at_once(d):
    n, n_rounds = 16, 8
    want = expected(d, program(d, length=128), n, n_rounds)
    with Daemon(*SMALL) as small:
        p, wrong = program(small, length=128), []

        def run(part):
            try:
                readers = [Reader(small, i, p) for i in range(part, n, 4)]
                for k in range(n_rounds):
                    for reader in readers:
                        got = reader.step(lengths(reader.i, n_rounds)[k])
                        if got != want[reader.i][k]:
                            wrong.append((reader.i, k))
            except BaseException as e:
                wrong.append(e)

        threads = [threading.Thread(target=run, args=(part,)) for part in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong, wrong


@only("aten")
def story_a_session_on_the_disk_is_like_any_other():
    with Daemon(*SMALL) as d:
        p = program(d, length=64)
        first = Reader(d, 0, p)
        first.step(9)
        file, labels = first.session.save(), first.session.get()["labels"]
        away = lambda: not [s for s in d.get("/v1/sessions").json["data"]
                            if s["id"] == first.session.id][0]["resident"]

        def push_out():
            others = [Session(d, p) for _ in range(10)]
            assert away(), "it was not used for the longest time"
            for other in others:
                other.delete()

        push_out()
        info = first.session.get()
        assert info["position"] == 9 and info["labels"] == labels and not info["resident"]
        first.session.rewind(10, expect=409)
        assert away(), "looks and rewinds take no cache"
        assert first.session.save() == file and not away()
        push_out()
        fork = first.session.fork(position=5)
        assert fork.info["position"] == 5 and fork.info["resident"]
        a = fork.logits(text_of(0)[5:9])
        push_out()
        first.session.rewind(5)
        assert away()
        assert first.session.logits(text_of(0)[5:9]) == a
        push_out()
        first.session.restore(b"nothing", expect=422)
        push_out()
        first.session.restore(file)
        assert first.session.get()["resident"] and first.session.position == 9
        push_out()
        first.session.delete()
        fork.delete()
        until(lambda: state_files(d, "sessions") == [], "its file goes")
        short = Session(d, p, ttl=1)
        others = [Session(d, p) for _ in range(10)]
        until(lambda: short.id not in {s["id"] for s in d.get("/v1/sessions").json["data"]}, "it expires")
        assert d.get(short.path, expect=404).problem == "session-expired"
        until(lambda: state_files(d, "sessions") == [], "and its file goes")
        for other in others:
            other.delete()


@only("aten")
def story_the_disk_has_a_budget_too():
    with Daemon(*SMALL, "--set", "sessions.spill_bytes=200 KiB") as d:
        p = program(d)
        for i in range(10):
            Reader(d, i, p).step(40)
        replies = [d.post("/v1/sessions", {"program": p, "engine": "aten"}, expect=(201, 429))
                   for _ in range(20)]
        refused = [r for r in replies if r.status == 429]
        assert refused and all(r.problem == "memory-budget" and "Retry-After" in r.headers for r in refused)
        assert sum(os.path.getsize(f) for f in spilled(d)) <= 200 << 10
        for info in d.get("/v1/sessions").json["data"]:
            assert d.get(f"/v1/sessions/{info['id']}", expect=200)


@only("native")
def story_sessions_take_turns_where_both_budgets_are_full():
    with Daemon(*SMALL, "--set", "sessions.spill_bytes=1 MiB", "--set", "sessions.max_waiting=1000") as d:
        p, readers = program(d), []
        while True:
            reader = Reader(d, len(readers), p)
            reader.step(30, expect=(200, 429))
            if not reader.at:
                break
            readers.append(reader)
            assert len(readers) < 500
        reader.session.delete()
        assert d.metric("pt2d_sessions_spilled") > 2
        for _ in range(2):
            for reader in readers:  # the oldest is away
                reader.step(1)
        assert d.metric("pt2d_session_spilled_bytes") <= 2 << 20


@only("native")
def story_a_damaged_file_is_a_lost_session():
    with Daemon(*SMALL) as d:
        p = program(d, length=128)
        readers = [Reader(d, i, p) for i in range(20)]
        for reader in readers:
            reader.step(33)
        broken = spilled(d)[0]
        with open(broken, "r+b") as f:
            f.seek(os.path.getsize(broken) // 2)
            byte = f.read(1)[0]
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte ^ 8]))
        lost = os.path.basename(broken).removesuffix(".spill")
        for reader in readers:
            is_lost = reader.session.id == lost
            reply = reader.session.step([1], expect=404 if is_lost else 200)
            assert not is_lost or reply.problem == "session-lost"
        assert d.get("/v1/sessions/" + lost, expect=404).problem == "session-lost"
        assert d.metric("pt2d_sessions_ended_total", how="lost") == 1


# ---- a stop and a start ----

def story_a_restart_goes_on(d):
    n, n_rounds = 20, 6
    want = expected(d, program(d, length=128), n, 2 * n_rounds)
    with Daemon(*SMALL, *PERSIST) as small:
        p = program(small, length=128)
        readers = [Reader(small, i, p, ttl=500 + i, labels={"i": str(i)}) for i in range(n)]
        step = lambda k: [r.step(lengths(i, 2 * n_rounds)[k]) for i, r in enumerate(readers)]
        for k in range(n_rounds):
            assert step(k) == [w[k] for w in want], k
        fork = readers[3].session.fork(position=2)
        before = small.get("/v1/sessions", expect=200).json["data"]
        for _ in range(2):
            small.restart()
            after = small.get("/v1/sessions", expect=200).json["data"]
            same = lambda infos: [{**i, "resident": None, "expires": None} for i in infos]
            assert same(after) == same(before)
            assert not any(i["resident"] for i in after) and len(saved(small)) == n + 1
        assert small.delete(f"/v1/programs/{p}", expect=409).problem == "in-use"
        for k in range(n_rounds, 2 * n_rounds):
            assert step(k) == [w[k] for w in want], k
        other = Reader(d, 3, program(d, length=128))
        other.step(lengths(3, 1)[0])
        assert fork.logits(text_of(3)[2:4]) == other.session.fork(position=2).logits(text_of(3)[2:4])
        fork.delete()
        for reader in readers:
            reader.session.delete()
        until(lambda: state_files(small, "sessions") == [], "their files go")
        small.delete(f"/v1/programs/{p}", expect=204)
        small.restart()
        assert small.get("/v1/sessions").json["data"] == []
        assert small.get(fork.path, expect=404).problem == "not-found"


@only("native")
def story_whole_numbers_and_labels_are_saved(d):
    want = expected(d, program(d, length=128), 4, 6, cache_dtype="int8")
    with Daemon(*FLAGS, *PERSIST) as other:
        p = program(other, length=128)
        readers = [Reader(other, i, p, cache_dtype="int8", labels={"a": "ö"}) for i in range(4)]
        for k in range(6):
            assert [r.step(lengths(i, 6)[k]) for i, r in enumerate(readers)] == [w[k] for w in want]
            other.restart()
        info = readers[0].session.get()
        assert info["labels"] == {"a": "ö"} and info["cache_dtype"] == "int8"


@only("native")
def story_time_goes_on_while_stopped():
    with Daemon(*FLAGS, *PERSIST) as d:
        p = program(d)
        short, long = Session(d, p, ttl=2), Session(d, p, ttl=300)
        d.stop()
        time.sleep(2.1)
        d.start()
        assert d.get(short.path, expect=404).problem == "session-expired"
        assert long.get()["position"] == 0 and len(saved(d)) == 1


@only("native")
def story_without_persist_what_was_saved_goes():
    with Daemon(*FLAGS, *PERSIST) as d:
        s = Session(d, program(d))
        d.stop()
        d.flags = list(FLAGS)
        assert len(saved(d)) == 1
        d.start()
        assert d.get(s.path, expect=404).problem == "session-lost" and state_files(d, "sessions") == []


@only("native")
def story_a_full_disk_loses_sessions_and_nothing_else():
    with small_disk(24) as disk:
        if disk is None:
            print("     (no small file system can be mounted: skipped)")
            return
        with Daemon(*SMALL, *PERSIST, state=os.path.join(disk, "state")) as d:
            p = program(d, length=128)
            readers = [Reader(d, i, p) for i in range(6)]
            for reader in readers:
                reader.step(20)
            with open(os.path.join(disk, "ballast"), "wb") as f, contextlib.suppress(OSError):
                while True:
                    f.write(b"x" * 65536)
                    f.flush()
            os.truncate(f.name, os.path.getsize(f.name) - (256 << 10))  # for the database
            more = [Reader(d, i, p) for i in range(8)]
            replies = [r.session.step(text_of(r.i)[:70], expect=(200, 429)) for r in more]
            assert any(r.status == 429 and r.problem == "memory-budget" for r in replies)
            assert d.stop() == 0
            assert "is lost" in d.log() and "No space left" in d.log() or "bytes are needed" in d.log()
            os.unlink(f.name)
            d.start()
            for reader in readers + more:
                assert d.get(reader.session.path, expect=404).problem == "session-lost"
            Session(d, p).step(TEXT[:9])


# ---- kills ----

class Client:
    """Sessions that read, until the daemon is gone; it knows where each must be."""

    def __init__(self, d, p, first, want, seed):
        self.d, self.want, self.random = d, want, random.Random(seed)
        self.p, self.indices, self.readers = p, range(first, first + 4), []
        self.failure, self.n_steps, self.n_went_on, self.n_lost = None, 0, 0, 0

    def run(self):
        self.n_steps = 0
        try:
            while True:
                self.act()
        except GONE:
            pass
        except BaseException as e:  # told by the story
            self.failure = e

    def act(self):
        missing = [i for i in self.indices if i not in [r.i for r in self.readers]]
        if missing:
            reply = self.d.post("/v1/sessions", {"program": self.p, "engine": Session.engine}, expect=(201, 429, 503))
            if reply.status == 201:
                reader = Reader.__new__(Reader)
                reader.session = Session.__new__(Session).on(self.d).of(reply.json)
                reader.i, reader.at, reader.unsure = missing[0], 0, False
                self.readers.append(reader)
            return
        reader = self.random.choice(self.readers)
        if reader.at == len(self.want[reader.i]):
            self.rewind(reader, self.random.randrange(reader.at))
            return
        reader.unsure = True
        answer = reader.step(1, expect=(200, 429, 503))
        reader.unsure = False
        if len(answer) == len(self.want[0][0]):
            self.n_steps += 1
            assert answer == self.want[reader.i][reader.at - 1], (reader.i, reader.at)

    def rewind(self, reader, position):
        reader.unsure = True
        if reader.session.rewind(position, expect=(200, 503)).status == 200:
            reader.at = position
        reader.unsure = False

    def check(self):
        """After a start: lost, or where it was."""
        for reader in list(self.readers):
            reply = self.d.get(reader.session.path, expect=(200, 404))
            if reply.status == 404:
                assert reply.problem == "session-lost", reply
                self.readers.remove(reader)
                self.n_lost += 1
                continue
            position = reply.json["position"]
            assert reader.unsure or position == reader.at, (reader.i, reader.at, position)
            reader.at, reader.unsure = position, False
            self.n_went_on += 1


def story_kills_never_bring_back_the_past(d):
    n, length = 16, 96
    want = []
    p = program(d, length=length)
    for i in range(n):
        reader = Reader(d, i, p)
        want.append([reader.step(1) for _ in range(length - 1)])
        reader.session.delete()
    rng = random.Random(SEED)
    print(f"     seed {SEED}, {ROUNDS} rounds")
    with Daemon(*SMALL, *PERSIST) as small:
        p = program(small, length=length)
        clients = [Client(small, p, 4 * i, want, SEED + i) for i in range(4)]
        for k in range(ROUNDS):
            threads = [threading.Thread(target=c.run) for c in clients]
            for t in threads:
                t.start()
            until(lambda: all(not t.is_alive() or (c.n_steps > 0 and len(c.readers) == 4)
                              for t, c in zip(threads, clients)), "they are at work")
            time.sleep(0.3 + rng.random())
            is_kill = k % 2 == 1
            (small.kill if is_kill else small.stop)()
            for t in threads:
                t.join()
            assert [c.failure for c in clients] == [None] * 4, [c.failure for c in clients]
            small.start()
            for c in clients:
                c.check()
            assert is_kill or all(len(c.readers) == 4 for c in clients), "a stop saves them"
            assert state_files(small, "tmp") == [] and spilled(small) == []
        went_on, lost = sum(c.n_went_on for c in clients), sum(c.n_lost for c in clients)
        print(f"     {went_on} went on, {lost} were lost")
        assert went_on > 0 and lost > 0


if __name__ == "__main__":
    main(globals())
