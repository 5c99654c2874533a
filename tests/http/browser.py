"""browser.py - a headless Chromium, spoken to over a pair of pipes (DevTools protocol, NUL after each message)."""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time

from harness import TIMEOUT, until

PROGRAM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="pt2d-browser-")
        to_it, self.out = os.pipe()
        self.into, from_it = os.pipe()

        def place():  # it reads descriptor 3 and writes descriptor 4
            high = [os.dup(to_it), os.dup(from_it)]
            while min(high) < 5:
                high = [os.dup(fd) for fd in high]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             f"--user-data-dir={self.directory}", "--remote-debugging-pipe", "about:blank"],
            preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(to_it)
        os.close(from_it)
        self.buffer, self.number, self.session, self.complaints, self.is_loaded = b"", 0, None, [], False
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(TIMEOUT)
        os.close(self.out)
        os.close(self.into)
        shutil.rmtree(self.directory, ignore_errors=True)
        return False

    def _message(self):
        end = time.monotonic() + TIMEOUT
        while b"\0" not in self.buffer:
            assert select.select([self.into], [], [], max(0, end - time.monotonic()))[0], "the browser is silent"
            data = os.read(self.into, 1 << 16)
            assert data, "the browser ended"
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **params):
        """The result of a method; what the page complains of meanwhile is kept."""
        self.number += 1
        request = {"id": self.number, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.out, json.dumps(request).encode() + b"\0")
        while (message := self._message()).get("id") != self.number:
            self._hear(message)
        assert "error" not in message, f"{method}: {message}"
        return message["result"]

    def _hear(self, event):
        if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(event["params"]))
        self.is_loaded |= event.get("method") == "Page.loadEventFired"

    def open(self, url):
        """Load another document: not one that differs from the last in its #part alone."""
        if self.session is None:
            target = self.ask("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Runtime", "Log", "Page"):
                self.ask(domain + ".enable")
        self.is_loaded = False
        self.ask("Page.navigate", url=url)
        while not self.is_loaded:
            self._hear(self._message())

    def run(self, script):
        """What an expression is in the page."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script, what=None):
        return until(lambda: self.run(script), what or script)

    def text(self, element):
        """What a person reads in the element of that id; "" where it is hidden or not there."""
        return self.run(f"((x) => x && x.getClientRects().length ? x.innerText : '')"
                        f"(document.getElementById({json.dumps(element)}))")
