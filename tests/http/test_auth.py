#!/usr/bin/env python3
"""Who may do what: tokens, scopes, owners, limits; peers of unix sockets; foreign pages."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from exporting import export, finish, gate, in_state, submit
from harness import BUILD, TIMEOUT, Daemon, Raw, bearer, main, token_line, until
from test_protocol import body_of, filled, routes
from test_systemd import has_systemd

SCOPES = ("read", "step", "export", "admin")
# Every GET but these takes `read`; a new route of another method has to be added here.
OPEN = {"/", "/page.js", "/style.css", "/healthz", "/readyz", "/version", "/openapi.json"}
NEEDS = {
    ("PUT", "/v1/models/{id}/files/{name}"): "export",
    ("PATCH", "/v1/models/{id}/files/{name}"): "export",
    ("DELETE", "/v1/models/{id}/files/{name}"): "export",
    ("POST", "/v1/models/{id}/publish"): "export",
    ("DELETE", "/v1/models/{id}"): "admin",
    ("POST", "/v1/exports"): "export",
    ("POST", "/v1/exports/{id}/cancel"): "export",
    ("DELETE", "/v1/exports/{id}"): "export",
    ("POST", "/v1/programs"): "export",
    ("PUT", "/v1/programs/{id}"): "export",
    ("DELETE", "/v1/programs/{id}"): "admin",
    ("PUT", "/v1/programs/{id}/pin"): "export",
    ("DELETE", "/v1/programs/{id}/pin"): "export",
    ("PUT", "/v1/aliases/{name}"): "export",
    ("DELETE", "/v1/aliases/{name}"): "admin",
    ("POST", "/v1/sessions"): "step",
    ("DELETE", "/v1/sessions/{id}"): "step",
    ("POST", "/v1/sessions/{id}/step"): "step",
    ("POST", "/v1/steps"): "step",
    ("POST", "/v1/sessions/{id}/fork"): "step",
    ("POST", "/v1/sessions/{id}/rewind"): "step",
    ("PUT", "/v1/sessions/{id}/cache"): "step",
}


class As:
    """The daemon as one token's holder sees it."""

    def __init__(self, d, token):
        self.d, self.token = d, token

    def request(self, method, path, headers=None, **more):
        return self.d.request(method, path, headers={**bearer(self.token), **(headers or {})}, **more)

    get, head, post, put, delete, metric = \
        Daemon.get, Daemon.head, Daemon.post, Daemon.put, Daemon.delete, Daemon.metric

    def session(self, program, expect=201, headers=None):
        return self.post("/v1/sessions", {"program": program, "engine": "native"}, expect=expect,
                         headers=headers)

    def ids(self, path):
        return [row["id"] for row in self.get(path, expect=200).json["data"]]


@contextlib.contextmanager
def token_file(*lines):
    """A token file of these lines; write(*lines) replaces it as an editor does."""
    with tempfile.TemporaryDirectory(prefix="pt2d-tokens-") as directory:
        path = os.path.join(directory, "tokens")

        def write(*lines, mode=0o600):
            with open(path + ".new", "w") as f:
                f.write("".join(lines))
            os.chmod(path + ".new", mode)
            os.rename(path + ".new", path)
        write(*lines)
        yield path, write


@contextlib.contextmanager
def daemon(*lines, flags=(), **more):
    """A daemon with a token file; and its write()."""
    with token_file(*lines) as (path, write), \
            Daemon("--set", f"http.token_file={path}", "--set", "engine.threads=1", *flags, **more) as d:
        d.write = write
        yield d


def users(**more):
    """Alice and Bob may do what users do, Root everything."""
    return daemon(token_line("alice", "a", "read,step,export"), token_line("bob", "b", "read,step,export"),
                  token_line("root", "r", "admin"), **more)


def three(d):
    return As(d, "a"), As(d, "b"), As(d, "r")


# ---- scopes ----

def story_every_route_takes_its_scope_and_no_other():
    with daemon(*(token_line(scope, scope, scope) for scope in SCOPES)) as d:
        n = 0
        for method, path, operation in routes(d):
            needed = None if path in OPEN else "read" if method == "GET" else NEEDS[method, path]
            said = operation["security"]
            assert said == ([] if needed is None else [{"bearer": [needed]}]), (method, path, said)
            assert needed is None or {"401", "403", "429"} <= set(operation["responses"]), operation
            kind = body_of(operation)
            more = {"body": None if kind is None else b"{}" if "json" in kind else b"x"}
            headers = {} if kind is None else {"Content-Type": kind}
            for method in ("GET", "HEAD") if method == "GET" else (method,):
                check_route(d, method, filled(path), needed, more, headers)
                n += 1
        assert n >= len(OPEN) + len(NEEDS) + 30, n
        refused = As(d, "admin").metric("pt2d_http_refused_total", reason="scope")
        assert refused >= n, (refused, n)


def story_the_document_says_where_no_token_is_needed():
    """With no token file, and where the process at a socket's other end may be known."""
    def optional(d):
        return {{} in operation["security"] for _, path, operation in routes(d) if path not in OPEN}
    with Daemon() as d:
        assert optional(d) == {True}
    with tempfile.TemporaryDirectory() as directory:
        with daemon(token_line("alice", "a", "read"), listen=f"unix:{directory}/s") as d:
            assert optional(d) == {True}
    with daemon(token_line("alice", "a", "read")) as d:
        assert optional(d) == {False}


def check_route(d, method, path, needed, more, headers):
    for token in (None, "unknown", *SCOPES):
        sent = {**headers, **(bearer(token) if token else {})}
        reply = d.request(method, path, headers=sent, label=f"{method} {path} as {token}", **more)
        what = (method, path, token, reply)
        if needed is None:
            assert reply.status == 200, what
        elif token in (None, "unknown"):
            assert reply.status == 401, what
            assert ("invalid_token" in reply.headers["WWW-Authenticate"]) == (token is not None), what
        elif token in (needed, "admin"):
            assert reply.status not in (401, 500) and "WWW-Authenticate" not in reply.headers, what
        else:
            assert reply.status == 403, what
            assert f'scope="{needed}"' in reply.headers["WWW-Authenticate"], what
            if method != "HEAD":
                assert reply.problem == "missing-scope", what
                assert f"needs the scope {needed}, and '{token}' has {token}" in reply.json["detail"], what


def story_without_a_token_no_path_is_told():
    with users() as d:
        for path in ("/v1/nothing", "/v1/models", "/metrics", "/v1/%00"):
            reply = d.get(path, expect=401, label=path)
            assert reply.problem == "unauthorized" and \
                reply.headers["WWW-Authenticate"] == 'Bearer realm="pt2d"', reply
        for value in ("Basic eDp5", "Bearer", "a", "Bearer  ", "Bearer A"):
            d.get("/metrics", headers={"Authorization": value}, expect=401, label=value)
        d.request("BREW", "/v1/models", expect=401)
        As(d, "a").get("/v1/nothing", expect=404)
        # before the body: nothing of it is read
        with contextlib.closing(d.raw("POST /v1/programs HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                                      "Content-Length: 1000000\r\n\r\n")) as raw:
            assert raw.reply().status == 401
        assert As(d, "r").metric("pt2d_http_refused_total", reason="token") >= 8


# ---- the token file ----

def story_a_bad_token_file_is_no_start():
    for lines, mode, says in ((["me 0123456789abcdef\n"], 0o600, ":1: after the name 'me'"),
                              (["# nobody\n"], 0o600, "no token in it"),
                              ([token_line("me", "x")], 0o644, "has mode 0644"),
                              (None, 0, "No such file")):
        with token_file() as (path, write):
            if lines is None:
                os.unlink(path)
            else:
                write(*lines, mode=mode)
            d = Daemon("--set", f"http.token_file={path}")
            try:
                d.start()
                assert False, "it started"
            except RuntimeError as e:
                assert says in str(e), e
            assert d.process.wait(TIMEOUT) == 1
            d.process = None


def story_a_reload_under_load_loses_no_request():
    keep, old, new = token_line("keep", "k", "read"), token_line("old", "o", "read"), token_line("new", "n", "read")
    with daemon(keep, old) as d:
        done, statuses = threading.Event(), []

        def load():
            connection = d.connection()
            mine = []
            while not done.is_set():
                mine.append(As(d, "k").get("/v1/models", connection=connection).status)
            connection.close()
            statuses.extend(mine)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for i in range(20):
            d.write(keep, *((new,) if i % 2 == 0 else (old,)))
            d.signal(signal.SIGHUP)
            wanted, other = ("n", "o") if i % 2 == 0 else ("o", "n")
            until(lambda: As(d, wanted).get("/version").status == 200 and
                  As(d, wanted).get("/metrics").status == 200, "the new token")
            As(d, other).get("/metrics", expect=401)
        for lines, mode, says in ((["x y\n"], 0o600, ":1: "), ([keep], 0o666, "mode 0666"), ([], 0o600, "no token")):
            d.write(*lines, mode=mode)
            d.signal(signal.SIGHUP)
            until(lambda: says in d.log() and "the old tokens stay" in d.log(), says)
            As(d, "o").get("/metrics", expect=200)
        done.set()
        for thread in threads:
            thread.join()
        assert len(statuses) > 100 and set(statuses) == {200}, (len(statuses), set(statuses))


def story_pt2ctl_makes_tokens_that_work():
    def ctl(*args, expect=0, **env):
        done = subprocess.run([os.path.join(BUILD, "pt2ctl"), *args], capture_output=True, text=True,
                              timeout=TIMEOUT, env={**os.environ, **env})
        assert done.returncode == expect, done
        return done.stdout + done.stderr

    made = [json.loads(ctl("--json", "token", "ci", "--scopes", "read", "--rate", "1000/s", "--sessions", "2",
                           "--exports", "3", "--upload", "2M", "--download", "500K")) for _ in range(2)]
    assert made[0]["token"] != made[1]["token"] and len(made[0]["token"]) == 47, made
    assert made[0]["line"].endswith(" scopes=read sessions=2 exports=3 rate=1000/s upload=2M download=500K"), made
    assert made[0]["token"] not in made[0]["line"]
    # the same name may have several: both are of one owner, so that a token can be replaced
    with daemon(*(m["line"] + "\n" for m in made)) as d:
        for m in made:
            env = {"PT2_SERVER": f"http://{d.address}", "PT2_TOKEN": m["token"]}
            assert "demo" in ctl("models", **env)
            assert "needs the scope step" in ctl("sessions", "--open", "0" * 64, expect=1, **env)
        assert "A token is needed" in ctl("models", expect=1, PT2_SERVER=f"http://{d.address}", PT2_TOKEN="no")
    lines = ctl("token", "edge", "--scopes", "step").splitlines()
    assert lines[0].split()[0] == "token" and lines[1].split()[:2] == ["line", "edge"], lines
    for bad in (["x"], ["--scopes", "read"], ["x", "--scopes", "reed"], ["a b", "--scopes", "read"],
                ["x", "--scopes", "read rate=1/s"], ["x", "--scopes", "read", "--rate", "5"],
                ["x", "--scopes", "read", "--upload", "fast"],
                ["x", "--scopes", "read", "--sessions", "0"], ["#", "--scopes", "read"]):
        ctl("token", *bad, expect=2)


# ---- owners ----

def story_exports_are_their_owners():
    with gate() as g, users(env=g.env) as d:
        alice, bob, root = three(d)
        job = submit(alice).json["id"]
        in_state(alice, job, "running")
        mine = submit(bob, cache={"max_cache_len": 32}).json["id"]
        for path in ("", "?wait=1", "/events", "/file"):
            for who in (bob, As(d, "b")):
                assert who.get(f"/v1/exports/{job}{path}", expect=404).problem == "not-found"
        bob.post(f"/v1/exports/{job}/cancel", expect=404)
        bob.delete(f"/v1/exports/{job}", expect=404)
        assert alice.ids("/v1/exports") == [job] and bob.ids("/v1/exports") == [mine]
        assert bob.ids("/v1/exports?state=running&model=demo") in ([], [mine])
        assert root.ids("/v1/exports") == [mine, job]
        text = bob.get(f"/v1/exports/{job}").json["detail"]
        assert text == bob.get("/v1/exports/exp_0").json["detail"].replace("exp_0", job)
        g.open()
        assert finish(alice, job)["state"] == finish(bob, mine)["state"] == "succeeded"
        # an export's id names its program to its owner alone; the program is everybody's
        program = finish(root, job)["program"]
        for path in (f"/v1/programs/{job}", f"/v1/programs/{job}/file", f"/v1/exports/{job}/file"):
            alice.get(path, expect=200)
            root.get(path, expect=200)
            bob.get(path, expect=404)
        bob.get(f"/v1/programs/{program}", expect=200)
        bob.session(job, expect=404)
        bob.put("/v1/aliases/theirs", {"program": job}, expect=404)
        # all this survives
        d.restart()
        assert alice.ids("/v1/exports") == [job] and bob.ids("/v1/exports") == [mine]
        assert root.ids("/v1/exports") == [mine, job]
        bob.delete(f"/v1/exports/{job}", expect=404)
        root.delete(f"/v1/exports/{job}", expect=204, label="an administrator may")
        alice.get(f"/v1/exports/{job}", expect=404)


def story_unfinished_exports_keep_their_owners_over_a_crash():
    with gate() as g, users(env=g.env) as d:
        alice, bob, _ = three(d)
        job = submit(alice).json["id"]
        in_state(alice, job, "running")
        d.kill()
        d.start()
        bob.get(f"/v1/exports/{job}?wait=1", expect=404)
        assert bob.ids("/v1/exports") == [] and alice.ids("/v1/exports") == [job]
        g.open()
        finish(alice, job)


def story_identical_exports_run_once_and_each_owner_has_a_job():
    with gate() as g, users(env=g.env) as d:
        alice, bob, _ = three(d)
        one = submit(alice).json["id"]
        in_state(alice, one, "running")
        two, three_ = submit(bob).json["id"], submit(bob).json["id"]
        assert bob.get(f"/v1/exports/{two}", expect=200).json["state"] == "running"
        bob.post(f"/v1/exports/{three_}/cancel", expect=202)
        g.open()
        assert finish(alice, one)["program"] == finish(bob, two)["program"]
        assert g.n_runs() == 1
        bob.get(f"/v1/exports/{one}", expect=404)
        alice.get(f"/v1/exports/{two}", expect=404)
        assert export(bob)["cached"] is True and alice.ids("/v1/exports") == [one]


def story_sessions_are_their_owners():
    with users() as d:
        alice, bob, root = three(d)
        program = export(alice, cache={"max_cache_len": 64})["program"]
        ses = alice.session(program).json["id"]
        mine = bob.session(program).json["id"]
        path, step = f"/v1/sessions/{ses}", {"input_ids": [[84]], "logits": False, "top_k": 1}
        alice.post(path + "/step", step, expect=200)
        saved = alice.get(path + "/cache", expect=200).body

        def refused():
            for method, below, more in (("GET", "", {}), ("GET", "/cache", {}), ("DELETE", "", {}),
                                        ("POST", "/step", {"json_body": step}), ("POST", "/fork", {}),
                                        ("POST", "/rewind", {"json_body": {"position": 0}}),
                                        ("PUT", "/cache", {"body": saved})):
                reply = bob.request(method, path + below, expect=404, **more)
                assert reply.problem == "not-found", reply
        refused()
        results = bob.post("/v1/steps", {"steps": [{"session": ses, **step}, {"session": mine, **step}]},
                           expect=200).json["results"]
        assert [r["status"] for r in results] == [404, 200], results
        assert results[0]["body"]["type"] == "/problems/not-found", results
        assert alice.ids("/v1/sessions") == [ses] and bob.ids("/v1/sessions") == [mine]
        assert bob.get("/v1/sessions?limit=1", expect=200).json["next"] is None
        assert root.ids("/v1/sessions") == [mine, ses]
        assert alice.get(path, expect=200).json["position"] == 1, "nothing that Bob tried was done"
        # a fork is the forker's
        fork = root.post(path + "/fork", {}, expect=201).json["id"]
        assert fork not in alice.ids("/v1/sessions") and fork in root.ids("/v1/sessions")
        assert root.post(path + "/step", step, expect=200).json["position"] == 2
        root.delete(path, expect=204)
        alice.get(path, expect=404)
        # what became of a session is told to its owner
        lost = alice.session(program).json["id"]
        d.kill()
        d.start()
        assert alice.get(f"/v1/sessions/{lost}", expect=404).problem == "session-lost"
        assert root.get(f"/v1/sessions/{lost}", expect=404).problem == "session-lost"
        assert bob.get(f"/v1/sessions/{lost}", expect=404).problem == "not-found"
        reply = bob.post("/v1/steps", {"steps": [{"session": lost, **step}]}, expect=200).json["results"][0]
        assert reply["body"]["type"] == "/problems/not-found", reply


def story_an_expired_session_is_so_to_its_owner():
    with users() as d:
        alice, bob, _ = three(d)
        program = export(alice, cache={"max_cache_len": 64})["program"]
        body = {"program": program, "engine": "native", "ttl": 1}
        ses = alice.post("/v1/sessions", body, expect=201).json["id"]
        time.sleep(1.2)  # a look would be a use
        until(lambda: alice.get(f"/v1/sessions/{ses}").problem == "session-expired", "its end")
        assert bob.get(f"/v1/sessions/{ses}", expect=404).problem == "not-found"


def story_idempotency_keys_are_their_owners():
    with users() as d:
        alice, bob, root = three(d)
        key = {"Idempotency-Key": "same"}
        program = export(alice, cache={"max_cache_len": 64})["program"]
        one, two = (who.session(program, headers=key).json["id"] for who in (alice, bob))
        assert one != two
        for who, its in ((alice, one), (bob, two)):
            reply = who.session(program, headers=key)
            assert (reply.json["id"], reply.headers["Idempotency-Replayed"]) == (its, "true"), reply
        assert root.session(program, headers=key).json["id"] not in (one, two)


def story_tokens_come_and_go():
    with token_file(token_line("alice", "a", "read,step,export"), token_line("root", "r")) as (path, write):
        state = tempfile.mkdtemp(prefix="pt2d-state-")
        with Daemon(state=state) as d:  # nobody's
            before = export(d, cache={"max_cache_len": 32})["id"]
        with Daemon("--set", f"http.token_file={path}", state=state) as d:
            alice, root = As(d, "a"), As(d, "r")
            assert alice.ids("/v1/exports") == [] and root.ids("/v1/exports") == [before]
            alice.get(f"/v1/exports/{before}", expect=404)
            hers = export(alice, cache={"max_cache_len": 32})["id"]
            write(token_line("root", "r"))
            d.signal(signal.SIGHUP)
            until(lambda: alice.get("/v1/exports").status == 401, "her token's end")
            assert root.ids("/v1/exports") == [hers, before], "what she left is an administrator's to see"
        with Daemon(state=state) as d:  # off: nobody can be told from another
            assert [row["id"] for row in d.get("/v1/exports", expect=200).json["data"]] == [hers, before]
            d.delete(f"/v1/exports/{before}", expect=204)
        write(token_line("alice", "anew", "read"))
        with Daemon("--set", f"http.token_file={path}", state=state) as d:
            assert As(d, "anew").ids("/v1/exports") == [hers], "the name counts, not the token"


# ---- limits ----

def story_sessions_of_a_token_are_limited():
    with daemon(token_line("few", "f", "read,step,export", sessions=2), token_line("root", "r")) as d:
        few, root = As(d, "f"), As(d, "r")
        program = export(root, cache={"max_cache_len": 64})["program"]
        one, two = few.session(program).json["id"], few.session(program).json["id"]
        for reply in (few.session(program, expect=429), few.post(f"/v1/sessions/{one}/fork", {}, expect=429)):
            assert reply.problem == "token-limit" and int(reply.headers["Retry-After"]) > 0, reply
            assert "'few' has 2 sessions, and may have 2" in reply.json["detail"], reply
        root.session(program)
        assert root.metric("pt2d_http_refused_total", reason="sessions") == 2
        few.delete(f"/v1/sessions/{one}", expect=204)
        few.post(f"/v1/sessions/{two}/fork", {}, expect=201)
        few.session(program, expect=429)
        # one that could not be opened does not count
        few.delete(f"/v1/sessions/{two}", expect=204)
        for _ in range(3):
            few.session("0" * 64, expect=404)
        few.session(program, expect=201)
        assert len(few.ids("/v1/sessions")) == 2


def story_exports_of_a_token_are_limited():
    with gate() as g, daemon(token_line("few", "f", "read,export", exports=2), token_line("root", "r"),
                             env=g.env, flags=("--set", "exports.workers=1")) as d:
        few, root = As(d, "f"), As(d, "r")
        jobs = [submit(few, cache={"max_cache_len": 16 + i}).json["id"] for i in range(2)]
        for length in (16, 40):  # also where it would share a run
            reply = submit(few, cache={"max_cache_len": length}, expect=429)
            assert reply.problem == "token-limit" and int(reply.headers["Retry-After"]) > 0, reply
            assert "2 exports of 'few' are unfinished, and 2 may be" in reply.json["detail"], reply
        assert root.metric("pt2d_http_refused_total", reason="exports") == 2
        submit(root, cache={"max_cache_len": 40})
        submit(few, dry_run=True, expect=200)
        few.post(f"/v1/exports/{jobs[1]}/cancel", expect=202)
        jobs[1] = submit(few, cache={"max_cache_len": 50}).json["id"]
        submit(few, cache={"max_cache_len": 51}, expect=429)
        g.open()
        for job in jobs:
            finish(few, job)
        submit(few, cache={"max_cache_len": 51})


def story_requests_of_a_token_are_limited():
    with daemon(token_line("slow", "s", "read", rate="5/min"), token_line("quick", "q", "read", rate="20/s"),
                token_line("root", "r")) as d:
        slow, root = As(d, "s"), As(d, "r")
        for _ in range(5):
            slow.get("/v1/models", expect=200)
        reply = slow.get("/v1/models", expect=429)
        assert reply.problem == "rate-limited" and "5 requests a minute" in reply.json["detail"], reply
        assert 5 <= int(reply.headers["Retry-After"]) <= 13, reply.headers["Retry-After"]
        slow.get("/healthz", expect=200, label="open routes are not counted")
        root.get("/v1/models", expect=200, label="nor are others")
        assert root.metric("pt2d_http_refused_total", reason="rate") == 1
        d.signal(signal.SIGHUP)
        until(lambda: "reloaded" in d.log(), "the reload")
        slow.get("/v1/models", expect=429, label="a reload gives nothing")
        statuses = [As(d, "q").get("/v1/models").status for _ in range(60)]
        assert statuses[:20] == [200] * 20, statuses
        until(lambda: As(d, "q").get("/v1/models").status == 200, "the next second")


# ---- unix sockets ----

def story_a_unix_sockets_peer_needs_no_token():
    with tempfile.TemporaryDirectory() as directory:
        listen = f"unix:{directory}/s"
        me, group = os.getuid(), os.getgid()
        with daemon(f"me uid:{me} scopes=read\n", token_line("root", "r"), listen=listen) as d:
            d.get("/v1/models", expect=200, label="by uid")
            assert d.post("/v1/sessions", {"program": "x"}, expect=403).problem == "missing-scope"
            d.get("/v1/models", headers=bearer("wrong"), expect=401, label="a token that is sent counts")
            job = export(As(d, "r"))["id"]
            d.get(f"/v1/exports/{job}", expect=404, label="the peer is an owner as others are")
            for lines, status in (((f"all gid:{group} scopes=read\n",), 200),
                                  ((f"other uid:{me + 1} scopes=read\n",), 401),
                                  ((f"other gid:{group + 54321} scopes=read\n",), 401)):
                d.write(*lines, token_line("root", "r"))
                d.signal(signal.SIGHUP)
                until(lambda: d.get("/v1/models").status == status, lines)
            As(d, "r").get("/v1/models", expect=200)
        with daemon(f"me uid:{me} scopes=read\n") as d:
            d.get("/v1/models", expect=401, label="over TCP there is no peer")


def story_a_peers_groups_count():
    if os.getuid() != 0:
        return
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        with daemon("farm gid:54321 scopes=read\n", listen=f"unix:{directory}/s",
                    flags=("--set", "http.socket_mode=0666")) as d:
            code = ("import os, socket, sys\n"
                    "os.setgroups([int(g) for g in sys.argv[2].split()]); os.setgid(1); os.setuid(1)\n"
                    "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
                    "s.sendall(b'GET /v1/models HTTP/1.0\\r\\n\\r\\n'); print(s.recv(12).decode())\n")
            for groups, status in (("54321", "200"), ("7 54321 8", "200"), ("7", "401"), ("", "401")):
                said = subprocess.run([sys.executable, "-c", code, f"{directory}/s", groups],
                                      capture_output=True, text=True, timeout=TIMEOUT)
                assert said.stdout.strip() == f"HTTP/1.1 {status}", (groups, said)


# ---- beyond this machine ----

def story_nobody_listens_to_the_world_by_mistake():
    for listen in ("0.0.0.0:0", "[::]:0", "127.0.0.1:0 0.0.0.0:0"):
        d = Daemon(listen=listen)
        try:
            d.start()
            assert False, "it started"
        except RuntimeError as e:
            if listen == "[::]:0" and "cannot listen" in str(e):  # no IPv6 here
                d.process = None
                continue
            assert "can be reached from other machines" in str(e) and "http.allow_unauthenticated" in str(e), e
        assert d.process.wait(TIMEOUT) == 1
        d.process = None


def story_the_operator_may_listen_to_the_world():
    with Daemon("--set", "http.allow_unauthenticated=yes", listen="0.0.0.0:0") as d:
        d.host = "127.0.0.1"
        d.get("/v1/models", expect=200)
    with daemon(token_line("me", "x"), listen="0.0.0.0:0") as d:
        d.host = "127.0.0.1"
        d.get("/v1/models", expect=401)
        As(d, "x").get("/v1/models", expect=200)
    with tempfile.TemporaryDirectory() as directory, \
            Daemon("--listen", "127.3.2.1:0", listen=f"unix:{directory}/s") as d:
        d.get("/v1/models", expect=200, label="loopback and unix sockets are this machine")


def story_passed_sockets_are_looked_at_too():
    if not has_systemd():
        return
    code = ("import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
            "os.execv(sys.argv[1], sys.argv[1:])")
    for host, more, is_good in (("0.0.0.0", [], False), ("127.0.0.1", [], True),
                                ("0.0.0.0", ["--set", "http.allow_unauthenticated=yes"], True)):
        with tempfile.TemporaryDirectory() as directory, socket.socket() as passed:
            passed.bind((host, 0))
            passed.listen(10)
            high = os.dup(passed.fileno())
            process = subprocess.Popen(
                [sys.executable, "-c", code, os.path.join(BUILD, "pt2d"), "--config", "/dev/null",
                 "--state-dir", os.path.join(directory, "state"), "--port-file",
                 os.path.join(directory, "port"), *more],
                env={**os.environ, "LISTEN_FDS": "1", "PT2_LIBEXEC": BUILD},
                preexec_fn=lambda: os.dup2(high, 3), close_fds=False, stderr=subprocess.PIPE, text=True)
            os.close(high)
            if is_good:
                until(lambda: os.path.exists(os.path.join(directory, "port")), "the start")
                process.terminate()
            _, text = process.communicate(timeout=TIMEOUT)
            assert process.returncode == (0 if is_good else 1), text
            assert ("can be reached from other machines" in text) == (not is_good), text


# ---- foreign pages ----

def ask(d, host, *headers, path="/v1/models", method="GET"):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "Connection: close", "", ""]
    with contextlib.closing(d.raw("\r\n".join(lines))) as raw:
        return raw.reply()


def story_foreign_hosts_are_refused():
    with Daemon("--set", "http.hosts=pt2d.example farm") as d:
        for host in (f"127.0.0.1:{d.port}", f"localhost:{d.port}", "localhost:9999", "LOCALHOST", "[::1]:1",
                     "a.localhost", "pt2d.example", "PT2D.example:443", "farm:80", "pt2d.example."):
            assert ask(d, host).status == 200, host
        for host in ("evil.example", f"evil.example:{d.port}", "localhost.evil.example", "x.pt2d.example", "",
                     "10.1.2.3", "0.0.0.0", "far", "farm:x", "localhost@evil", "127.0.0.1.evil.example"):
            for path in ("/v1/models", "/healthz", "/openapi.json", "/v1/nothing"):
                reply = ask(d, host, path=path)
                assert (reply.status, reply.problem) == (403, "forbidden"), (host, reply)
                assert "http.hosts" in reply.json["detail"], reply
        with contextlib.closing(d.raw("GET /healthz HTTP/1.0\r\n\r\n")) as raw:
            assert raw.reply().status == 200, "HTTP/1.0 has no Host, and browsers don't speak it"
        assert d.metric("pt2d_http_refused_total", reason="host") == 44


def story_foreign_origins_are_refused():
    with Daemon("--set", "http.origins=https://tools.example null") as d:
        here = f"127.0.0.1:{d.port}"
        for origin in (f"http://{here}", f"https://{here}", "https://tools.example", "null"):
            assert ask(d, here, f"Origin: {origin}").status == 200, origin
        for origin in ("https://evil.example", "http://tools.example", "https://tools.example.evil",
                       f"http://localhost:{d.port}", "http://127.0.0.1", "file://", "x"):
            for method, path in (("GET", "/v1/models"), ("POST", "/v1/exports"), ("OPTIONS", "/v1/exports"),
                                 ("DELETE", "/v1/models/demo"), ("GET", "/healthz")):
                reply = ask(d, here, f"Origin: {origin}", method=method, path=path)
                assert (reply.status, reply.problem) == (403, "forbidden"), (origin, reply)
                assert "http.origins" in reply.json["detail"], reply
                assert not any(name.lower().startswith("access-control") for name in reply.headers), reply
        assert d.metric("pt2d_http_refused_total", reason="origin") == 35


def story_the_address_that_a_connection_came_to_is_ours():
    with daemon(token_line("me", "x"), listen="0.0.0.0:0") as d:
        sock = socket.create_connection(("127.0.0.7", d.port), TIMEOUT)
        assert Raw(sock).send("GET /healthz HTTP/1.1\r\nHost: 127.0.0.7\r\n\r\n").reply().status == 200
        sock.close()
        with contextlib.suppress(OSError):  # an address of this machine that is not loopback
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(("192.0.2.1", 9))
                mine = probe.getsockname()[0]
            for host, status in ((mine, 200), (f"{mine}:{d.port}", 200), ("192.0.2.77", 403)):
                with contextlib.closing(Raw(socket.create_connection((mine, d.port), TIMEOUT))) as raw:
                    raw.send(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")
                    assert raw.reply().status == status, host


def story_over_a_unix_socket_any_host_will_do():
    with tempfile.TemporaryDirectory() as directory, Daemon(listen=f"unix:{directory}/s") as d:
        for host in ("evil.example", "", "pt2d"):
            assert ask(d, host).status == 200, host
        assert ask(d, "pt2d", "Origin: http://pt2d").status == 200
        assert ask(d, "pt2d", "Origin: http://evil.example").status == 403


if __name__ == "__main__":
    main(globals())
