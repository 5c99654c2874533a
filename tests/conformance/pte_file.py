"""ExecuTorch files by ExecuTorch's own readers: what its deserializer makes of the program, and
what flatc makes of XNNPACK's payloads by the schema that the release has them checked by."""

import contextlib
import ctypes
import json
import math
import os
import pathlib
import subprocess
import tempfile

import executorch.backends.xnnpack as xnnpack
import executorch.data.bin as tools
from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.scalar_type import ScalarType

import edge_page

NONE = 2**32 - 1  # no value
BYTES = {ScalarType.BYTE: 1, ScalarType.CHAR: 1, ScalarType.BOOL: 1, ScalarType.INT: 4,
         ScalarType.FLOAT: 4, ScalarType.LONG: 8}


def by_page(program, lowered):
    """Python's lowering: the very lines of doc/edge.md, in this process."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.symlink(program, edge_page.PROGRAM)
        exec(edge_page.lowering(), {})
        pathlib.Path(lowered).write_bytes(pathlib.Path(edge_page.LOWERED).read_bytes())


def nbytes(tensor):
    return math.prod(tensor.sizes) * BYTES[tensor.scalar_type]


class Payload:
    """A delegate's graph: nodes as (kind, fields), values by their ids."""

    def __init__(self, data, file):
        header = XNNHeader.from_bytes(data[:XNNHeader.EXPECTED_LENGTH])
        at = header.flatbuffer_offset
        graph = read_graph(data[at:at + header.flatbuffer_size])
        self.file, self.constants = file, data[header.constant_data_offset:]
        self.nodes = [(node["xnode_union_type"], node["xnode_union"]) for node in graph["xnodes"]]
        self.blobs = graph["constant_data"]
        self.n_inputs, self.n_outputs = len(graph["input_ids"]), len(graph["output_ids"])
        self.values, self.quantized = {}, {}
        for value in graph["xvalues"]:
            body = value["xvalue_union"]
            tensor = body.get("tensor_value", body)
            self.values[tensor["id_out"]] = tensor
            self.quantized[tensor["id_out"]] = body.get("quant_params")

    def is_constant(self, value):
        return value != NONE and self.values[value].get("constant_buffer_idx", 0) != 0

    def blob(self, i):
        """The i-th constant's bytes; those within the payload, and those by name."""
        entry = self.blobs[i]
        if entry.get("named_key"):
            return self.file.named(entry["named_key"])[:entry.get("size") or None]
        return self.constants[entry["offset"]:entry["offset"] + entry["size"]]

    def weights(self):
        """[(type, dims, group, bytes, scales' bytes)] of its fully connected nodes' weights."""
        out = []
        for kind, node in self.nodes:
            if kind != "XNNFullyConnected":
                continue
            value, params = self.values[node["filter_id"]], self.quantized[node["filter_id"]] or {}
            scales = params.get("scale_buffer_idx")
            out.append((value["datatype"], tuple(value["dims"]), params.get("group_size", 0),
                        self.blob(value["constant_buffer_idx"]),
                        self.blob(scales) if scales else b""))
        return out


def read_graph(data):
    folder = pathlib.Path(next(iter(xnnpack.__path__)), "serialization")
    with tempfile.TemporaryDirectory() as out:
        (pathlib.Path(out) / "graph.bin").write_bytes(data)
        subprocess.run([pathlib.Path(next(iter(tools.__path__)), "flatc"), "--json", "--strict-json",
                        "--defaults-json", "--raw-binary", "-o", out, folder / "schema.fbs", "--",
                        f"{out}/graph.bin"], check=True, capture_output=True)
        return json.loads((pathlib.Path(out) / "graph.json").read_text())


class File:
    def __init__(self, data):
        self.data = bytes(data)
        self.pte = deserialize_pte_binary(self.data)
        self.plan = next(p for p in self.pte.program.execution_plan if p.name == "forward")
        self.values = [value.val for value in self.plan.values]
        self.calls = [i.instr_args for i in self.plan.chains[0].instructions]
        self.arena_bytes = self.plan.non_const_buffer_sizes[1]

    def named(self, key):
        store = self.pte.named_data
        return store.buffers[store.pte_data[key].buffer_index]

    def constant(self, value):
        """The bytes of a constant tensor."""
        tensor = self.values[value]
        assert tensor.allocation_info is None and tensor.data_buffer_idx > 0
        return self.pte.program.constant_buffer[tensor.data_buffer_idx].storage[:nbytes(tensor)]

    def payloads(self):
        return [Payload(self.pte.program.backend_delegate_data[d.processed.index].data, self)
                for d in self.plan.delegates]

    def kernel(self, call):
        return self.plan.operators[call.op_index].name

    def calls_of(self, prefix):
        return [c for c in self.calls if type(c).__name__ == "KernelCall" and
                self.kernel(c).startswith(prefix)]

    # ---- the arena ----

    def place(self, value):
        """(first byte, behind the last) of a tensor in the arena; otherwise None."""
        tensor = self.values[value]
        at = getattr(tensor, "allocation_info", None)
        if at is None:
            return None
        first = at.memory_offset_low + (at.memory_offset_high << 32)
        return first, first + nbytes(tensor)

    def caches(self):
        """Places of what is filled when the method is loaded."""
        return [self.place(i) for i, value in enumerate(self.values)
                if getattr(value, "allocation_info", None) and value.data_buffer_idx]

    def zeros(self):
        """Where in the file that is what the caches begin as, a range; it must be the one."""
        assert len(self.pte.mutable_data) == 2 and len(self.pte.mutable_data[0].storage) == 0
        return range(len(self.data) - len(self.pte.mutable_data[1].storage), len(self.data))

    def base(self, outputs):
        """Where the arena is; outputs: of a call, not cloned."""
        return outputs[0].data_ptr() - self.place(self.plan.outputs[0])[0]

    def poison(self, outputs):
        """Fill the arena with ones, which are NaN, but for the caches."""
        base, at = self.base(outputs), 0
        for first, end in [*sorted(self.caches()), (self.arena_bytes, None)]:
            ctypes.memset(base + at, 0xff, first - at)
            at = end
