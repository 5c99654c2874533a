"""hub.py - a Hugging Face hub of the tests' own: the list of a model's revision and its files,
the large ones by way of a storage at another port, as the real one has it.

Faults are knobs of Hub; `hub.requests` records each request, `hub.storage.requests` those of the
storage, as (method, path, headers)."""

import hashlib
import http.server
import json
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_digest(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer):
        self.answer, self.requests = answer, []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request, address):
        pass  # clients may go

    def end(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append(("GET", self.path, dict(self.headers)))
        self.server.answer(self)

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def file(self, data, ranges=True, cut=None):
        """The bytes, or the range that is asked for; cut: the connection breaks after so many."""
        asked = self.headers.get("Range")
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and ranges else 0
        if begin >= len(data) and begin > 0:
            return self.reply(416)
        self.send_response(206 if asked and ranges else 200)
        if asked and ranges:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        self.wfile.write(data[begin:] if cut is None else data[begin:begin + cut])
        if cut is not None and begin + cut < len(data):
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()


class Hub:
    """files: {name: bytes}; large: the names kept in the storage."""

    def __init__(self, files, large=("model.safetensors",), repo="org/demo", token=None):
        self.files, self.large, self.repo, self.token = dict(files), set(large), repo, token
        self.revisions = {"main": COMMIT, COMMIT: COMMIT, "refs/pr/1": COMMIT}
        self.served = {}      # name: other bytes than the list says
        self.busy = 0         # so many answers 429 first
        self.retry_after = "0"
        self.broken = 0       # so many answers 500
        self.cut = None       # bytes until a file's connection breaks
        self.ranges = True
        self.gated = False
        self.relative = False  # repository renamed: a relative redirect
        self.list_text = None  # bytes in place of the list
        self.redirect = None   # where files are redirected to, in place of the storage

    def __enter__(self):
        self.main, self.storage = Server(self.on_main), Server(self.on_storage)
        self.url, self.requests = self.main.url, self.main.requests
        return self

    def __exit__(self, *_):
        self.main.end()
        self.storage.end()

    def list(self, blobs=True):
        siblings = [{"rfilename": "README.md", "size": 1, "blobId": "0" * 40},
                    {"rfilename": "onnx/model.onnx", "size": 1, "blobId": "0" * 40}]
        for name, data in self.files.items():
            sibling = {"rfilename": name, "size": len(data), "blobId": git_digest(data)}
            if name in self.large:
                sibling["blobId"] = "1" * 40
                sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data),
                                  "pointerSize": 134}
            siblings.append(sibling if blobs else {"rfilename": name})
        return {"id": self.repo, "sha": COMMIT, "private": False, "tags": ["x"], "siblings": siblings}

    def paths(self):
        return [path for _, path, _ in self.requests]

    def on_main(self, r):
        if self.busy:
            self.busy -= 1
            return r.reply(429, b"{}", Retry_After=self.retry_after)
        if self.broken:
            self.broken -= 1
            return r.reply(500, b"oops")
        if self.token and r.headers.get("Authorization") != f"Bearer {self.token}":
            return r.reply(401, b'{"error": "Repository not found"}', X_Error_Code="RepoNotFound")
        if self.gated:
            return r.reply(403, b"{}", X_Error_Code="GatedRepo")
        path, _, query = r.path.partition("?")
        if self.relative and path.startswith(("/api/models/old/name/", "/old/name/")):
            return r.reply(307, Location=r.path.replace("old/name", self.repo, 1))
        api = f"/api/models/{self.repo}/revision/"
        if path.startswith(api):
            if urllib.parse.unquote(path[len(api):]) not in self.revisions:
                return r.reply(404, b"{}", X_Error_Code="RevisionNotFound")
            return r.reply(200, self.list_text if self.list_text is not None else
                           json.dumps(self.list(query == "blobs=true")).encode())
        begin = f"/{self.repo}/resolve/"
        revision, _, name = path[len(begin):].partition("/")
        if not path.startswith(begin) or name not in self.files or \
                urllib.parse.unquote(revision) not in self.revisions:
            return r.reply(404, b"{}", X_Error_Code="EntryNotFound")
        if name in self.large:
            return r.reply(302, Location=self.redirect or
                           f"{self.storage.url}/blob/{name}?X-Signature=secret{'x' * 1500}")
        return r.file(self.served.get(name, self.files[name]), self.ranges, self.cut)

    def on_storage(self, r):
        name = r.path.split("?")[0].removeprefix("/blob/")
        if "Authorization" in r.headers:
            return r.reply(400, b"a storage takes one authorization only")
        return r.file(self.served.get(name, self.files[name]), self.ranges, self.cut)
