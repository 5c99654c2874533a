#!/usr/bin/env python3
"""Slow, half-closed and vanishing clients against a daemon of its own: what others notice.

    python3 bench/slow_clients.py [--build build] [--clients 800] [--seconds 20]

Opens that many connections in equal parts: headers that dribble, bodies that dribble, readers
that take no byte of a download, event streams and long polls that nobody reads, steps whose
client half-closes, and idle ones.  Meanwhile it asks for /healthz and steps a session, and at the
end resets all of them at once.  Prints latencies without and with them, and the daemon's
descriptors and memory before, during and after.  Loopback only.
"""

import argparse
import contextlib
import json
import os
import socket
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "http"))


def latencies(d, session, seconds):
    """Milliseconds of /healthz and of steps, one after the other."""
    found = {"healthz": [], "step": []}
    connection, end = d.connection(), time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.perf_counter()
        d.get("/healthz", expect=200)  # each on a connection of its own, that has to come in
        found["healthz"].append(1e3 * (time.perf_counter() - begin))
        begin = time.perf_counter()
        d.request("POST", f"/v1/sessions/{session}/step", expect=200, connection=connection,
                  json_body={"input_ids": [[1]], "cache_position": [0], "logits": False})
        found["step"].append(1e3 * (time.perf_counter() - begin))
        time.sleep(0.01)
    connection.close()
    return found


def told(found):
    return "; ".join(f"{name} {sorted(ms)[len(ms) // 2]:.1f} ms, p99 {sorted(ms)[int(len(ms) * .99)]:.1f}, "
                     f"worst {max(ms):.1f} ({len(ms)})" for name, ms in found.items())


def state(d):
    pid = d.process.pid
    with open(f"/proc/{pid}/status") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    return len(os.listdir(f"/proc/{pid}/fd")), rss / 1024


def connect(d):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.connect((d.host, d.port))
    return sock


def openings(d, program, session, job):
    """What each kind of bad client sends; the bool: it goes on to send, byte by byte."""
    step = json.dumps({"input_ids": [[1]], "logits": False})
    return [
        ("slow header", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", True),
        ("slow body", "POST /v1/exports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
         "Content-Length: 100000\r\n\r\n{", True),
        ("no reader", f"GET /v1/programs/{program}/file HTTP/1.1\r\nHost: x\r\n\r\n", False),
        ("events", f"GET /v1/exports/{job}/events HTTP/1.1\r\nHost: x\r\n\r\n", False),
        ("long poll", f"GET /v1/exports/{job}?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n", False),
        ("half-closed step", f"POST /v1/sessions/{session}/step HTTP/1.1\r\nHost: x\r\n"
         f"Content-Type: application/json\r\nContent-Length: {len(step)}\r\n\r\n{step}", False),
        ("idle", "", False),
    ]


def torment(d, kinds, n):
    socks = []
    for i in range(n):
        name, head, is_slow = kinds[i % len(kinds)]
        sock = connect(d)
        sock.sendall(head.encode())
        if name.startswith("half-closed"):
            sock.shutdown(socket.SHUT_WR)
        sock.setblocking(False)
        socks.append((sock, is_slow))
    return socks


def dribble(socks):
    for sock, is_slow in socks:
        if is_slow:
            with contextlib.suppress(OSError):
                sock.send(b"x")


def vanish(socks):
    for sock, _ in socks:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default=os.path.join(os.path.dirname(HERE), "build"))
    parser.add_argument("--clients", type=int, default=800)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    os.environ["PT2_BUILD"] = os.path.abspath(options.build)
    from harness import until
    from test_vanish import Lab
    with Lab() as d:
        program = d.program()
        session, other = d.session(program), d.session(program)
        d.post(f"/v1/sessions/{session}/step", {"input_ids": [[1]]}, expect=200)
        job = d.export()
        kinds = openings(d, program, other, job)
        print(f"{options.clients} clients: {', '.join(kind[0] for kind in kinds)}")
        latencies(d, session, 1)
        print("before: %d descriptors, %.0f MiB" % (before := state(d)))
        print("without them:", told(latencies(d, session, options.seconds / 2)))
        socks = torment(d, kinds, options.clients)
        during, rounds = {"healthz": [], "step": []}, max(1, int(options.seconds))
        for _ in range(rounds):
            dribble(socks)
            for name, ms in latencies(d, session, 1).items():
                during[name] += ms
        print("with them:   ", told(during))
        print("during: %d descriptors, %.0f MiB" % state(d))
        vanish(socks)
        begin = time.monotonic()
        until(lambda: state(d)[0] <= before[0] + 2, "its descriptors come back")
        print("after:  %d descriptors, %.0f MiB, " % state(d) + f"{time.monotonic() - begin:.2f} s later")
        for name in ("pt2d_http_connections_displaced_total", "pt2d_http_followers_refused_total",
                     "pt2d_http_requests_suspended", "pt2d_http_body_bytes", "pt2d_session_calls_waiting"):
            print(f"{name} {d.metric(name):g}")
        d.let_exports_go()


if __name__ == "__main__":
    main()
