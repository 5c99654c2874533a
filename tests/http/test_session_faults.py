#!/usr/bin/env python3
"""Every call that writes fails once, or forty in a row, while sessions are put on the disk and come
back, are saved by a stop, and are taken up by a start: no answer has wrong logits, a session goes
on where it was or is lost in a way that sessions.md names and the log tells, the daemon lives or ends
with a status, and the next one starts from whatever files are there.

`make check` takes a few calls of each story, which PT2_SEED chooses (printed);
PT2_FAULT_STRIDE=1 takes all of them, until no fault is hit any more."""

import contextlib
import errno
import os
import random
import sys

from exporting import state_files, without_engines
from faults import FAIL, LIBRARY, Faults
from harness import SEED, Daemon, until
from stepping import FLAGS, Session, main, only, program
from test_faults import check_is_clean
from test_spill import Reader, saved, text_of

STRIDE = int(os.environ.get("PT2_FAULT_STRIDE") or 0)  # 0: a few
MISSES = 3  # rounds in a row without a fault end a story that takes all
N, BASE, LENGTH = 8, 112, 168  # sessions, where each begins, and of a text
KINDS = {"ENOSPC": (1, errno.ENOSPC), "EIO": (1, errno.EIO), "ENOSPC for 40 calls": (40, errno.ENOSPC)}
REFUSALS = ("memory-budget", "no-space", "input-output")


want = []  # [i][k]: what reader i's session answers to the token at position k


def learn(d, p):
    """From sessions that stay in memory, once."""
    for i in range(len(want), N):
        reader = Reader(d, i, p)
        reader.step(BASE)
        want.append([None] * BASE + [reader.step(1) for _ in range(LENGTH - BASE)])
        reader.session.delete()


class Table:
    """N sessions in the memory of about five."""

    def __init__(self, d, faults):
        self.d, self.faults = d, faults
        self.program = program(d, length=LENGTH)
        learn(d, self.program)
        self.readers = {i: self.opened(i) for i in range(N)}
        self.refusals, self.hits, self.n_lost, self.n_ends = [], {}, 0, 0
        self.mark = 0

    def opened(self, i):
        reader = Reader(self.d, i, self.program)
        reader.step(BASE)
        return reader

    # ---- a fault, and what was told of it ----

    def arm(self, at, n, error):
        self.refusals, self.mark = [], len(self.d.log())
        self.n_failed = self.failed_spills()
        self.faults.arm(FAIL, at, n, error)

    def failed_spills(self):
        alive = self.d.process and self.d.process.poll() is None
        return self.d.metric("pt2d_session_spills_total", result="failed") if alive else 0

    def disarm(self):
        self.faults.disarm()
        hit = self.faults.hit
        if hit:
            self.hits[hit.split()[0]] = self.hits.get(hit.split()[0], 0) + 1
        return hit

    def told(self):
        return [line for line in self.d.log()[self.mark:].splitlines()
                if " warning: " in line or " error: " in line]

    def check_told(self, hit, is_stop=False):
        """A call that failed was refused, logged or counted; the log warns of spills once a minute
        alone, and times of use of programs, digests and ids are written lazily.  SQLite does not
        mind where a folder can't be synced, nor, when it is closed, that its log stays."""
        is_quiet = hit.startswith("pwrite ") or hit == "fdatasync " + self.d.state or \
            is_stop and self.d.state + "/pt2d.db" in hit
        assert not hit or is_quiet or self.refusals or self.told() or self.failed_spills() > self.n_failed, \
            f"'{hit}' was kept quiet"

    # ---- what clients do ----

    def ask(self, what):
        """True: done.  False: refused, for the fault's sake."""
        reply = what()
        if reply.status < 300:
            return True
        assert reply.problem in REFUSALS and self.faults.hit, (reply, self.faults.hit)
        self.refusals.append(reply.problem)
        return False

    def step(self, session, i, position):
        """True: done, and answered right."""
        answer = []

        def post():
            reply = session.step([text_of(i)[position]], headers={"Accept": "application/octet-stream"}, expect=None)
            answer.append(reply.body)
            return reply

        if not self.ask(post):
            return False
        assert answer[0] == want[i][position], (i, position, self.faults.hit)
        return True

    def go_on(self, reader):
        reader.at += self.step(reader.session, reader.i, reader.at)

    def back(self, reader):
        if reader.at > BASE:
            done = self.ask(lambda: reader.session.rewind(reader.at - 1, expect=None))
            reader.at -= done

    def fork(self, reader):
        replies = []
        if self.ask(lambda: replies.append(self.d.post(reader.session.path + "/fork", {})) or replies[0]):
            fork = Session.__new__(Session).on(self.d).of(replies[0].json)
            self.step(fork, reader.i, reader.at)
            fork.delete()

    def save_and_restore(self, reader):
        replies = []
        if self.ask(lambda: replies.append(self.d.get(reader.session.path + "/cache")) or replies[0]):
            self.ask(lambda: self.d.put(reader.session.path + "/cache", body=replies[0].body))

    def act(self):
        for i, reader in self.readers.items():
            self.go_on(reader)
        self.back(self.readers[0])
        self.fork(self.readers[1])
        self.save_and_restore(self.readers[2])
        for reader in list(self.readers.values())[3:]:
            self.go_on(reader)

    # ---- afterwards ----

    def check_all_are_there(self):
        """Where they were, with the logits that they had."""
        assert self.d.process.poll() is None, "the daemon died"
        for reader in self.readers.values():
            assert reader.session.position == reader.at, (reader.i, reader.at)
            before = reader.at
            self.go_on(reader)
            assert reader.at == before + 1

    def check_there_or_lost(self, hit):
        """After a start: those that are lost were said to be, in the log."""
        log = self.d.log()[self.mark:]
        for i, reader in list(self.readers.items()):
            reply = self.d.get(reader.session.path, expect=(200, 404))
            if reply.status == 200:
                assert reply.json["position"] == reader.at, (i, reader.at, reply)
                self.go_on(reader)
                continue
            assert reply.problem == "session-lost" and hit, (reply, hit)
            assert f"session {reader.session.id} can not be saved, and is lost: " in log or \
                f"session {reader.session.id} was saved, and is lost: " in log, (hit, log)
            self.n_lost += 1
            self.readers[i] = self.opened(i)

    def renew(self):
        """Those that are near the end of their texts are made again."""
        for i, reader in self.readers.items():
            if reader.at > LENGTH - 10:
                reader.session.delete()
                self.readers[i] = self.opened(i)


@contextlib.contextmanager
def table():
    with without_engines() as env:
        d = Daemon(*FLAGS, "--set", "sessions.max_cache_bytes=1 MiB", "--set", "sessions.persist=yes")
        faults = Faults(d.directory, d.state)
        d.env = {**env, **faults.env}
        with d:
            yield Table(d, faults)


# ---- rounds ----

def spill_round(t, at, n, error):
    """Sessions go to the disk and come back, and those that a start took up are changed."""
    t.arm(at, n, error)
    t.act()
    hit = t.disarm()
    t.check_told(hit)
    t.check_all_are_there()
    return hit


def taken_up_round(t, at, n, error):
    """The same, of sessions that a start took up: what their files say comes to an end first."""
    assert t.d.stop() == 0
    t.d.start()
    return spill_round(t, at, n, error)


def stop_round(t, at, n, error):
    """A stop saves them."""
    t.act()
    t.arm(at, n, error)
    status = t.d.stop()
    hit = t.disarm()
    assert status == 0 or (hit and status > 0 and t.told()), (status, hit)
    t.n_ends += status != 0
    t.check_told(hit, is_stop=True)
    check_is_clean(t.d)
    t.d.start()
    t.check_there_or_lost(hit)
    return hit


def start_round(t, at, n, error):
    """A start takes them up, all of them; where it can't, it says why, and the next one can."""
    t.act()
    assert t.d.stop() == 0
    assert len(saved(t.d)) == N
    t.arm(at, n, error)
    try:
        t.d.start()
    except RuntimeError:
        status = t.d.stop()
        assert status > 0 and t.faults.hit and [line for line in t.told() if " error: " in line], \
            (status, t.faults.hit, t.d.log())
        t.n_ends += 1
        t.disarm()
        t.d.start()
        t.check_all_are_there()
        return t.faults.hit
    hit = t.disarm()
    t.check_told(hit)
    t.check_all_are_there()
    assert t.d.metric("pt2d_session_returns_total", result="lost") == 0
    return hit


def tell(name, one_round, few, upto):
    """few: rounds of the suite, at calls up to upto."""
    with table() as t:
        for kind, (n, error) in KINDS.items():
            rng = random.Random(f"{SEED} {name} {kind}")
            chosen = [rng.randint(1, upto) for _ in range(few)]
            at = n_missed = n_rounds = 0
            t.hits, t.n_lost, t.n_ends = {}, 0, 0
            while n_missed < MISSES if STRIDE else chosen:
                at = at + STRIDE if STRIDE else chosen.pop()
                try:
                    hit = one_round(t, at, n, error)
                    t.renew()
                except BaseException:
                    print(f"     {name}, {kind}, call {at}: PT2_SEED={SEED} PT2_FAULT_STRIDE={STRIDE}; hit '{t.faults.hit}'", flush=True)
                    raise
                n_rounds += bool(hit)
                n_missed = 0 if hit else n_missed + 1
            print(f"     {name}, {kind}: seed {SEED}, {n_rounds} rounds up to call {at}: {t.hits}; {t.n_lost} sessions lost, "
                  f"{t.n_ends} daemons ended with a status", flush=True)
            assert n_rounds > 0, "no fault was ever hit"
        t.d.kill()
        check_is_clean(t.d)
        t.d.start()
        for reader in t.readers.values():
            assert t.d.get(reader.session.path, expect=404).problem == "session-lost"
        until(lambda: state_files(t.d, "sessions") == [], "no file is left")


@only("native")
def story_sessions_that_go_to_the_disk_and_come_back():
    tell("spill", spill_round, few=2, upto=60)


@only("native")
def story_sessions_that_a_start_took_up_change():
    tell("taken up", taken_up_round, few=1, upto=60)


@only("native")
def story_a_stop_that_saves_sessions():
    tell("stop", stop_round, few=1, upto=60)


@only("native")
def story_a_start_that_takes_sessions_up():
    tell("start", start_round, few=1, upto=20)


if __name__ == "__main__":
    if not os.path.exists(LIBRARY):
        print(f"no {LIBRARY}: make check builds it")
        sys.exit(77)
    main(globals())
