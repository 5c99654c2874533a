"""golden.py - run one op of torch, and write down the call and what it answered.

A case is a function of a Graph: g.f(...) and g.t(...) make inputs, g("add.Tensor", x, 2)
calls torch.ops.aten.add.Tensor and notes the call as an exported program would, g.out(x)
is what the program answers.  It is run three times, F standing for float32, bfloat16 and
float16.  Inputs are numbers that all three hold exactly, so that float32's answers are what
the others are measured against."""
import math

import torch

F = "F"  # the dtype under test
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16",
         torch.float64: "float64", torch.int64: "int64", torch.int32: "int32", torch.int16: "int16",
         torch.int8: "int8", torch.uint8: "uint8", torch.bool: "bool"}
CODES = {torch.uint8: 1, torch.int8: 2, torch.int16: 3, torch.int32: 4, torch.int64: 5,
         torch.float16: 6, torch.float32: 7, torch.float64: 8, torch.bool: 12, torch.bfloat16: 13}
BITS = {torch.bfloat16: 8, torch.float16: 11}
SMALLEST = {torch.bfloat16: 2.0 ** -133, torch.float16: 2.0 ** -24}


class Value:
    def __init__(self, name, now):
        self.name, self.now = name, now  # a tensor, or a number of Python's


class Graph:
    def __init__(self, dtype):
        self.dtype, self.seed = dtype, 1
        self.inputs, self.nodes, self.values, self.outs = [], [], {}, []

    # ---- inputs ----

    def t(self, data, dtype=torch.int64):
        """An input with the elements of data (nested lists)."""
        now = torch.tensor(data, dtype=self.dtype if dtype is F else dtype)
        v = self.value(now)
        self.inputs.append((v.name, now.clone()))
        return v

    def f(self, *sizes, low=-2, high=2, step=32, dtype=F):
        """An input of multiples of 1/step between low and high, in an order without pattern."""
        n, span = math.prod(sizes), (high - low) * step + 1
        data = []
        for _ in range(n):
            self.seed = (self.seed * 6364136223846793005 + 1442695040888963407) % 2 ** 64
            data.append(low + (self.seed >> 33) % span / step)
        now = torch.tensor(data, dtype=torch.float64).reshape(sizes)
        v = self.value(now.to(self.dtype if dtype is F else dtype))
        self.inputs.append((v.name, v.now.clone()))
        return v

    # ---- calls ----

    def value(self, now):
        v = Value(f"v{len(self.values)}", now)
        self.values[v.name] = v
        return v

    def real(self, x):
        if isinstance(x, (list, tuple)):
            return [self.real(i) for i in x]
        return self.dtype if x is F else x.now if isinstance(x, Value) else x

    def of(self, space):
        """g.of("transformers")("op", ...): ops of another library than aten."""
        return lambda op, *args, **kw: self(op, *args, space=space, **kw)

    def __call__(self, op, *args, space="aten", **kw):
        name, _, overload = op.partition(".")
        fn = getattr(getattr(getattr(torch.ops, space), name), overload or "default")
        now = fn(*self.real(args), **{k: self.real(v) for k, v in kw.items()})
        formal = fn._schema.arguments
        inputs = [(formal[i], a, 1) for i, a in enumerate(args)]
        inputs += [(next(f for f in formal if f.name == k), a, 2) for k, a in kw.items()]
        outs, outputs = [], []
        for i, ret in enumerate(fn._schema.returns):
            one = now[i] if len(fn._schema.returns) > 1 else now
            if isinstance(one, (list, tuple)):
                outs.append([self.value(x) for x in one])
                outputs.append({"as_tensors": [{"name": x.name} for x in outs[-1]]})
                continue
            outs.append(self.value(one))
            kind = type(one).__name__
            outputs.append({"as_tensor": {"name": outs[-1].name}} if kind == "Tensor" else
                           {f"as_sym_{kind}": {"as_name": outs[-1].name}})
        self.nodes.append({"target": f"torch.ops.{space}.{name}.{overload or 'default'}",
                           "inputs": [{"name": f.name, "arg": encode(f.type, a), "kind": k}
                                      for f, a, k in inputs],
                           "outputs": outputs, "metadata": {}, "name": f"n{len(self.nodes)}"})
        return None if not outs else outs[0] if len(outs) == 1 else outs

    def size(self, op, *args):
        """Arithmetic on sizes: _operator.add and the like."""
        import operator
        now = getattr(operator, op)(*self.real(args))
        out = self.value(now)
        kind = "bool" if isinstance(now, bool) else "int"
        self.nodes.append({"target": f"_operator.{op}", "inputs": [
            {"name": n, "arg": encode(None, a), "kind": 1} for n, a in zip("ab", args)],
            "outputs": [{f"as_sym_{kind}": {"as_name": out.name}}], "metadata": {},
            "name": f"n{len(self.nodes)}"})
        return out

    def out(self, *values):
        self.outs += values


def encode(type_, a):
    """An argument as model.json writes it (torch/_export/serde/schema.py)."""
    text = "" if type_ is None else str(type_)
    if a is None:
        return {"as_none": True}
    if isinstance(a, (list, tuple)):
        if "Tensor" in text and "Optional" not in text:
            return {"as_tensors": [{"name": x.name} for x in a]}
        if "Tensor" in text:
            return {"as_optional_tensors": [{"as_none": True} if x is None else
                                            {"as_tensor": {"name": x.name}} for x in a]}
        if any(isinstance(x, Value) for x in a):
            return {"as_sym_ints": [{"as_name": x.name} if isinstance(x, Value) else
                                    {"as_int": x} for x in a]}
        return {"as_ints": list(a)}
    if isinstance(a, Value):
        kind = type(a.now).__name__
        return {"as_tensor": {"name": a.name}} if kind == "Tensor" else {f"as_sym_{kind}": {"as_name": a.name}}
    if a is F:
        return {"as_scalar_type": F}
    if isinstance(a, torch.dtype):
        return {"as_scalar_type": CODES[a]}
    if isinstance(a, torch.device):
        return {"as_device": {"type": a.type, "index": a.index}}
    if isinstance(a, torch.layout):
        return {"as_layout": 7}
    if isinstance(a, torch.memory_format):
        return {"as_memory_format": {torch.contiguous_format: 1, torch.preserve_format: 4}[a]}
    if isinstance(a, bool):
        return {"as_bool": a}
    if isinstance(a, int):
        return {"as_float": float(a)} if text == "float" else {"as_int": a}
    if isinstance(a, float):
        return {"as_float": a if math.isfinite(a) else number(a)}
    return {"as_string": a}


# ---- what a case becomes ----

def number(x):
    return x if not isinstance(x, float) or math.isfinite(x) else \
        "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"


def elements(t):
    return [number(x) for x in t.reshape(-1).tolist()]


def dtype_of(tensors):
    """F where it is the dtype under test in each run, otherwise the dtype's name."""
    seen = [t.dtype for t in tensors]
    if len(seen) > 1 and seen == DTYPES[:len(seen)]:
        return F
    assert len(set(seen)) == 1, seen
    return NAMES[seen[0]]


def roundings(dtype, exact, got):
    """How far torch's own answer lies from float32's, in units of the last place."""
    want, got = exact.double().reshape(-1).tolist(), got.double().reshape(-1).tolist()
    worst = 0.0
    for w, g in zip(want, got):
        if math.isfinite(w) and math.isfinite(g):
            unit = SMALLEST[dtype] if w == 0 else max(
                SMALLEST[dtype], 2.0 ** (math.frexp(w)[1] - BITS[dtype]))
            worst = max(worst, abs(w - g) / unit)
    return max(1, math.ceil(worst))


def run(name, fn, exact):
    graphs, dtypes = [], []
    for dtype in DTYPES:
        g = Graph(dtype)
        try:
            fn(g)
        except (RuntimeError, NotImplementedError) as e:
            if dtype is torch.float32 or "not implemented" not in str(e):
                raise RuntimeError(f"{name} in {dtype}: {e}")
            continue  # torch itself has no kernel
        if graphs and not any(x.dtype != y.dtype for (_, x), (_, y) in zip(g.inputs, graphs[0].inputs)) \
                and g.nodes == graphs[0].nodes and '"F"' not in str(g.nodes) and "'F'" not in str(g.nodes):
            break  # nothing in it is of the dtype under test
        graphs.append(g)
        dtypes.append(dtype)
    assert dtypes == DTYPES[:len(dtypes)], dtypes
    first = graphs[0]
    case = {"name": name, "dtypes": [NAMES[d] for d in dtypes], "exact": exact}
    case["inputs"] = [{"name": n, "data": elements(t)} for n, t in first.inputs]
    case["values"] = {n: [dtype_of([g.values[n].now for g in graphs]), list(v.now.shape)]
                      if isinstance(v.now, torch.Tensor) else [type(v.now).__name__]
                      for n, v in first.values.items()}
    case["nodes"] = first.nodes
    case["outputs"] = [{"name": v.name, "data": elements(v.now)} for v in first.outs]
    case["roundings"] = [max(roundings(d, a.now, b.now) for a, b in zip(first.outs, g.outs))
                         if a_float(first) else 1 for d, g in zip(dtypes[1:], graphs[1:])]
    return case


def a_float(g):
    return any(v.now.dtype.is_floating_point for v in g.outs)
