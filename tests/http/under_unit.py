#!/usr/bin/env python3
"""Run a command with the system calls, umask and limit of files that a unit gives it:
under_unit.py UNIT COMMAND...

Where no systemd runs, this shows whether a unit's SystemCallFilter= leaves what a program
needs.  Groups are expanded by systemd-analyze, numbers come from the C compiler's headers."""

import ctypes
import os
import re
import resource
import subprocess
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, EPERM = 0x7fff0000, 0x00050000 | 1


def output(*command, text=None):
    return subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout


def calls_of(name):
    """The calls of a group, or the call itself."""
    if not name.startswith("@"):
        return {name}
    lines = output("systemd-analyze", "--no-pager", "syscall-filter", name).split("\n")[1:]
    words = {line.strip() for line in lines if line.strip() and not line.strip().startswith("#")}
    return set().union(*[calls_of(word) for word in words])


def allowed(unit):
    """As systemd.exec(5) reads the lines: the first opens the list, ~ takes from it."""
    calls = calls_of("@default")
    for line in re.findall("^SystemCallFilter=(.*)$", unit, re.M):
        named = set().union(*[calls_of(word) for word in line.lstrip("~").split()])
        calls = calls - named if line.startswith("~") else calls | named
    return calls


def numbers():
    macros = output(os.environ.get("CC", "cc").split()[-1], "-E", "-dM", "-",
                    text="#include <sys/syscall.h>\n")
    return {name: int(number) for name, number in
            re.findall(r"^#define __NR_(\w+) (\d+)$", macros, re.M)}


def enter(calls):
    known = numbers()
    code = [(LOAD, 0, 0, 0)]  # the call's number
    for number in sorted(known[call] for call in calls if call in known):
        code += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    code.append((RETURN, 0, 0, EPERM))

    class Insn(ctypes.Structure):
        _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8),
                    ("k", ctypes.c_uint32)]

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_uint16), ("insns", ctypes.POINTER(Insn))]

    insns = (Insn * len(code))(*[Insn(*insn) for insn in code])
    program = Program(len(code), insns)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or \
            libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def main():
    with open(sys.argv[1]) as f:
        unit = f.read()
    calls = allowed(unit)
    os.umask(int(re.search("^UMask=(.*)$", unit, re.M).group(1), 8))
    files = min(int(re.search("^LimitNOFILE=(.*)$", unit, re.M).group(1)),
                resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    enter(calls)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
