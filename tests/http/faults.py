"""faults.py - let one call after the other fail in a daemon and its workers, or kill them there.

tests/faults.c counts, beneath a daemon's state and models directories, the calls that change a
file; Faults is what it shares with the test."""

import mmap
import os
import struct

from harness import BUILD

LIBRARY = os.path.join(BUILD, ".libs", "libfaults.so")
NONE, FAIL, KILL, NO_MEMORY = 0, 1, 2, 3  # enum action
HEAD = struct.Struct("=IIIIIIII")  # struct control, up to under
FOLDER, SIZE = 512, HEAD.size + 3 * 512


class Faults:
    """env is for the daemon; under are its folders."""

    def __init__(self, directory, *under):
        self.path = os.path.join(directory, "faults")
        with open(self.path, "wb") as f:
            f.write(b"\0" * HEAD.size + b"".join(u.encode().ljust(FOLDER, b"\0") for u in under)
                    .ljust(2 * FOLDER, b"\0") + b"\0" * FOLDER)
        with open(self.path, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), SIZE)
        self.n = 0
        self.env = {"LD_PRELOAD": LIBRARY, "PT2_FAULTS": self.path,
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}

    def arm(self, action, at, n=1, error=0, pid=0):
        """From now on: call number at and the n - 1 after it.  pid: whose, of NO_MEMORY."""
        self.n = n
        self.memory[HEAD.size + 2 * FOLDER:SIZE] = b"\0" * FOLDER
        HEAD.pack_into(self.memory, 0, NONE, error, at, n, 0, 0, pid, self.has_memory)
        struct.pack_into("=I", self.memory, 0, action)

    def disarm(self):
        struct.pack_into("=I", self.memory, 0, NONE)

    @property
    def count(self):
        return HEAD.unpack_from(self.memory, 0)[4]

    @property
    def has_memory(self):
        """Can NO_MEMORY be?  Known once a process began."""
        return HEAD.unpack_from(self.memory, 0)[7]

    @property
    def hit(self):
        """The first: "fsync /path", or "" where none was."""
        return self.memory[HEAD.size + 2 * FOLDER:SIZE].rstrip(b"\0").split(b"\0")[0].decode()
