#!/usr/bin/env python3
"""Steps that fail or are left alone: the session is as it was, and goes on."""

import contextlib
import os
import random
import select
import signal
import threading
import time

from harness import SEED, Daemon, Raw, until
from stepping import (FLAGS, Session, assert_close, frozen, main, program, until_running,
                      until_waiting, workers)

TEXT = list(b"It was the best of times, it was the worst of times, it was the age of wisdom.")
KINDS = ({}, {"seq": 4}, {"seq": 3, "dynamic": True})


def a_seed():
    print(f"     PT2_SEED={SEED}", flush=True)
    return random.Random(SEED)


def kill_workers(d):
    """Returns when they are dead: on a busy machine that takes its time."""
    for pid in workers(d):
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                assert select.select([fd], [], [], 30)[0], f"{pid} lives on"
            finally:
                os.close(fd)


def goes_on(s, p, tokens, twin=None):
    """Its next step answers what one of a session answers that took these tokens in peace."""
    twin = twin or Session(s.d, p)
    if tokens:
        twin.step(tokens, logits=False)
    assert_close(s.logits(TEXT[60:63], rows="all"), twin.logits(TEXT[60:63], rows="all"), "afterwards")
    twin.delete()
    s.save()  # the engine's next call: the twin's cache has left the worker


# ---- the worker dies ----

def story_a_worker_killed_during_a_step_changes_nothing(d):
    for kind in KINDS:
        p = program(d, **kind)
        s = Session(d, p)
        s.step(TEXT[:20])
        for ids, at in ((TEXT[30:33], 20), (TEXT[30:37], 5), (TEXT[30:70], 2)):
            before = s.save()
            s.fork()  # opens the engine anew
            with frozen(d):
                step = s.ask(ids, cache_position=list(range(at, at + len(ids))), rows="all")
                until_running(d)
                kill_workers(d)
            reply = step.reply()
            step.close()
            assert reply.status == 500 and reply.problem == "engine-died", reply
            assert reply.json["detail"]
            assert s.position == 20 and s.save() == before, (kind, at)
        goes_on(s, p, TEXT[:20])
        s.delete()
    assert d.metric("pt2d_engines_died_total") >= 9


def story_a_worker_killed_at_any_moment_changes_nothing(d):
    rng = a_seed()
    for kind in KINDS:
        p = program(d, **kind)
        s = Session(d, p)
        s.step(TEXT[:20])
        before, n_died = s.save(), 0
        begin = time.monotonic()
        s.step(TEXT[20:60], logits=False)
        took = time.monotonic() - begin
        for _ in range(6):
            s.restore(before)
            at = rng.randrange(21)
            step = s.ask(TEXT[20:60], cache_position=list(range(at, at + 40)), logits=False)
            until(lambda: step_has_begun(d), "it begins")
            time.sleep(rng.random() * took)
            kill_workers(d)
            reply = step.reply()
            step.close()
            if reply.status == 200:
                assert reply.json["position"] == s.position == at + 40
                s.restore(before)
            else:
                assert reply.problem == "engine-died", reply
                n_died += 1
                assert s.position == 20 and s.save() == before, (kind, at)
        print(f"     {n_died} of 6 died: {kind}")
        reply = s.step(TEXT[20:24], logits=False, cache_position=[20, 21, 22, 23], expect=(200, 500))
        goes_on(s, p, TEXT[:20 if reply.status == 500 else 24])
        s.delete()


def step_has_begun(d):
    return d.metric("pt2d_session_calls_waiting") == 0


def story_the_other_sessions_of_a_dead_worker_go_on(d):
    p = program(d)
    a, b, c = Session(d, p), Session(d, p), Session(d, p)
    for s in (a, b, c):
        s.step(TEXT[:10], logits=False)
    fork = b.fork()
    with frozen(d):
        runs = a.ask([1])
        until_running(d)
        waits = [b.ask(TEXT[10:13]), fork.ask(TEXT[10:13])]
        until_waiting(d, 2)
        kill_workers(d)
    assert runs.reply().status == 500
    replies = [raw.reply() for raw in waits]
    assert [r.status for r in replies] == [200, 200]
    assert replies[0].json == replies[1].json
    for raw in [runs] + waits:
        raw.close()
    goes_on(a, p, TEXT[:10])
    goes_on(b, p, TEXT[:13])
    goes_on(fork, p, TEXT[:13])
    goes_on(c, p, TEXT[:10])


def story_a_worker_killed_while_it_rests_is_replaced(d):
    p = program(d)
    s = Session(d, p)
    s.step(TEXT[:10], logits=False)
    for call in (lambda: s.step(TEXT[9:10], cache_position=[9], label="step"),
                 lambda: s.fork(), lambda: Session(d, p), lambda: s.save()):
        s.step(TEXT[9:10], cache_position=[9], label="the worker is there")
        kill_workers(d)
        until(lambda: not workers(d), "it is dead")
        call()
    assert s.position == 10
    goes_on(s, p, TEXT[:10])


def story_a_worker_that_does_not_answer_is_killed():
    with Daemon(*FLAGS, "--set", "engine.step_timeout=5 s") as d:  # no good step takes that
        p = program(d)
        s = Session(d, p)
        s.step(TEXT[:10], logits=False)
        with frozen(d):
            reply = s.step(TEXT[10:15], expect=500, label="no answer in time")
            assert reply.problem == "engine-died" and "within 5 seconds" in reply.json["detail"], reply
        assert s.position == 10
        s.step([1], cache_position=[10], expect=(200, 500), label="it is opened anew")


# ---- the program's file ----

def program_file(d, p):
    size = d.get(f"/v1/programs/{p}", expect=200).json["bytes"]
    found = [path for base, _, names in os.walk(d.state) for name in names
             if p in (path := os.path.join(base, name)).replace("/", "") and os.path.getsize(path) == size]
    assert len(found) == 1, found
    return found[0]


def story_a_program_whose_file_is_deleted_is_used_on():
    with Daemon(*FLAGS) as d:
        p = program(d)
        s = Session(d, p)
        s.step(TEXT[:10], logits=False)
        twin = Session(d, p)
        os.unlink(program_file(d, p))
        goes_on(s, p, TEXT[:10], twin)
        body = {"program": p, "engine": s.engine}
        assert d.post("/v1/sessions", body, expect=500, label="a new one").problem == "program-damaged"
        with frozen(d):
            step = s.ask([1])
            until_running(d)
            kill_workers(d)
        assert step.reply().status == 500
        step.close()
        reply = s.step([1], expect=500, label="it can not be opened anew")
        assert reply.problem == "input-output" and s.position == 13, reply
        assert len(s.save()) > 1000, "but its cache can be saved"
        s.delete()


def story_a_program_whose_file_is_damaged_fails_alone():
    # the worker's bus error is what is wanted here, and no sanitizer's affair
    quiet = {name: f"{os.environ.get(name, '')}:handle_sigbus=0" for name in ("ASAN_OPTIONS", "TSAN_OPTIONS")}
    with Daemon(*FLAGS, env=quiet) as d:
        p, q = program(d), program(d, batch=2)
        s, other = Session(d, p), Session(d, q)
        s.step(TEXT[:10], logits=False)
        saved, path = s.save(), program_file(d, p)
        os.chmod(path, 0o600)
        with open(path, "rb") as f:
            good = f.read()
        os.truncate(path, 4096)
        reply = s.step(TEXT[10:13], expect=500, label="its weights are cut off")
        assert reply.problem == "engine-died", reply
        for _ in range(3):  # the client did nothing wrong
            for reply in (s.step([1], expect=500, label="still"),
                          d.post("/v1/sessions", {"program": p, "engine": "aten"}, expect=500, label="no new one either")):
                assert reply.problem == "program-damaged" and p[:12] in reply.json["detail"], reply
        assert s.position == 10 and s.save() == saved
        assert other.step([[1], [2]]).status == 200
        d.post("/v1/programs", body=good, headers={"Content-Type": "application/octet-stream"}, expect=200)
        goes_on(s, p, TEXT[:10])


# ---- clients that leave ----

def story_who_leaves_before_its_step_begins_gives_its_place_up(d):
    p = program(d)
    s = Session(d, p)
    s.step(TEXT[:10], logits=False)
    with frozen(d):
        asked = [s.ask([TEXT[10]])]
        until_running(d)
        for i in range(1, 7):
            asked.append(s.ask([TEXT[10 + i]]))
            until_waiting(d, i)
        for i, leave in ((2, Raw.close), (4, Raw.half_close), (5, Raw.reset)):
            leave(asked[i])
        until_waiting(d, 3)
        with contextlib.suppress(ConnectionResetError):
            asked[4].rest()
        asked[4].close()
    for i in (0, 1, 3, 6):
        assert asked[i].reply().status == 200, i
        asked[i].close()
    goes_on(s, p, TEXT[:10] + [TEXT[10 + i] for i in (0, 1, 3, 6)])


def story_who_leaves_takes_all_its_steps_along(d):
    p = program(d)
    a, b = Session(d, p), Session(d, p)
    body = b'{"steps": [{"session": "%s", "input_ids": [[1]]}, {"session": "%s", "input_ids": [[1]]}]}' % \
        (a.id.encode(), b.id.encode())
    with frozen(d):
        first = a.ask([5])
        until_running(d)
        raw = d.raw(b"POST /v1/steps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        until_waiting(d, 2)
        raw.close()
        until_waiting(d, 0)
    assert first.reply().status == 200
    first.close()
    assert (a.position, b.position) == (1, 0)


def story_who_leaves_during_its_step_leaves_a_good_session(d):
    rng = a_seed()
    for kind in KINDS:
        p = program(d, **kind)
        s = Session(d, p)
        s.step(TEXT[:20], logits=False)
        for _ in range(4):
            at = rng.randrange(10)
            # those of the calls before may be closing still, and must not stand for the step's
            until(lambda: d.metric("pt2d_http_connections") == 1, "nobody else is there")
            step = s.ask(TEXT[20:60], cache_position=list(range(at, at + 40)), logits=False)
            time.sleep(rng.random() * 0.05)
            rng.choice((Raw.close, Raw.reset))(step)
            until(lambda: d.metric("pt2d_http_connections") == 1 and
                  d.metric("pt2d_session_calls_running") == 0, "the daemon is through with it")
            position = s.position
            assert position in (20, at + 40), position
            goes_on(s, p, TEXT[:20] if position == 20 else TEXT[:at] + TEXT[20:60])
            s.rewind(0)
            s.step(TEXT[:20], logits=False)
        s.delete()


# ---- many at once ----

class Clients:
    """Threads that step sessions through their plans, each taking the next part that it finds,
    with If-Match; whoever is late is told so."""

    def __init__(self, d, p, rng, n_sessions=5, n_each=3, length=56):
        self.d, self.p = d, p
        self.plans = []
        for _ in range(n_sessions):
            tokens, plan = [rng.choice(TEXT) for _ in range(length)], {}
            at = 0
            while at < length:
                n = min(rng.choice((1, 1, 1, 2, 5, 9)), length - at)
                plan[at] = tokens[at:at + n]
                at += n
            self.plans.append(plan)
        self.length = length
        self.sessions = [Session(d, p) for _ in self.plans]
        self.results = [{} for _ in self.plans]
        self.late = self.failed = 0
        self.errors, self.lock = [], threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(n_sessions)
                        for _ in range(n_each)]

    def run(self, i):
        try:
            while (at := self.sessions[i].position) < self.length:
                headers = {"Accept": "application/octet-stream", "If-Match": f'"{at}"'}
                reply = self.sessions[i].step(self.plans[i][at], headers=headers, expect=(200, 412, 429, 500))
                with self.lock:
                    if reply.status == 200:
                        assert at not in self.results[i], "taken twice"
                        self.results[i][at] = reply.body
                    elif reply.status == 500:
                        assert reply.problem == "engine-died", reply
                        self.failed += 1
                    else:
                        self.late += 1
        except BaseException as e:
            self.errors.append(e)

    def all(self, meanwhile=lambda: None):
        for thread in self.threads:
            thread.start()
        while any(thread.is_alive() for thread in self.threads):
            meanwhile()
            time.sleep(0.01)
        for error in self.errors:
            raise error

    def check(self):
        """One after another, the same parts give the same bits."""
        for plan, results in zip(self.plans, self.results):
            s = Session(self.d, self.p)
            assert sorted(results) == sorted(plan)
            for at, tokens in plan.items():
                assert s.logits(tokens) == results[at], f"position {at}"
            s.delete()


def story_many_clients_get_what_one_after_another_gives(d):
    rng = a_seed()
    for kind in KINDS:
        clients = Clients(d, program(d, **kind), rng)
        clients.all()
        clients.check()
        for s in clients.sessions:
            s.delete()
        print(f"     {clients.late} came late: {kind}")


def story_many_clients_and_a_worker_that_dies_now_and_then(d):
    rng = a_seed()
    clients = Clients(d, program(d), rng)
    end = time.monotonic() + 3

    def now_and_then():
        if time.monotonic() < end and rng.random() < 0.02:
            kill_workers(d)

    clients.all(now_and_then)
    clients.check()
    print(f"     {clients.failed} failed, {clients.late} came late")


if __name__ == "__main__":
    main(globals(), engines=("aten",))
