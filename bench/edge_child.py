#!/usr/bin/env python3
"""What edge.py measures, each in a process of its own.

usage: edge_child.py python-export CHECKPOINT PROGRAM LENGTH
       edge_child.py lower PROGRAM LOWERED HOW     HOW: page, plain or reinplace
       edge_child.py reference CHECKPOINT IDS_FILE LOGITS_FILE N_PROMPT N
       edge_child.py run LOWERED IDS_FILE N_PROMPT THREADS
       edge_child.py compare LOGITS_FILE LOGITS_FILE

The last line on standard output is the answer, in JSON.  Of run there are more: one, when the
model is loaded, then one for each line on standard input: the seconds of each token behind the
prompt.  A line that names a file has the logits of all tokens written there."""

import json
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/conformance"))

PROMPT = ("Once upon a time, there was a little girl who lived in a small village at the edge of "
          "a forest, and every")


def python_export(checkpoint, program, length):
    import reference
    begin = time.monotonic()
    reference.python_export(checkpoint, program, max_cache_len=int(length))
    return {"seconds": time.monotonic() - begin}


def by_page(program, lowered):
    """The very lines of doc/edge.md; what they call `program` in the end."""
    import edge_page
    with tempfile.TemporaryDirectory(dir=os.path.dirname(lowered)) as folder:
        os.chdir(folder)
        os.symlink(program, edge_page.PROGRAM)
        names = {}
        exec(edge_page.lowering(), names)
        os.replace(edge_page.LOWERED, lowered)
        os.chdir("/")
    return names["program"]


def plainly(program, lowered, reinplace):
    import device
    program = device.to_executorch(program, "xnnpack", reinplace)
    with open(lowered, "wb") as f:
        program.write_to_file(f)
    return program


def lower(program, lowered, how):
    import device  # all that the lines import, so that no row has the time of it
    times = time.monotonic(), time.process_time()
    made = by_page(program, lowered) if how == "page" else plainly(program, lowered,
                                                                   how == "reinplace")
    seconds, cpu = time.monotonic() - times[0], time.process_time() - times[1]
    pieces, others = device.pieces(made)
    return {"seconds": seconds, "cpu_seconds": cpu, "pieces": pieces, "others": others,
            "bytes": os.path.getsize(lowered)}


def reference_logits(checkpoint, ids_file, logits_file, n_prompt, n):
    """The prompt's first tokens, then what Transformers adds greedily; its logits of them."""
    import reference
    import torch
    from transformers import AutoTokenizer
    ids = AutoTokenizer.from_pretrained(checkpoint)(PROMPT).input_ids[:int(n_prompt)]
    model = reference.load(checkpoint)
    with torch.no_grad():
        made = model.generate(torch.tensor([ids]), do_sample=False, pad_token_id=0,
                              max_new_tokens=int(n), min_new_tokens=int(n))[0].tolist()
    pathlib.Path(ids_file).write_text(json.dumps(made))
    torch.save(reference.eager_logits(checkpoint, [made])[0].float(), logits_file)
    return {"ids": len(made)}


def compare(wanted, got):
    import torch
    want, got = torch.load(wanted), torch.load(got)
    return {"difference": (got - want).abs().max().item(), "largest": want.abs().max().item(),
            "same": (got.argmax(-1) == want.argmax(-1)).float().mean().item()}


class Lowered:
    def __init__(self, path, threads):
        import torch
        import executorch.kernels.quantized  # noqa: F401  (operators of quantised programs)
        from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
        from executorch.extension.pybindings import portable_lib
        self.torch = torch
        torch.set_num_threads(threads)
        portable_lib._unsafe_reset_threadpool(threads)
        self.module = portable_lib._load_for_executorch(path)

    def step(self, token, position):
        torch = self.torch
        return self.module.forward((torch.tensor([[token]]), torch.tensor([position])))[0]


def run(lowered, ids_file, n_prompt, threads):
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    model = Lowered(lowered, int(threads))
    ids = json.loads(pathlib.Path(ids_file).read_text())
    print(json.dumps({"loaded": True}), file=answers, flush=True)
    for line in sys.stdin:
        file, times, logits = line.strip(), [], []
        for position, token in enumerate(ids):
            begin = time.perf_counter()
            out = model.step(token, position)
            if position >= int(n_prompt):
                times.append(time.perf_counter() - begin)
            if file:
                logits.append(out.reshape(-1).clone())
        if file:
            model.torch.save(model.torch.stack(logits), file)
        print(json.dumps(times), file=answers, flush=True)


COMMANDS = {"python-export": python_export, "lower": lower, "reference": reference_logits,
            "compare": compare}


def main():
    if sys.argv[1] == "run":
        run(*sys.argv[2:])
        return
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])), file=answers)


if __name__ == "__main__":
    main()
