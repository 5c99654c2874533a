#!/usr/bin/env python3
"""One other runtime, in a process of its own, that steps when it is told.

usage: peers.py JOB     JOB in JSON: peer, dtype, length, mode ("steps" or "prefill"), tokens,
                        threads, and the files: checkpoint, program, lowered, gguf

A line of JSON on standard input is a command, a line on standard output its answer; the first
answer, without a command, says that the model is loaded: load_seconds, memory_bytes.
Commands: {"seconds": S}, answered by the seconds of each of the steps (or prefills of
`tokens`) that fit into S.  Weights are read by torch's, ExecuTorch's or llama.cpp's own
means, from files that lie in the page cache."""

import json
import os
import sys
import time

TOKEN = 504
WARM_UP = 2  # steps of each command that do not count


def memory_bytes():
    """Private and shared memory of this process, mapped files left out."""
    with open("/proc/self/smaps_rollup") as rollup:
        fields = dict(line.split(":") for line in rollup if ":" in line and "-" not in line)
    return 1024 * sum(int(fields[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem"))


class Peer:
    """A model in memory.  seek(p), then step() for each token; or prefill()."""

    def __init__(self, job):
        self.job = job


class Torch(Peer):
    def __init__(self, job):
        super().__init__(job)
        import torch
        self.torch = torch
        torch.set_num_threads(job["threads"])
        self.one = torch.tensor([[TOKEN]])
        self.many = torch.full((1, job["tokens"]), TOKEN)


class Eager(Torch):
    """Transformers with its static cache, as it is after from_pretrained."""

    def load(self):
        import transformers
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            self.job["checkpoint"], dtype=getattr(self.torch, self.job["dtype"])).eval()
        self.cache = transformers.StaticCache(config=self.model.config,
                                              max_cache_len=self.job["length"])
        self.call = self.model.forward
        self.forward(self.one)  # makes the cache's buffers

    def seek(self, position):
        with self.torch.inference_mode():
            for layer in self.cache.layers:
                layer.cumulative_length.fill_(position)

    def forward(self, ids):
        with self.torch.inference_mode():
            return self.call(input_ids=ids, past_key_values=self.cache, use_cache=True,
                             logits_to_keep=1).logits

    def step(self):
        self.forward(self.one)

    def prefill(self):
        self.seek(0)
        self.forward(self.many)


class Compiled(Eager):
    """The same through torch.compile."""

    def load(self):
        super().load()
        self.call = self.torch.compile(self.model.forward, dynamic=False)
        self.prefill() if self.job["mode"] == "prefill" else self.step()


class Exported(Torch):
    """The exported program's module in torch."""

    def load(self):
        program = self.torch.export.load(self.job["program"])
        self.module = program.module()

    def seek(self, position):
        self.position = position

    def step(self):
        with self.torch.inference_mode():
            self.module(input_ids=self.one, cache_position=self.torch.tensor([self.position]))
        self.position += 1

    def prefill(self):
        with self.torch.inference_mode():
            self.module(input_ids=self.many,
                        cache_position=self.torch.arange(self.job["tokens"]))


class ExecuTorch(Torch):
    """The exported program, lowered to XNNPACK."""

    def load(self):
        from executorch.extension.pybindings import portable_lib
        portable_lib._unsafe_reset_threadpool(self.job["threads"])
        self.method = portable_lib._load_for_executorch(self.job["lowered"])
        self.seek(0)
        self.prefill() if self.job["mode"] == "prefill" else self.step()

    def seek(self, position):
        self.position = position

    def step(self):
        self.method.forward((self.one, self.torch.tensor([self.position])))
        self.position += 1

    def prefill(self):
        self.method.forward((self.many, self.torch.arange(self.job["tokens"])))


class LlamaCpp(Peer):
    """llama.cpp by its C functions."""

    def load(self):
        import llama_cpp
        self.lib = lib = llama_cpp
        lib.llama_log_set(self.silence(), None)
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(self.job["gguf"].encode(),
                                                    lib.llama_model_default_params())
        wants = lib.llama_context_default_params()
        wants.n_ctx = wants.n_batch = max(self.job["length"], 256)
        wants.n_threads = wants.n_threads_batch = self.job["threads"]
        self.context = lib.llama_init_from_model(self.model, wants)
        self.memory = lib.llama_get_memory(self.context)
        self.filled = 0

    def silence(self):
        import llama_cpp
        self.silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
        return self.silent

    def decode(self, n):
        tokens = (self.lib.llama_token * n)(*[TOKEN] * n)
        if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(tokens, n)) != 0:
            raise RuntimeError(f"llama_decode of {n} tokens at {self.filled}")
        self.lib.llama_get_logits_ith(self.context, -1)
        self.filled += n

    def seek(self, position):
        """Its time depends on what is filled, so what is missing is run."""
        if self.filled > position:
            self.lib.llama_memory_seq_rm(self.memory, 0, position, -1)
            self.filled = position
        while self.filled < position:
            self.decode(min(512, position - self.filled))

    def step(self):
        self.decode(1)

    def prefill(self):
        self.seek(0)
        self.decode(self.job["tokens"])


PEERS = {"eager": Eager, "compiled": Compiled, "exported": Exported, "executorch": ExecuTorch,
         "llama.cpp": LlamaCpp}


def time_of(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def window_of(length):
    """How many positions at a cache's end are filled again and again."""
    return 16 if length < 512 else 64


def steps(peer, length, seconds):
    """Seconds of each token, at the end of a cache of that length, as many as fit."""
    window = window_of(length)
    times, end = [], time.monotonic() + seconds
    while len(times) <= WARM_UP or time.monotonic() < end:
        if len(times) % window == 0:
            peer.seek(length - window)
        times.append(time_of(peer.step))
    return times[WARM_UP:]


def prefills(peer, seconds):
    """Seconds of each prefill, as many as fit; at least one."""
    times, end = [], time.monotonic() + seconds
    while not times or time.monotonic() < end:
        times.append(time_of(peer.prefill))
    return times


def main():
    job = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    peer = PEERS[job["peer"]](job)
    before, begin = memory_bytes(), time.monotonic()
    peer.load()
    facts = {"load_seconds": time.monotonic() - begin, "memory_bytes": memory_bytes() - before}
    if job["mode"] == "steps":  # now, so that no turn takes the time
        peer.seek(job["length"] - window_of(job["length"]))
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        seconds = json.loads(line)["seconds"]
        times = steps(peer, job["length"], seconds) if job["mode"] == "steps" else \
            prefills(peer, seconds)
        print(json.dumps(times), file=answers, flush=True)


if __name__ == "__main__":
    main()
