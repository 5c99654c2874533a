"""Make the golden answers of check_aten, by real torch 2.13.0 on the CPU:

    python tests/data/aten-golden/make.py

One file a group of ops, a case a line (golden.py says what a case is).  The answers are
those of float32; what torch itself differs by in bfloat16 and float16 stands under
"roundings"."""
import json
import math
import os
import sys

import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import golden
from golden import F

CPU = torch.device("cpu")
BIG = 2 ** 63 - 1
GROUPS = {}


def case(group, name, fn, exact=False):
    GROUPS.setdefault(group, []).append((name, fn, exact))


def one(group, op, *args, name=None, exact=False, **kw):
    """One call; an argument that is a function makes an input of the graph."""
    def fn(g):
        real = [[x(g) if callable(x) else x for x in a] if isinstance(a, list) else
                a(g) if callable(a) else a for a in args]
        outs = g(op, *real, **{k: v(g) if callable(v) else v for k, v in kw.items()})
        for out in outs if isinstance(outs, list) else [outs]:
            g.out(*(out if isinstance(out, list) else [out]))
    case(group, op + (f" {name}" if name else ""), fn, exact)


def f(*sizes, **kw):
    return lambda g: g.f(*sizes, **kw)


def t(data, dtype=torch.int64):
    return lambda g: g.t(data, dtype)


def same(op, *args, **kw):
    one("move", op, *args, exact=True, **kw)


# ---- what moves or makes elements ----

def moves():
    x = f(2, 3, 4)
    for op in ("alias", "clone", "contiguous", "detach", "empty_like", "lift_fresh",
               "lift_fresh_copy", "ones_like", "squeeze", "zeros_like"):
        if op != "empty_like":  # zeros here, anything in torch: check_aten.c
            same(op, x)
    case("move", "empty_like", lambda g: g.out(g("zeros_like", g("empty_like", g.f(2, 3)))), True)
    case("move", "new_empty", lambda g: g.out(g("zeros_like", g("new_empty", g.f(2), [3, 2]))), True)
    same("zeros_like", x, name="dtype", dtype=torch.int64)
    same("ones_like", x, name="all", dtype=F, layout=torch.strided, device=CPU, pin_memory=False,
         memory_format=torch.preserve_format)
    same("clone", x, name="contiguous", memory_format=torch.contiguous_format)
    same("arange", 5)
    same("arange", 5, name="float", dtype=F)
    same("arange.start", 2, 7, dtype=torch.int32)
    same("arange.start_step", 1, 10, 3)
    same("arange.start_step", 1.0, 0.0, -0.25, name="down", dtype=F, device=CPU, pin_memory=False)
    same("broadcast_to", f(3, 1), [2, 3, 4])
    for op in ("cat", "concat"):
        same(op, [f(2, 3), f(2, 1)], 1)
    same("cat", [f(2, 3), f(1, 3)], name="default")
    same("cat", [f(2, 3), t([[1, 2, 3]])], name="promotes")
    same("chunk", f(5, 2), 2)
    same("chunk", f(2, 6), 3, -1, name="dim")
    same("copy", f(2, 3), f(3))
    same("dropout", x, 0.5, False)
    same("embedding", f(7, 4), t([[1, 6, 0], [2, 2, 3]]))
    same("embedding", f(7, 4), t([1, 6]), 0, False, False, name="padding")
    same("expand", f(3, 1), [2, 3, 4])
    same("expand", f(3, 1), [-1, 4], name="keeps", implicit=False)
    same("expand_as", f(3, 1), f(3, 4))
    same("fill.Scalar", f(2, 3), 2.5)
    same("flatten.using_ints", x)
    same("flatten.using_ints", x, 1, -1, name="some")
    same("flip", x, [0, 2])
    same("full", [2, 3], 1.5, dtype=F)
    same("full", [2], 7, name="int")
    same("full_like", x, -0.5)
    same("full_like", x, 3, name="dtype", dtype=torch.int64)
    same("gather", f(3, 4), 1, t([[0, 3], [1, 1], [2, 0]]))
    same("index.Tensor", f(3, 4), [t([2, 0])])
    same("index.Tensor", f(3, 4), [None, t([2, -1])], name="second")
    same("index.Tensor", f(3, 4), [t([2, 0]), t([1, 3])], name="both")
    same("index.Tensor", f(3, 4), [t([True, False, True], torch.bool)], name="mask")
    same("index_copy", f(4, 3), 0, t([3, 1]), f(2, 3))
    same("index_copy", f(2, 4, 3), -2, t([0]), f(2, 1, 3), name="dim")
    same("index_put", f(4, 3), [t([3, 1])], f(2, 3))
    same("index_put", f(2, 4, 3), [None, None, t([2, 0])], f(2, 4, 2), name="third")
    same("index_put", f(4, 3), [t([True, False, False, True], torch.bool)], f(1), name="mask")
    same("index_select", f(4, 3), 1, t([2, 0, 2]))
    mask = t([[True, False, True], [False, False, True]], torch.bool)
    same("masked_fill.Scalar", f(2, 3), mask, -math.inf)
    same("masked_fill.Scalar", f(2, 3), mask, 3, name="int")
    same("masked_fill.Tensor", f(2, 3), mask, f())
    same("movedim.int", x, 0, -1)
    same("narrow", f(5, 3), 0, 1, 3)
    same("new_full", x, [2], 1.25)
    same("new_ones", x, [2, 2])
    same("new_ones", x, [2], name="dtype", dtype=torch.bool, device=CPU, pin_memory=False)
    same("new_zeros", x, [3], dtype=torch.int64)
    same("ones", [2, 3], dtype=F)
    same("permute", x, [2, 0, 1])
    same("repeat", f(2, 3), [2, 1, 2])
    same("repeat_interleave.self_int", f(2, 3), 2)
    same("repeat_interleave.self_int", f(1, 2, 3), 3, 1, name="dim")
    same("repeat_interleave.self_int", f(1, 2, 3), 3, 1, name="size", output_size=6)
    same("reshape", x, [4, -1])
    same("reshape_as", x, f(6, 4))
    same("roll", f(2, 4), [1], [1])
    same("roll", f(2, 4), [3], name="flat")
    same("scalar_tensor", 2.5, dtype=F)
    same("scatter.src", f(3, 4), 1, t([[0, 2], [3, 1], [2, 0]]), f(3, 2))
    same("scatter.value", f(3, 4), 1, t([[0], [3], [1]]), 1.0)
    same("select.int", x, 1, -1)
    same("select_scatter", x, f(2, 4), 1, 0)
    same("slice.Tensor", x)
    same("slice.Tensor", x, 2, 1, BIG, 2, name="step")
    same("slice.Tensor", x, 1, -2, None, name="end")
    same("slice_scatter", f(5, 2), f(2, 2), 0, 1, 4, 2)
    same("split.Tensor", f(5, 2), 2)
    same("split.sizes", f(5, 2), [1, 4])
    same("split_with_sizes", f(2, 5), [2, 0, 3], 1)
    same("squeeze.dim", f(2, 1, 3), 1)
    same("squeeze.dim", f(2, 1, 3), 0, name="none")
    same("stack", [f(2, 3), f(2, 3)], -1)
    same("t", f(2, 3))
    same("tensor_split.sections", f(5, 2), 3)
    same("tile", f(2, 3), [2, 1, 1])
    same("transpose.int", x, -1, -2)
    same("tril", f(4, 4), -1)
    same("triu", f(2, 3, 4))
    same("unbind.int", f(3, 2))
    same("unbind.int", f(3, 2), 1, name="dim")
    same("unflatten.int", f(2, 6), 1, [3, -1])
    for op in ("_unsafe_view", "view"):
        same(op, x, [6, -1])
    same("unsqueeze", x, -2)
    same("view_as", x, f(4, 6))
    same("where.Scalar", mask, 1.0, 2.0)
    same("where.ScalarOther", mask, f(2, 3), -1.5)
    same("where.ScalarSelf", mask, 0, f(2, 3))
    same("where.self", mask, f(2, 3), f(3))
    same("zeros", [2, 2], dtype=F, layout=torch.strided, device=CPU)
    same("to.device", x, CPU, torch.float64)
    same("to.dtype", x, torch.int64)
    same("to.dtype", x, F, name="the same")
    same("to.dtype", t([[1, -2], [300, 7]]), F, True, True, name="copy")
    same("to.dtype", x, torch.bool, name="bool")
    same("to.dtype_layout", x, dtype=torch.float32, layout=torch.strided, device=CPU)
    same("to.dtype_layout", x, name="nothing", copy=True)
    same("to.other", x, t([1]))
    same("_to_copy", x, dtype=torch.float32)
    same("_to_copy", f(3), name="int", dtype=torch.int32, memory_format=torch.contiguous_format)
    same("type_as", x, t([1], torch.int32))
    same("type_as", t([1, 2, 3]), f(1), name="float")


# ---- writes: into memory of the graph's own, through views of it ----

def writes():
    def written(name, fn):
        def run(g):
            own = g("clone", g.f(4, 3))
            fn(g, own)
            g.out(own)
        case("write", name, run, True)

    written("copy_", lambda g, x: g("copy_", x, g.f(3)))
    written("copy_ other dtype", lambda g, x: g("copy_", x, g.t([1, 2, 3]), False))
    written("copy_ through a slice", lambda g, x: g("copy_", g("slice.Tensor", x, 0, 1, 3), g.f(2, 3)))
    written("copy_ through three views", lambda g, x: g(
        "copy_", g("select.int", g("transpose.int", g("view", x, [2, 2, 3]), 0, 2), 1, 1), g.f(3, 2)))
    written("copy_ through a chunk", lambda g, x: g("copy_", g("chunk", x, 2)[1], g.f(2, 3)))
    written("detach_", lambda g, x: g("zero_", g("detach_", x)))
    written("fill_.Scalar", lambda g, x: g("fill_.Scalar", g("t", x), 1.5))
    written("index_copy_", lambda g, x: g("index_copy_", x, 0, g.t([3, 0]), g.f(2, 3)))
    written("index_put_", lambda g, x: g("index_put_", x, [g.t([3, 0])], g.f(2, 3)))
    written("index_put_ second", lambda g, x: g("index_put_", x, [None, g.t([1, 2])], g.f(4, 2), False))
    written("masked_fill_.Scalar", lambda g, x: g(
        "masked_fill_.Scalar", x, g.t([True, False, True], torch.bool), -4))
    written("masked_fill_.Tensor", lambda g, x: g(
        "masked_fill_.Tensor", x, g.t([True, False, True], torch.bool), g.f()))
    written("scatter_.src", lambda g, x: g("scatter_.src", x, 1, g.t([[0], [2], [1], [2]]), g.f(4, 1)))
    written("scatter_.value", lambda g, x: g("scatter_.value", x, 1, g.t([[0], [2], [1], [2]]), 1))
    written("zero_", lambda g, x: g("zero_", g("unsqueeze", x, 0)))
    written("a copy is left alone", lambda g, x: g("zero_", g("reshape", g("t", x), [12])))
    for op, other in [("add_.Tensor", None), ("sub_.Tensor", None), ("mul_.Tensor", None), ("div_.Tensor", None),
                      ("add_.Scalar", 1.5), ("sub_.Scalar", 1.5), ("mul_.Scalar", 0.75), ("div_.Scalar", 3)]:
        for view in (False, True):
            def run(g, op=op, other=other, view=view):
                own = g("clone", g.f(4, 3))
                y = g("slice.Tensor", own, 1, 0, 2) if view else own
                z = g(op, y, g.f(4, 1, low=.5) if other is None else other)
                g.out(own, z)
            case("write", op + (" view" if view else ""), run)
    for op in ("relu_", "silu_"):
        def run(g, op=op):
            own = g("clone", g.f(4, 3))
            g(op, own)
            g.out(own)
        case("write", op, run)

    def counts(g):  # what transformers' caches count with
        n = g("clone", g.t(4))
        places = g("add.Tensor", g("arange", 3, device=CPU, pin_memory=False), n)
        g("add_.Tensor", n, 3)
        g.out(places, n)
    case("write", "add_.Tensor a counter", counts, True)

    def alpha(g):
        own = g("clone", g.f(4, 3))
        g("add_.Tensor", own, g.f(3), alpha=0.5)
        g.out(own)
    case("write", "add_.Tensor alpha", alpha)


# ---- comparisons and logic ----

def logic():
    def exact(op, *args, **kw):
        one("logic", op, *args, exact=True, **kw)

    a = t([[True, False, True], [False, False, True]], torch.bool)
    b = t([[True, True, False], [False, True, True]], torch.bool)
    i, j = t([5, 12, -7, 0]), t([3, 10, 6, -1])
    for name in ("all", "any"):
        exact(name, a)
        exact(name + ".dim", a, 1)
        exact(name + ".dim", f(2, 3, low=0, high=1, step=1), 0, True, name="float")
    for op in ("__and__", "__or__", "__xor__", "bitwise_and", "bitwise_or", "bitwise_xor"):
        exact(op + ".Tensor", a, b)
        exact(op + ".Tensor", i, j, name="int")
    for op in ("__and__", "bitwise_and", "bitwise_or"):
        exact(op + ".Scalar", i, 6)
        exact(op + ".Scalar", a, True, name="bool")
    exact("bitwise_not", a)
    exact("bitwise_not", i, name="int")
    for op in ("eq", "ge", "gt", "le", "lt", "ne"):
        exact(op + ".Tensor", f(3, 4, step=1), f(4, step=1))
        exact(op + ".Scalar", f(3, 4, step=1), 0.5)
        exact(op + ".Scalar", f(3, 4, step=1), 1, name="int")
        exact(op + ".Tensor", i, j, name="int")
        exact(op + ".Tensor", f(4), i, name="mixed")
    for op in ("logical_and", "logical_or", "logical_xor"):
        exact(op, f(3, 4, step=1), f(4, step=1))
        exact(op, a, b, name="bool")
    exact("logical_not", f(5, step=1))
    exact("logical_not", a, name="bool")


# ---- arithmetic ----

def arithmetic():
    def pointwise(op, *args, **kw):
        one("arithmetic", op, *args, **kw)

    x, y, i = f(3, 5), f(5, low=.25), t([7, -7, 3, 0, 12])
    for op in ("abs", "ceil", "cos", "erf", "exp", "exp2", "expm1", "floor", "gelu", "hardtanh",
               "leaky_relu", "mish", "neg", "relu", "round", "sigmoid", "sign", "silu", "sin",
               "softplus", "square", "tanh", "trunc"):
        pointwise(op, x)
    for op in ("log", "log1p", "reciprocal", "rsqrt", "sqrt"):
        pointwise(op, f(3, 5, low=.25, high=4))
    for op in ("abs", "neg", "sign", "square", "relu"):
        pointwise(op, i, name="int", exact=True)
    for op in ("cos", "exp", "sigmoid", "rsqrt"):
        pointwise(op, t([1, 2, 3]), name="int")
    for op in ("cos", "sin"):  # rotary angles
        pointwise(op, f(4, 8, low=0, high=120, step=1), name="large")
    pointwise("gelu", x, approximate="tanh")
    pointwise("glu", f(3, 6))
    pointwise("glu", f(4, 3), 0, name="dim")
    pointwise("hardtanh", x, -0.5, 1, name="bounds")
    pointwise("leaky_relu", x, 0.2, name="slope")
    pointwise("softplus", x, 2, 1.5, name="beta")
    for op in ("add", "sub", "rsub"):
        pointwise(op + ".Tensor", x, y)
        pointwise(op + ".Tensor", x, y, name="alpha", alpha=0.5)
        pointwise(op + ".Scalar", x, 1.3)
        pointwise(op + ".Scalar", x, 1.5, 2, name="alpha")
        pointwise(op + ".Tensor", i, t([1, 2, 3, 4, 5]), name="int", exact=True)
    for op in ("mul", "div"):
        pointwise(op + ".Tensor", x, y)
        pointwise(op + ".Scalar", x, 1.3)
        pointwise(op + ".Tensor", x, i if op == "mul" else t([1, 2, 3, 4, 5]), name="int")
        pointwise(op + ".Tensor", x, f(), name="zero dimensions") if op == "mul" else None
    pointwise("add.Tensor", x, 1.3, name="a number")
    pointwise("mul.Tensor", x, -2, name="a number")
    pointwise("sub.Tensor", i, 2, name="int and number", exact=True)
    pointwise("mul.Tensor", x, f(5, dtype=torch.float32), name="wide")
    pointwise("mul.Tensor", x, f(dtype=torch.float32), name="wide, zero dimensions")
    pointwise("add.Tensor", i, f(), name="int and float")
    pointwise("mul.Scalar", i, 2, name="int", exact=True)
    pointwise("div.Tensor", i, t([2, 2, 2, 2, 5]), name="ints")
    for mode in ("floor", "trunc", None):
        pointwise("div.Tensor_mode", x, y, name=str(mode), rounding_mode=mode)
        pointwise("div.Scalar_mode", x, 0.75, name=str(mode), rounding_mode=mode)
        pointwise("div.Tensor_mode", i, t([2, 2, -2, 3, 5]), name=f"int {mode}", rounding_mode=mode)
    pointwise("floor_divide", x, y)
    pointwise("floor_divide", i, t([2, 2, -2, 3, 5]), name="int", exact=True)
    pointwise("floor_divide.Scalar", i, 2, exact=True)
    pointwise("floor_divide.Scalar", x, 0.75, name="float")
    pointwise("remainder.Tensor", x, y)
    pointwise("remainder.Scalar", x, 0.75)
    pointwise("remainder.Scalar", i, 4, name="int", exact=True)
    for op in ("max.other", "min.other", "maximum", "minimum"):
        pointwise(op, x, f(5))
        pointwise(op, i, t([1, 2, 3, 4, 5]), name="int", exact=True)
    pointwise("clamp", x, -1, 0.5)
    pointwise("clamp", x, name="max", max=0.5)
    pointwise("clamp", i, 0, name="int", exact=True)
    pointwise("clamp.Tensor", x, f(5, high=-1), f(5, low=1))
    pointwise("clamp.Tensor", x, name="max", max=f(5))
    pointwise("clamp_max", x, 0.5)
    pointwise("clamp_min", x, -0.25)
    pointwise("pow.Scalar", 10000.0, f(6, low=0, high=1))
    pointwise("pow.Scalar", 2, f(6), name="two")
    for e in (2, 3, 0.5, -1, -0.5, 1.7):
        pointwise("pow.Tensor_Scalar", f(3, 4, low=.25), e, name=str(e))
    pointwise("pow.Tensor_Scalar", i, 2, name="int", exact=True)
    pointwise("pow.Tensor_Tensor", f(3, 5, low=.25), f(5))


# ---- reductions, norms, products, order ----

def reductions():
    def of(op, *args, **kw):
        one("reduce", op, *args, **kw)

    x = f(3, 17)
    for op in ("max", "min", "mean", "sum"):
        of(op, x)
    of("sum", t([[1, 2], [3, 4]]), name="int", exact=True)
    of("sum", t([[True, False], [True, True]], torch.bool), name="bool", exact=True)
    of("sum", x, name="dtype", dtype=torch.float32)
    of("mean", t([1, 2, 4]), name="dtype", dtype=torch.float32)
    of("mean.dim", x, [-1])
    of("mean.dim", x, [-1], True, name="keepdim")
    of("mean.dim", x, [-1], True, name="dtype", dtype=torch.float32)
    of("mean.dim", x, None, name="none")
    of("sum.dim_IntList", x, [0])
    of("sum.dim_IntList", x, [0, 1], True, name="both")
    of("sum.dim_IntList", t([[1, 2], [3, 4]]), [1], name="int", exact=True)
    for op in ("amax", "amin"):
        of(op, x, [1])
        of(op, x, name="all")
    for op in ("max.dim", "min.dim"):
        of(op, x, 1)
        of(op, f(2, 9), 0, True, name="keepdim")
        of(op, t([[3, 1, 2], [9, 7, 8]]), -1, name="int", exact=True)
    for op in ("argmax", "argmin"):
        of(op, x, -1, exact=True)
        of(op, x, name="all", exact=True)
    of("argsort", f(2, 9, step=16), exact=True)
    of("argsort", f(2, 9, step=16), 0, True, name="descending", exact=True)
    of("sort", f(2, 9, step=16))
    of("sort", f(9, 2, step=16), 0, True, name="descending")
    of("sort", t([5, -1, 9, 3]), name="int", exact=True)
    of("sort.stable", f(2, 9, step=1), stable=True)
    of("sort.stable", f(2, 9, step=1), name="descending", stable=True, dim=-1, descending=True)
    of("topk", f(2, 9, step=16), 3)
    of("topk", f(9, 2, step=16), 2, 0, False, name="smallest")
    of("cumsum", f(3, 9), -1)
    of("cumsum", t([1, 2, 3, 4]), 0, name="int", exact=True)
    of("cumsum", t([True, False, True], torch.bool), 0, name="bool", exact=True)
    of("cumsum", f(3, 9), 0, name="dtype", dtype=torch.float32)
    of("histc", f(20, low=0, high=8, step=1), 8, 0, 7)
    of("histc", f(20, low=-2, high=2), name="default", bins=5)
    of("index_add", f(4, 3), 0, t([0, 2]), f(2, 3))
    of("index_add", f(3, 4), 1, t([3, 1]), f(3, 2), name="alpha", alpha=0.5)
    of("scatter_add", f(3, 4), 1, t([[0, 2], [3, 1], [2, 0]]), f(3, 2))
    for op in ("softmax.int", "log_softmax.int"):
        of(op, x, -1)
        of(op, x, 0, torch.float32, name="dtype")
    of("_softmax", x, -1, False)
    case("reduce", "softmax.int masked", lambda g: g.out(g("softmax.int", g(
        "masked_fill.Scalar", g.f(2, 4), g.t([False, True, False, True], torch.bool), -math.inf), -1)))
    of("logsumexp", x, [-1])
    of("logsumexp", x, [0, 1], True, name="both")
    of("layer_norm", x, [17])
    of("layer_norm", x, [17], f(17), f(17), 1e-6, name="affine")
    of("layer_norm", f(2, 3, 4), [3, 4], f(3, 4), None, 1e-5, False, name="two dimensions")
    case("reduce", "native_layer_norm", lambda g: g.out(g("native_layer_norm", g.f(3, 17), [17], g.f(17), g.f(17), 1e-5)[0]))
    of("rms_norm", x, [17])
    of("rms_norm", x, [17], f(17), 1e-6, name="weight")
    of("rms_norm", f(2, 3, 4), [3, 4], f(3, 4), name="two dimensions")
    of("rms_norm", x, [17], name="eps", eps=0.5)
    of("mm", f(5, 33), f(33, 7))
    of("bmm", f(2, 5, 9), f(2, 9, 3))
    of("baddbmm", f(2, 5, 3), f(2, 5, 9), f(2, 9, 3))
    of("baddbmm", f(3), f(2, 5, 9), f(2, 9, 3), name="beta", beta=0.5, alpha=2)
    of("addmm", f(7), f(5, 9), f(9, 7))
    of("addmm", f(5, 7), f(5, 9), f(9, 7), name="beta", beta=0.5, alpha=2)
    of("outer", f(4), f(3))
    of("matmul", f(5, 33), f(33, 7))
    of("matmul", f(2, 1, 5, 9), f(3, 9, 4), name="broadcast")
    of("matmul", f(9), f(9), name="vectors")
    of("matmul", f(4, 9), f(9), name="vector")
    of("linear", f(2, 3, 33), f(10, 33))
    of("linear", f(2, 3, 33), f(10, 33), f(10), name="bias")
    of("linear", f(33), f(10, 33), name="one dimension", bias=f(10))


def attention():
    def of(name, *args, **kw):
        one("attention", "scaled_dot_product_attention", *args, name=name, **kw)

    q, k, v = f(1, 4, 3, 8), f(1, 4, 5, 8), f(1, 4, 5, 8)
    seen = [[True, False, True, True, False], [True, True, False, False, True], [False, True, True, True, True]]
    of("plain", q, k, v)
    of("positional", q, k, v, None, 0.0, False)
    of("mask", q, k, v, t(seen, torch.bool))
    of("mask of four dimensions", q, k, v, attn_mask=t([[seen]], torch.bool))
    of("added mask", q, k, v, f(3, 5))
    of("a row that sees nothing", q, k, v, t([seen[0], [False] * 5, seen[2]], torch.bool))
    of("scale", q, k, v, scale=0.3)
    of("causal", f(2, 2, 5, 8), f(2, 2, 5, 8), f(2, 2, 5, 8), is_causal=True)
    of("causal, more keys", q, k, v, None, 0.0, True)
    of("one token", f(1, 4, 1, 8), k, v, t([[True, True, True, False, False]], torch.bool), scale=0.25)
    of("gqa", f(1, 4, 3, 8), f(1, 2, 5, 8), f(1, 2, 5, 8), enable_gqa=True)
    of("gqa, mask, scale", f(1, 6, 3, 8), f(1, 2, 5, 8), f(1, 2, 5, 8), t(seen, torch.bool), 0.0, False,
       scale=0.3, enable_gqa=True)
    of("mqa, causal", f(2, 4, 5, 8), f(2, 1, 5, 8), f(2, 1, 5, 8), is_causal=True, enable_gqa=True)
    of("value of another width", q, k, f(1, 4, 5, 6))
    of("three dimensions", f(4, 3, 8), f(4, 5, 8), f(4, 5, 8))


# ---- sizes, scalars and assertions ----

def sizes():
    def exact(name, fn):
        case("sizes", name, fn, True)

    def meta(g):
        x = g.f(2, 3)
        g("_assert_tensor_metadata", x, [2, 3], [3, 1], F, device=CPU, layout=torch.strided)
        g("_assert_tensor_metadata", x, None, None, F)
        g("_assert_tensor_metadata", x, dtype=F)
        g("_assert_tensor_metadata", x)
        g.out(x)
    exact("_assert_tensor_metadata", meta)
    for op in ("item", "_local_scalar_dense"):
        def item(g, op=op):
            n = g(op, g.t([3]))
            g("sym_constrain_range", n, min=0, max=8)
            g("sym_constrain_range_for_size", n, min=2)
            g("_assert_scalar", g.size("le", n, 8), "too many")
            g.out(g("narrow", g.f(5, 2), 0, 1, n))
        exact(op, item)

    def size(g):
        x = g.f(2, 3, 4)
        n, m = g("sym_size.int", x, -1), g("sym_numel", x)
        half = g.size("floordiv", m, n)
        g.out(g("view", x, [half, n]), g("full", [g.size("mod", m, 7), g.size("sub", n, 3)], 1, dtype=F),
              g("arange", g.size("add", g.size("mul", n, 2), g.size("neg", 3))))
    exact("sym_size.int", size)
    exact("sym_numel", lambda g: g.out(g("arange", g("sym_numel", g.f(2, 3)))))
    exact("sym_storage_offset", lambda g: g.out(g("arange", g("sym_storage_offset", g(
        "slice.Tensor", g("clone", g.f(4, 3)), 0, 1)))))

    def holds(g):
        x = g.f(2)
        g("_assert_async.msg", g.t([True], torch.bool), "never said")
        g("_assert_async.msg", g.t([2]), "never said")
        g.out(x)
    exact("_assert_async.msg", holds)


# ---- rows by a matrix for each group of them: torch's kernels, and Transformers' Python ----

def groups():
    from transformers.integrations import moe  # registers its op
    assert moe

    for op, space in (("_grouped_mm", "aten"), ("grouped_mm_fallback", "transformers")):
        for name, ends in (("", [2, 3, 7]), (" groups without rows", [0, 7, 7]),
                           (" one row each", [1, 2, 3])):
            def run(g, op=op, space=space, ends=ends):
                w = g("transpose.int", g.f(3, 8, 16, low=-1, high=1), -2, -1)
                call = g if space == "aten" else g.of(space)
                g.out(call(op, g.f(7, 16, low=-1, high=1), w, g.t(ends, torch.int32)))
            if space == "transformers" or ends[-1] == 7:  # torch leaves the others unset
                case("groups", op + name, run)

    def left(g):  # rows beyond the last group
        g.out(g.of("transformers")("grouped_mm_fallback", g.f(4, 3), g.f(2, 3, 2), g.t([1, 3])))
    case("groups", "grouped_mm_fallback rows left", left)


# ---- caches and attention over them: ExecuTorch's library ----

def llama():
    from executorch.extension.llm.custom_ops import custom_ops  # registers its ops
    assert custom_ops

    for name, start, s in (("", 2, 3), (" at the end", 5, 1)):
        def update(g, start=start, s=s):
            cache = g("clone", g.f(1, 6, 2, 4))
            g.of("llama")("update_cache", g.f(1, s, 2, 4), cache, start)
            g.out(cache)
        case("llama", "update_cache" + name, update, exact=True)

    for name, start, s, more in (
            ("causal", 3, 2, (None, 0.0, True)), ("causal from the start", 0, 4, (None, 0.0, True)),
            ("causal, one row", 4, 1, (None, 0.0, True, 0.5)), ("of all that is written", 1, 2, ()),
            ("masked", 2, 3, ("mask", 0.0, False, 0.3))):
        def sdpa(g, start=start, s=s, more=more):
            q, k, v = g.f(1, s, 4, 8), g.f(1, 6, 2, 8), g.f(1, 6, 2, 8)
            if "mask" in more:
                mask = g.t([[0.0] * (start + i + 1) + [-30000.0] * (5 - start - i) for i in range(s)],
                           torch.float32)
                more = (mask, *more[1:])
            g.out(g.of("llama")("custom_sdpa", q, k, v, start, *more))
        case("llama", "custom_sdpa " + name, sdpa)


# ---- quantised programs: what torchao defines in Python ----

def quantised():
    import torchao.quantization.quant_primitives as primitives  # registers its ops
    assert primitives
    i8, f32 = torch.int8, torch.float32
    step = 99991  # a prime: no products that end early

    def of(op, name, fn):
        case("quantised", f"{op} {name}", lambda g: g.out(*(
            out if isinstance(out := fn(g, lambda *a, **kw: g.of("torchao")(op, *a, **kw)), list)
            else [out])), True)

    def choose(name, sizes, mapping, block, *more, low=-2, high=2, dtype=f32, **kw):
        of("choose_qparams_affine", name, lambda g, call: call(
            g.f(*sizes, low=low, high=high, step=step, dtype=dtype), mapping, block, i8, *more, **kw))

    limits = (-128, 127)
    token = dict(eps=None, scale_dtype=None, zero_point_dtype=i8)
    choose("of tokens", (1, 5, 24), "ASYMMETRIC", [1, 1, 24], *limits, **token)
    choose("of tokens above 0", (2, 3, 24), "ASYMMETRIC", [1, 1, 24], *limits, low=1, **token)
    choose("of tokens below 0", (2, 3, 24), "ASYMMETRIC", [1, 1, 24], *limits, high=-1, **token)
    choose("of zeros", (1, 2, 8), "ASYMMETRIC", [1, 1, 8], *limits, low=0, high=0, **token)
    choose("default", (3, 8), "ASYMMETRIC", [1, 8])
    choose("of groups", (4, 24), "ASYMMETRIC", [1, 8], *limits, 1e-3, f32, torch.int32)
    choose("keepdim", (4, 24), "ASYMMETRIC", [2, 8], -8, 7, keepdim=True)
    choose("symmetric", (4, 24), "SYMMETRIC", [1, 8], -8, 7, torch.finfo(f32).eps, f32, i8)
    choose("symmetric default", (4, 24), "SYMMETRIC", [1, 24])
    choose("no clipping", (4, 24), "SYMMETRIC_NO_CLIPPING_ERR", [1, 8], -8, 7, zero_point_dtype=i8)
    choose("of one block", (4, 24), "SYMMETRIC", [4, 24], *limits, zero_point_dtype=i8)
    choose("of single elements", (3, 2), "ASYMMETRIC", [1, 1], *limits)
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype)[6:]
        choose(f"of tokens in {name}", (1, 3, 24), "ASYMMETRIC", [1, 1, 24], *limits, dtype=dtype, **token)
        choose(f"to float32 in {name}", (3, 24), "ASYMMETRIC", [1, 8], *limits, dtype=dtype,
               scale_dtype=f32, zero_point_dtype=i8)
        choose(f"no clipping in {name}", (3, 24), "SYMMETRIC_NO_CLIPPING_ERR", [1, 8], -8, 7, dtype=dtype)
        choose(f"symmetric in {name}", (3, 24), "SYMMETRIC", [1, 8], -8, 7, dtype=dtype)

    def scales(g, n, dtype=f32):
        return g.f(*n, low=0.01, high=0.05, step=step, dtype=dtype)

    def points(g, n, dtype=i8):
        return g.f(*n, low=-100, high=100, step=1, dtype=dtype)

    def quantize(name, sizes, block, to, *more, n, x=f32, s=f32, z=i8):
        of("quantize_affine", name, lambda g, call: call(
            g.f(*sizes, step=step, dtype=x), block, scales(g, n, s), points(g, n, z), to, *more))

    quantize("tokens", (1, 5, 24), [1, 1, 24], i8, *limits, n=(1, 5))
    quantize("default", (3, 24), [1, 8], i8, n=(3, 3))
    quantize("unsigned", (3, 24), [1, 8], torch.uint8, 3, 200, n=(3, 3), z=torch.int32)
    quantize("four bits", (4, 24), [2, 8], i8, -8, 7, n=(2, 3))
    quantize("one block", (4, 24), [4, 24], torch.int16, n=(1,))
    quantize("halves", (4, 2), [1, 1], i8, n=(4, 2))

    def slices(g, op, x, block, sizes):  # more than one of what is worked on at a time
        many, each = [275, 1], [275] + [1] * (len(sizes) - 1)
        out = g.of("torchao")(op, g("repeat", x, many), block, g("repeat", scales(g, sizes), each),
                              g("repeat", points(g, sizes), each), i8, *limits)
        g.out(g("slice.Tensor", out, 0, 0, BIG, 157))
    case("quantised", "quantize_affine large", lambda g: slices(
        g, "quantize_affine", g.f(4, 240, step=step, dtype=f32), [1, 240], (4, 1)), True)
    case("quantised", "dequantize_affine large", lambda g: slices(
        g, "dequantize_affine", g.f(4, 240, low=-128, high=127, step=1, dtype=i8), [1, 80], (4, 3)),
         True)
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype)[6:]
        quantize(name, (3, 24), [1, 8], i8, *limits, n=(3, 3), x=dtype, s=dtype)
        quantize(f"{name} by float32", (3, 24), [1, 8], i8, *limits, n=(3, 3), x=dtype, z=torch.int32)
        quantize(f"float32 by {name}", (3, 24), [1, 8], i8, *limits, n=(3, 3), s=dtype)

    def dequantize(name, sizes, block, *more, n, s=f32, z=i8, x=i8, **kw):
        of("dequantize_affine", name, lambda g, call: call(
            g.f(*sizes, low=0 if x == torch.uint8 else -128, high=127, step=1, dtype=x), block,
            scales(g, n, s), points(g, n, z) if z else None, x, *more, **kw))

    dequantize("groups", (6, 24), [1, 8], *limits, n=(6, 3))
    dequantize("channels", (6, 24), [1, 24], *limits, n=(6, 1))
    dequantize("tokens", (1, 5, 24), [1, 1, 24], *limits, n=(1, 5))
    dequantize("default", (3, 24), [1, 8], n=(3, 3))
    dequantize("without zero points", (3, 24), [1, 8], -8, 7, n=(3, 3), z=None)
    dequantize("blocks of rows", (6, 24), [3, 12], *limits, n=(2, 2))
    dequantize("one block", (6, 24), [6, 24], n=(1, 1))
    dequantize("unsigned", (3, 24), [1, 8], 0, 255, n=(3, 3), x=torch.uint8, z=torch.int32)
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype)[6:]
        dequantize(name, (3, 24), [1, 8], *limits, n=(3, 3), s=dtype, output_dtype=dtype)
        dequantize(f"{name} by float32", (3, 24), [1, 8], *limits, n=(3, 3), output_dtype=dtype)
        dequantize(f"float32 by {name}", (3, 24), [1, 8], *limits, n=(3, 3), s=dtype)


SECTION_9 = """__and__ _assert_tensor_metadata add add_ addmm alias arange bitwise_not cat chunk clamp copy_ cos
cumsum detach_ div div_ dropout embedding empty_like expand expm1 flatten floor_divide gather gelu gt histc index
index_copy_ index_put_ layer_norm le lift_fresh_copy linear masked_fill matmul max.dim mean.dim min.other mul neg
new_ones permute pow relu repeat repeat_interleave reshape rsqrt scaled_dot_product_attention scatter_.value select
sigmoid silu sin slice softmax.int softplus sort split split_with_sizes square stack sub sum tanh to.device to.dtype
to.dtype_layout topk transpose type_as unsqueeze view where zeros_like""".split()


def main():
    assert torch.__version__.startswith("2.13.0"), torch.__version__
    torch.set_num_threads(1)
    called = set()
    for make in (moves, writes, logic, arithmetic, reductions, attention, sizes, groups, llama,
                 quantised):
        make()
    for group, cases in GROUPS.items():
        lines = []
        for name, fn, exact in cases:
            made = golden.run(name, fn, exact)
            called |= {n["target"] for n in made["nodes"]}
            lines.append(json.dumps(made, separators=(",", ":")))
        head = json.dumps({"torch": torch.__version__, "command": "python tests/data/aten-golden/make.py"})
        with open(os.path.join(os.path.dirname(__file__), group + ".json"), "w") as to:
            to.write(head[:-1] + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n")
    for op in SECTION_9:
        assert any(c == f"torch.ops.aten.{op}" or c.startswith(f"torch.ops.aten.{op}.") for c in called), op


main()
