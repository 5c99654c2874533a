"""saved_files.py - the files STATE/sessions/ID.saved, read and written (src/serve/saved.h)."""

import json
import os
import struct
import zlib

TRAILER = struct.Struct("=QQII8s")  # image's bytes, facts' bytes, image's CRC-32, facts' CRC-32
MAGIC = b"pt2saved"


def path_of(d, session_id, ending=".saved"):
    return os.path.join(d.state, "sessions", session_id + ending)


def read(path):
    """(image, facts)"""
    with open(path, "rb") as f:
        data = f.read()
    n_image, n_facts, _, _, magic = TRAILER.unpack(data[-TRAILER.size:])
    assert magic == MAGIC and n_image + n_facts + TRAILER.size == len(data)
    return data[:n_image], json.loads(data[n_image:n_image + n_facts])


def write(path, image, facts):
    """With the checksums that it should have."""
    session_id = os.path.basename(path).removesuffix(".saved").encode()
    text = json.dumps(facts).encode()
    head = TRAILER.pack(len(image), len(text), zlib.crc32(image, zlib.crc32(session_id)), 0, MAGIC)
    crc = zlib.crc32(head[:20], zlib.crc32(text))
    with open(path, "wb") as f:
        f.write(image + text + head[:20] + struct.pack("=I", crc) + MAGIC)
