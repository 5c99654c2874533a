"""uploading.py - what the stories about models that come and go share."""

import contextlib
import os
import tempfile

from exporting import sha256
from harness import MODELS


def demo_files():
    """{name: bytes} of the bundled model."""
    files = {}
    for name in os.listdir(os.path.join(MODELS, "demo")):
        with open(os.path.join(MODELS, "demo", name), "rb") as f:
            files[name] = f.read()
    return files


FILES = demo_files()


def url(model, rest=""):
    return "/v1/models/" + model.replace("/", "%2F") + rest


def put(d, model, name, data, expect=201, **more):
    return d.request("PUT", url(model, "/files/" + name), body=data, expect=expect,
                     label=f"PUT {model} {name}", **more)


def manifest(files):
    return {"files": [{"name": name, "bytes": len(data), "sha256": sha256(data)}
                      for name, data in sorted(files.items())]}


def publish(d, model, files, expect=201):
    return d.post(url(model, "/publish"), manifest(files), expect=expect, label=f"publish {model}")


def upload(d, model, files=FILES, expect=201):
    for name, data in files.items():
        put(d, model, name, data, expect=(200, 201))
    return publish(d, model, files, expect)


def ids(d):
    return [m["id"] for m in d.get("/v1/models", expect=200).json["data"]]


def staged(models):
    """What lies in the hidden folder, but for the lock."""
    hidden = os.path.join(models, ".uploads")
    return sorted(os.path.relpath(os.path.join(folder, name), hidden)
                  for folder, _, names in os.walk(hidden) for name in names if name != "lock")


def in_folder(*path):
    """{name: bytes} of a folder."""
    folder = os.path.join(*path)
    files = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as f:
            files[name] = f.read()
    return files


@contextlib.contextmanager
def empty_models():
    with tempfile.TemporaryDirectory(prefix="pt2d-models-") as directory:
        yield directory
