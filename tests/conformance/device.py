"""Lower a program by ExecuTorch and run it there."""

import copy

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import (EdgeCompileConfig, ExecutorchBackendConfig,
                             to_edge_transform_and_lower)
from executorch.runtime import Runtime, Verification
from transformers.activations import GELUTanh

import reference


def to_executorch(path, backend, reinplace=False):
    """The program as ExecuTorch has it; backend is "xnnpack" or "portable"."""
    program = torch.export.load(str(path))
    edge = to_edge_transform_and_lower(
        program, partitioner=[XnnpackPartitioner()] if backend == "xnnpack" else [],
        compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True))
    return edge.to_executorch(ExecutorchBackendConfig(run_reinplace_pass=reinplace))


def lower(path, backend, reinplace=False):
    """The bytes of the .pte."""
    return bytes(to_executorch(path, backend, reinplace).buffer)


def pieces(program):
    """(the delegated pieces, the other operators that a run calls)"""
    plan = program.executorch_program.execution_plan[0]
    calls = [type(i.instr_args).__name__ for i in plan.chains[0].instructions]
    kernels = [plan.operators[i.instr_args.op_index].name for i in plan.chains[0].instructions
               if type(i.instr_args).__name__ == "KernelCall"]
    return calls.count("DelegateCall"), sum(not name.startswith("executorch_prim") for name in kernels)


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


def eager_logits_of_xnnpack(folder, ids):
    """What XNNPACK's should be: ExecuTorch 1.5.1 computes gelu by erf there where the graph
    says approximate="tanh" (up to 1.4e-4 of the largest logit here), in Python's exports too."""
    model = copy.deepcopy(reference.load(str(folder)))
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, GELUTanh):
                setattr(module, name, torch.nn.GELU())
    with torch.no_grad():
        return model(torch.tensor(ids), use_cache=False).logits.double()
