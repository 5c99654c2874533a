#!/usr/bin/env python3
"""The page at / as a browser shows it: a headless Chromium, where one is installed; otherwise skipped."""

import os
import sys
import tempfile

import browser
from exporting import copy_demo, gate, in_state, submit_id
from harness import Daemon, main, token_file, token_line
from stepping import Session, program

READY = "!document.querySelector('main').hidden"


def address(d, path="/"):
    return f"http://127.0.0.1:{d.port}{path}"


def story_what_the_daemon_does_is_shown():
    with Daemon() as d, browser.Browser() as b:
        p = program(d)
        s = Session(d, p)
        s.step([1, 2, 3])
        b.open(address(d))
        b.wait(READY)
        assert d.get("/version").json["version"] + ", up " in b.text("daemon")
        assert b.text("token-form") == b.text("trouble") == b.text("graph") == ""
        assert "succeeded" in b.text("exports") and p[:12] in b.text("exports")
        assert s.id in b.text("sessions") and "3 of 64" in b.text("sessions")
        assert p[:12] in b.text("programs") and "demo" in b.text("models")
        assert "1 of 1024" in b.text("tiles")
        s.step([4])
        b.wait("document.getElementById('sessions').innerText.includes('4 of 64')", "the next look")
        points = b.run("[...document.querySelectorAll('polyline')].map((x) => x.getAttribute('points').split(' '))")
        assert len(points) == 4 and all(len(line) >= 2 for line in points), points
        assert not b.complaints, b.complaints


def story_a_programs_graph_opens_and_closes():
    with Daemon() as d, browser.Browser() as b:
        p = program(d)
        b.open(address(d))
        b.wait(READY)
        b.run("document.querySelector('#programs a').click()")
        b.wait("!document.getElementById('graph').hidden", "the graph")
        assert p in b.text("graph-title")
        want = d.get(f"/v1/programs/{p}/graph", expect=200).text
        assert b.run("document.getElementById('graph-text').textContent") == want
        b.run("document.getElementById('graph-close').click()")
        b.wait("document.getElementById('graph').hidden", "closed")
        b.open(address(d, "/?"))
        b.open(address(d, f"/#program/{p[:20]}"))
        b.wait("!document.getElementById('graph').hidden", "by its address")
        assert p[:20] in b.text("graph-title")


def story_an_exports_progress_is_live():
    with gate() as door, Daemon(env=door.env) as d, browser.Browser() as b:
        job = submit_id(d)
        in_state(d, job, "running")
        b.open(address(d))
        b.wait(READY + " && !!document.querySelector('#exports progress')", "a bar")
        assert job in b.text("exports") and "running" in b.text("exports")
        door.open()
        b.wait("document.getElementById('exports').innerText.includes('succeeded')", "its end")
        assert not b.run("!!document.querySelector('#exports progress')")


def story_a_token_is_asked_for_and_kept():
    with Daemon() as plain:
        tokens = token_file(plain.directory, token_line("people", "0123456789abcdef"))
        enter = ("document.getElementById('token').value = '%s';"
                 "document.querySelector('#token-form button').click()")
        with Daemon("--set", f"http.token_file={tokens}") as d, browser.Browser() as b:
            b.open(address(d))
            b.wait("!document.getElementById('token-form').hidden", "the form")
            assert b.text("models") == "", "nothing is shown without"
            b.run(enter % "0123456789abcdeX")
            b.wait("sessionStorage.length === 0 && !document.getElementById('token-form').hidden", "refused")
            b.run(enter % "0123456789abcdef")
            b.wait(READY)
            assert "demo" in b.text("models") and b.text("token-form") == ""
            b.open(address(d))
            b.wait(READY, "after a reload")
            assert b.run("sessionStorage.length") == 1 and b.run("localStorage.length") == 0


def story_names_are_text_never_markup():
    with tempfile.TemporaryDirectory() as models, Daemon(models=models) as d, browser.Browser() as b:
        kind = "<b id=markup>x</b>"
        copy_demo(os.path.join(models, "odd"), model_type=kind)
        assert d.get("/v1/models/odd", expect=200).json["model_type"] == kind
        b.open(address(d))
        b.wait(READY)
        assert kind in b.text("models") and not b.run("!!document.getElementById('markup')")


def story_nothing_runs_that_is_not_its_own():
    with Daemon() as d, browser.Browser() as b:
        b.open(address(d))
        b.wait(READY)
        b.run("const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
              "document.body.append(script)")
        assert b.run("window.ran") is None, "the policy stops it"


if __name__ == "__main__":
    if browser.PROGRAM is None:
        print("no Chromium here: set CHROMIUM")
        sys.exit(77)
    main(globals())
