"""pt2d's own engine, in this process: what it says of a .pt2."""

import ctypes

ALL_ROWS, LAST_ROW, NATIVE = 2, 1, 1


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("text", ctypes.c_char * 480)]


class Options(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("n_threads", ctypes.c_uint), ("packed_path", ctypes.c_char_p),
                ("max_step_bytes", ctypes.c_uint64), ("step_timeout_s", ctypes.c_uint),
                ("worker_path", ctypes.c_char_p), ("stop_fd", ctypes.c_int)]


def run(build, path, ids, spans, vocab_size, last):
    """[(n or 1, vocab) of each call], as lists of floats; spans: (start, n) of the calls; last: a
    call's last row alone."""
    lib = ctypes.CDLL(str(build / ".libs/libpt2.so"))
    err, engine, cache, out = Error(), ctypes.c_void_p(), ctypes.c_void_p(), []

    def check(status):
        assert status == 0, err.text.decode()

    check(lib.pt2_engine_open(str(path).encode(), ctypes.byref(Options(kind=NATIVE)),
                              ctypes.byref(engine), ctypes.byref(err)))
    check(lib.pt2_cache_new(engine, ctypes.byref(cache), ctypes.byref(err)))
    for start, n in spans:
        logits = (ctypes.c_float * (vocab_size * (1 if last else n)))()
        check(lib.pt2_engine_step(engine, cache, (ctypes.c_int64 * n)(*ids[start:start + n]),
                                  ctypes.c_int64(n), ctypes.c_int64(start),
                                  LAST_ROW if last else ALL_ROWS, logits, ctypes.byref(err)))
        out.append(logits)
    lib.pt2_cache_free(cache)
    lib.pt2_engine_free(engine)
    return out
