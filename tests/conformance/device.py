"""Lower a program by ExecuTorch and run it there."""

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from executorch.runtime import Runtime, Verification


def lower(path, backend):
    """The bytes of the .pte; backend is "xnnpack" or "portable"."""
    program = torch.export.load(str(path))
    edge = to_edge_transform_and_lower(
        program, partitioner=[XnnpackPartitioner()] if backend == "xnnpack" else [],
        compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True))
    return bytes(edge.to_executorch().buffer)


def run(pte, ids, chunks=None):
    """(batch, n, vocab) as float64, token by token or by chunks."""
    program = Runtime.get().load_program(pte, verification=Verification.InternalConsistency)
    method = program.load_method("forward")
    ids = torch.tensor(ids)
    out, start = [], 0
    for n in chunks or [1] * ids.shape[1]:
        position = torch.arange(start, start + n)
        logits = method.execute((ids[:, start:start + n].contiguous(), position))[0]
        out.append(logits.double().clone())
        start += n
    return torch.cat(out, 1)
