"""Write the cases of this folder: graphs that must not run, each with its error.

    python3 tests/data/aten-refused/make.py

tests/aten_case.h says what graph.json means, tests/cases.h what error is.  Most graphs
have w, a parameter of (4, 3), b, a buffer like it, and x, an input like it."""
import json
import os

F32, I64 = "float32", "int64"
HERE = os.path.dirname(os.path.abspath(__file__))


def arg(a):
    if a is None:
        return {"as_none": True}
    if isinstance(a, bool):
        return {"as_bool": a}
    if isinstance(a, int):
        return {"as_int": a}
    if isinstance(a, float):
        return {"as_float": a}
    if isinstance(a, dict):  # as it is
        return a
    if isinstance(a, list):
        if a and isinstance(a[0], str):
            return {"as_tensors": [{"name": x[1:]} for x in a]}
        return {"as_ints": a}
    return {"as_tensor": {"name": a[1:]}} if a[0] == "@" else \
        {"as_sym_int": {"as_name": a[1:]}} if a[0] == "$" else {"as_string": a}


DTYPE = {"as_scalar_type": "F"}
INDICES = {"as_optional_tensors": [{"as_tensor": {"name": "i"}}]}


class Case:
    def __init__(self, name, error, text, **more):
        self.name, self.error, self.text, self.more = name, error, text, more
        self.values = {"w": [F32, [4, 3]], "b": [F32, [4, 3]], "x": [F32, [4, 3]], "i": [I64, [2]]}
        self.inputs = [{"name": "w", "kind": "parameter", "data": list(range(12))},
                       {"name": "b", "kind": "buffer", "data": list(range(12))},
                       {"name": "x", "data": [1] * 12}, {"name": "i", "data": [0, 9]}]
        self.nodes, self.outputs = [], []

    def call(case, op, out=None, meta=None, /, **args):
        """out: a name, a list of them, or None; meta: dtype and sizes, ["int"], ..."""
        outs = out if isinstance(out, list) else [out] if out else []
        for o in outs:
            case.values[o] = meta or [F32, [4, 3]]
        kind = {"int": "as_sym_int", "bool": "as_sym_bool"}.get(meta[0] if meta else "")
        outputs = [{"as_tensors": [{"name": o} for o in outs]}] if isinstance(out, list) else \
            [{kind: {"as_name": o}} if kind else {"as_tensor": {"name": o}} for o in outs]
        case.nodes.append({"target": op if op.startswith("_operator.") else "torch.ops." + op,
                           "inputs": [{"name": k.rstrip("_") if k != "input_" else "input", "arg": arg(v), "kind": 1}
                                      for k, v in args.items()],
                           "outputs": outputs, "metadata": {}, "name": f"n{len(case.nodes)}"})
        return case

    def output(self, name, **more):
        self.outputs.append({"name": name, **more})
        return self

    def write(self):
        folder = os.path.join(HERE, self.name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "graph.json"), "w") as f:
            json.dump({"values": self.values, "inputs": self.inputs, "nodes": self.nodes,
                       "outputs": self.outputs or [{"name": "x"}], **self.more}, f, separators=(",", ":"))
            f.write("\n")
        with open(os.path.join(folder, "error"), "w") as f:
            f.write(f"{self.error}\n{self.text}\n")


CASES = []


def refused(name, text, error="program-refused", **more):
    CASES.append(Case(name, error, text, **more))
    return CASES[-1]


def failed(name, text, **more):
    return refused(name, text, "program-failed", **more)


# ---- ops ----
refused("op-from-file", "'torch.ops.aten.from_file.default' is not on the list of ops that run here").call(
    "aten.from_file.default", "y", filename="/etc/passwd", shared=False, size=10)
refused("op-random", "is not on the list").call("aten.rand_like.default", "y", self="@x")
refused("op-set-storage", "is not on the list").call("aten.set_.source_Tensor", "y", self="@b", source="@w")
refused("op-as-strided", "is not on the list").call(
    "aten.as_strided.default", "y", self="@x", size=[100], stride=[1])
refused("op-resize", "is not on the list").call("aten.resize_.default", "y", self="@b", size=[1000])
refused("op-out-overload", "is not on the list").call("aten.add.out", "y", self="@x", other="@x", out="@w")
refused("op-of-another-library", "'torch.ops.torchvision.nms.default' is not on the list").call(
    "torchvision.nms.default", "y", dets="@x")
refused("op-of-python", "'_operator.pow' is not on the list").call("_operator.pow", "y", ["int"], a=2, b=3)
refused("op-dropout-in-training", "drops elements at random").call(
    "aten.dropout.default", "y", input="@x", p=0.1, train=True)
refused("op-attention-dropout", "drops elements at random").call(
    "aten.scaled_dot_product_attention.default", "y", query="@x", key="@x", value="@x", dropout_p=0.5)

for missing, more in (("offs", {}), ("bias", dict(offs="@i", bias="@x"))):
    refused(f"op-groups-and-{missing}", f"argument '{missing}': only groups of rows").call(
        "aten._grouped_mm.default", "y", self="@x", mat2="@w", **more)

# ---- quantised programs ----
INT8, UINT8, INT64, DOUBLE = ({"as_scalar_type": n} for n in (2, 1, 5, 8))


def torchao(refusal, name, text, op, **args):
    """A call of torchao's that is right but for args, of q, int8 of x's sizes; scale s and zero point z."""
    c = refusal(f"quantised-{name}", text)
    c.values |= {"q": ["int8", [4, 3]], "s": [F32, [4, 1]], "z": ["int8", [4, 1]]}
    c.inputs += [{"name": "q", "data": [1] * 12}, {"name": "s", "data": [0.5] * 4}, {"name": "z", "data": [0] * 4}]
    right = {"dequantize": dict(input_="@q", block_size=[1, 3], scale="@s", zero_point="@z", input_dtype=INT8,
                                quant_min=-128, quant_max=127),
             "quantize": dict(input_="@x", block_size=[1, 3], scale="@s", zero_point="@z", output_dtype=INT8),
             "choose_qparams": dict(input_="@x", mapping_type="ASYMMETRIC", block_size=[1, 3], target_dtype=INT8)}
    outs = ["y", "y2"] if op == "choose_qparams" else ["y"]
    c.call(f"torchao.{op}_affine.default", outs, None, **{**right[op], **args})
    c.nodes[-1]["outputs"] = [{"as_tensor": {"name": o}} for o in outs]
    return c


torchao(refused, "block-of-0", "argument 'block_size': size 1 is 0", "dequantize", block_size=[1, 0])
torchao(refused, "block-negative", "argument 'block_size': size 0 is -1", "quantize", block_size=[-1, 3])
torchao(failed, "block-does-not-divide", "block_size 1 is 2, the tensor's size 3", "dequantize", block_size=[1, 2])
torchao(failed, "block-too-large", "block_size 0 is 8, the tensor's size 4", "choose_qparams", block_size=[8, 3])
torchao(failed, "block-of-three", "block_size of 3 sizes for a tensor of 2", "quantize", block_size=[1, 1, 3])
torchao(failed, "block-of-one", "block_size of 1 sizes for a tensor of 2", "choose_qparams", block_size=[3])
torchao(failed, "scale-of-other-blocks", "scale: shape '[4, 3]'", "dequantize", block_size=[1, 1])
torchao(failed, "scale-is-int8", "scale is no tensor of float32", "dequantize", scale="@z")
torchao(failed, "zero-points-too-few", "zero_point: shape '[4, 1]'", "dequantize", zero_point="@i")
torchao(failed, "zero-point-none", "zero_point is no tensor", "quantize", zero_point=None)
torchao(failed, "input-of-another-dtype", "input is of int8, input_dtype uint8", "dequantize", input_dtype=UINT8,
        quant_min=0)
torchao(failed, "input-of-int8", "input is no tensor of float32", "choose_qparams", input_="@q")
torchao(failed, "input-number", "input is no tensor", "dequantize", input_=3)
torchao(refused, "input-none", "is of another type", "quantize", input_=None)
torchao(failed, "input-none-to-choose-by", "input is no tensor", "choose_qparams", input_=None)
torchao(refused, "values-of-int64", "argument 'target_dtype': values of int64", "choose_qparams", target_dtype=INT64)
torchao(refused, "values-of-float64", "argument 'output_dtype': values of float64", "quantize", output_dtype=DOUBLE)
torchao(refused, "numbers-of-int8", "argument 'output_dtype' is int8", "dequantize", output_dtype=INT8)
torchao(refused, "scales-of-float64", "argument 'scale_dtype' is float64", "choose_qparams", scale_dtype=DOUBLE)
torchao(refused, "limits-crossed", "'quant_max' are 7 and -8", "quantize", quant_min=7, quant_max=-8)
torchao(refused, "limits-too-wide", "'quant_max' are -128 and 128", "choose_qparams", quant_max=128)
torchao(refused, "limits-not-a-number", "'quant_max' are nan and 127", "quantize", quant_min={"as_float": "NaN"})
torchao(refused, "limits-true", "argument 'quant_max' is no number", "dequantize", quant_max=True)
torchao(refused, "mapping", "argument 'mapping_type' is 'LOGARITHMIC'", "choose_qparams", mapping_type="LOGARITHMIC")
torchao(refused, "mapping-missing", "argument 'mapping_type' is of another type", "choose_qparams", mapping_type=None)
c = torchao(failed, "of-no-rows", "block_size 0 is 1, the tensor's size 0", "choose_qparams", input_="@e")
c.nodes.insert(0, {"target": "torch.ops.aten.narrow.default", "inputs": [
    {"name": n, "arg": arg(a), "kind": 1} for n, a in
    (("self", "@x"), ("dim", 0), ("start", 0), ("length", 0))], "outputs": [{"as_tensor": {"name": "e"}}],
    "metadata": {}, "name": "empty"})
c.values["e"] = [F32, [0, 3]]

# ---- arguments ----
refused("arg-missing", "argument 'other' is missing").call("aten.add.Tensor", "y", self="@x")
refused("arg-unknown", "has no argument 'beta'").call("aten.add.Tensor", "y", self="@x", other=1, beta=2)
c = refused("arg-twice", "argument 'other' is given twice").call("aten.add.Tensor", "y", self="@x", other=1, other_=2)
refused("arg-string-for-a-tensor", "argument 'self' is of another type").call("aten.relu.default", "y", self="text")
refused("arg-list-for-a-tensor", "argument 'self' is of another type").call("aten.relu.default", "y", self=[1, 2])
refused("arg-tensor-for-a-number", "argument 'dim' is of another type").call(
    "aten.cumsum.default", "y", self="@x", dim="@x")
refused("arg-float-for-a-size", "argument 'dim' is of another type").call(
    "aten.cumsum.default", "y", self="@x", dim=1.5)
refused("arg-number-for-a-list", "argument 'tensors' is of another type").call("aten.cat.default", "y", tensors=3)
refused("arg-none-for-a-tensor", "argument 'self' is of another type").call("aten.relu.default", "y", self=None)
refused("arg-cuda", "device 'cuda:0', only the CPU is here").call(
    "aten.to.device", "y", self="@x", device={"as_device": {"type": "cuda", "index": 0}}, dtype=DTYPE)
refused("arg-pinned-memory", "pinned memory").call("aten.zeros_like.default", "y", self="@x", pin_memory=True)
refused("arg-channels-last", "memory format 2 is neither contiguous nor preserve").call(
    "aten.clone.default", "y", self="@x", memory_format={"as_memory_format": 2})
refused("output-of-another-kind", "its output 0 is of another kind").call("aten.relu.default", ["y"], self="@x")
refused("output-size-for-a-tensor", "its output 0 is of another kind").call(
    "aten.sym_size.int", "y", self="@x", dim=0)

# ---- writes ----
refused("write-a-weight", "writes the parameter 'w'").call("aten.zero_.default", "y", self="@w")
refused("write-an-input", "writes the input 'x'").call("aten.zero_.default", "y", self="@x")
refused("write-a-number", "writes a number").call("aten.add_.Tensor", "y", self=3, other="@x")
VIEWS = {
    "alias": ("alias.default", {}), "chunk": ("chunk.default", {"chunks": 2}),
    "contiguous": ("contiguous.default", {}), "detach": ("detach_.default", {}),
    "expand": ("expand.default", {"size": [4, 3]}), "narrow": ("narrow.default", {"dim": 0, "start": 1, "length": 2}),
    "permute": ("permute.default", {"dims": [1, 0]}), "reshape": ("reshape.default", {"shape": [12]}),
    "select": ("select.int", {"dim": 0, "index": 1}), "slice": ("slice.Tensor", {"dim": 0, "start": 1, "end": 3}),
    "split": ("split_with_sizes.default", {"split_sizes": [1, 3]}), "to": ("to.dtype", {"dtype": DTYPE}),
    "unbind": ("unbind.int", {}), "view": ("view.default", {"size": [2, 6]}),
    "type-as": ("type_as.default", {"other": "@x"}), "dropout": ("dropout.default", {"p": 0.1, "train": False}),
}
for view, (op, args) in VIEWS.items():
    for whose, of in (("w", "the parameter 'w'"), ("x", "the input 'x'")):
        c = refused(f"write-{'a-weight' if whose == 'w' else 'an-input'}-through-{view}", f"writes {of}")
        c.call("aten." + op, ["p", "q"] if view in ("chunk", "split") else ["p", "q", "r", "s"] if view == "unbind" else "p",
               **{"input" if view == "dropout" else "self": "@" + whose}, **args)
        c.call("aten.fill_.Scalar", "y", self="@p", value=1.0)
refused("write-a-weight-through-many-views", "writes the parameter 'w'").call(
    "aten.view.default", "p", [F32, [2, 2, 3]], self="@w", size=[2, 2, 3]).call(
    "aten.transpose.int", "q", [F32, [3, 2, 2]], self="@p", dim0=0, dim1=2).call(
    "aten.select.int", "r", [F32, [2, 2]], self="@q", dim=0, index=0).call("aten.zero_.default", "y", self="@r")
refused("write-a-weight-that-a-write-answered", "writes the parameter 'w'").call(
    "aten.copy_.default", "y", self="@w", src="@x")
refused("write-a-weight-by-index-put", "writes the parameter 'w'").call(
    "aten.index_put_.default", "y", self="@w", indices=INDICES, values="@x")
failed("write-a-weight-behind-a-wrong-dtype", "answers float32, the program says int64").call(
    "aten.to.dtype", "p", [I64, [4, 3]], self="@w", dtype=DTYPE).call("aten.zero_.default", "y", self="@p")
failed("write-an-input-behind-a-wrong-dtype", "answers float32, the program says int64").call(
    "aten.type_as.default", "p", [I64, [4, 3]], self="@x", other="@x").call("aten.zero_.default", "y", self="@p")

# ---- sizes ----
refused("memory-one-tensor", "of intermediate results, at most 1048576 are allowed", "limit-exceeded",
        max_run_bytes=1 << 20).call("aten.full.default", "y", size=[1 << 20], fill_value=1.0, dtype=DTYPE)
c = refused("memory-many-tensors", "of intermediate results, at most 1048576 are allowed", "limit-exceeded",
            max_run_bytes=1 << 20)
for k in range(6):
    c.call("aten.full.default", f"y{k}", [F32, [50000]], size=[50000], fill_value=1.0, dtype=DTYPE)
c.call("aten.cat.default", "y", [F32, [300000]], tensors=[f"@y{k}" for k in range(6)])
refused("memory-repeat", "of intermediate results, at most 1048576 are allowed", "limit-exceeded",
        max_run_bytes=1 << 20).call("aten.repeat.default", "y", self="@x", repeats=[1000, 1000])
refused("memory-arange", "of intermediate results, at most 1048576 are allowed", "limit-exceeded",
        max_run_bytes=1 << 20).call("aten.arange.default", "y", [I64, [4]], end=1 << 40)
refused("memory-of-a-product", "of intermediate results, at most 1048576 are allowed", "limit-exceeded",
        max_run_bytes=1 << 20).call("aten.expand.default", "p", [F32, [1000, 4, 3]], self="@x", size=[1000, 4, 3]).call(
    "aten.reshape.default", "q", [F32, [12000]], self="@p", shape=[12000]).call(
    "aten.outer.default", "y", [F32, [12000, 12000]], self="@q", vec2="@q")
refused("elements-expand", "answers a tensor of more than 2^40 elements", "limit-exceeded").call(
    "aten.expand.default", "y", self="@x", size=[1 << 40, 4, 3])
failed("elements-overflow", "n0").call("aten.zeros.default", "y", size=[1 << 62, 1 << 62], dtype=DTYPE)
failed("elements-negative", "n0").call("aten.zeros.default", "y", size=[-5], dtype=DTYPE)
failed("list-too-long", "answers 5000 tensors, at most 4096").call(
    "aten.chunk.default", ["p", "q"], self="@x", chunks=5000)
failed("list-of-another-length", "answers 2 tensors, not 3").call(
    "aten.chunk.default", ["p", "q", "r"], self="@x", chunks=2)
failed("list-dimension", "dimension out of range").call("aten.unbind.int", ["p", "q"], self="@x", dim=7)

# ---- what only shows in a run ----
failed("run-index-out-of-range", "n0").call("aten.index_select.default", "y", self="@x", dim=0, index="@i")
failed("run-write-out-of-range", "n0").call(
    "aten.index_copy_.default", "y", self="@b", dim=0, index="@i", source="@x")
failed("run-embedding-out-of-range", "n0").call("aten.embedding.default", "y", weight="@w", indices="@i")
failed("run-gather-out-of-range", "n1").call(
    "aten.view.default", "p", [I64, [1, 2]], self="@i", size=[1, 2]).call(
    "aten.gather.default", "y", self="@x", dim=0, index="@p")
failed("run-view-of-another-size", "n0").call("aten.view.default", "y", self="@x", size=[5])
failed("run-shapes-that-do-not-fit", "n0").call("aten.mm.default", "y", self="@x", mat2="@x")
failed("run-write-to-repeated-elements", "n1").call(
    "aten.expand.default", "p", [F32, [2, 4, 3]], self="@b", size=[2, 4, 3]).call(
    "aten.copy_.default", "y", self="@p", src="@x")
failed("run-group-beyond-its-rows", "ends at 9, after 0 of 4").call(
    "aten.view.default", "p", [F32, [2, 3, 2]], self="@w", size=[2, 3, 2]).call(
    "transformers.grouped_mm_fallback.default", "y", input_="@x", weight="@p", offs="@i")
failed("run-groups-of-one-matrix", "wants rows, a matrix for each group").call(
    "transformers.grouped_mm_fallback.default", "y", input_="@x", weight="@w", offs="@i")
failed("run-item-of-many", "n0").call("aten.item.default", "y", ["int"], self="@i")
failed("run-item-of-another-kind", "the element is of another kind").call(
    "aten.select.int", "p", [F32, []], self="@x", dim=0, index=0).call(
    "aten.select.int", "q", [F32, []], self="@p", dim=0, index=0).call("aten.item.default", "y", ["int"], self="@q")
failed("run-size-of-no-dimension", "dimension 2 of 2").call("aten.sym_size.int", "y", ["int"], self="@x", dim=2)
for op, b, what in (("floordiv", 0, "4 and 0"), ("mod", 0, "4 and 0"), ("mul", 1 << 62, "4 and 4611686018427387904")):
    failed(f"run-size-{op}", what + " have no such result").call(
        "aten.sym_size.int", "p", ["int"], self="@x", dim=0).call(f"_operator.{op}", "y", ["int"], a="$p", b=b)
failed("run-range", "4 is out of its range").call("aten.sym_size.int", "p", ["int"], self="@x", dim=0).call(
    "aten.sym_constrain_range.default", size="$p", min=5)
failed("run-assert-scalar", "assertion failed: it must be more").call(
    "aten.sym_size.int", "p", ["int"], self="@x", dim=0).call("_operator.gt", "q", ["bool"], a="$p", b=4).call(
    "aten._assert_scalar.default", self={"as_sym_bool": {"as_name": "q"}}, assert_msg="it must be more")
failed("run-assert-tensor", "assertion failed: not zero").call(
    "aten.select.int", "p", [I64, []], self="@i", dim=0, index=0).call(
    "aten._assert_async.msg", self="@p", assert_msg="not zero")
failed("run-assert-sizes", "the tensor has other sizes").call(
    "aten._assert_tensor_metadata.default", a="@x", size=[4, 4])
failed("run-assert-strides", "the tensor has other strides").call(
    "aten._assert_tensor_metadata.default", a="@x", size=[4, 3], stride=[1, 4])
failed("run-assert-dtype", "the tensor is of int64, not float32").call(
    "aten._assert_tensor_metadata.default", a="@i", dtype=DTYPE)
failed("run-mask-and-causal", "is_causal").call(
    "aten.scaled_dot_product_attention.default", "y", query="@x", key="@x", value="@x", attn_mask="@x",
    is_causal=True)

for c in CASES:
    c.write()
