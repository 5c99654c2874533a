/* tbl_ops.h - the ops that programs may use, written once; any other is refused by name.
 *
 * ATEN_OP(schema, called as, half, lowering, check)
 *   schema     torch 2.13's, as its dispatcher prints it: names, types and defaults of
 * the arguments, and what is aliased or written: (a) a view of, (a!) written.  Two kinds
 * of line differ from torch's, both towards the strict side: an op that may answer its
 * own argument (dropout, type_as) says so, and detach_, which writes no element, is a
 * view. called as  the op that is called where it is another than the schema's: memory
 * that torch leaves unset (empty_like) is zeros here, so that no bytes of another session
 * show and a run can be repeated.  NULL: the same. half       in float16 and bfloat16 on
 * a libtorch before 2.5, which lacks kernels for them: NATIVE, it has them, or the op
 * moves elements and computes nothing; F32, computed in float32 and rounded, as later
 * kernels do inside. lowering   CALL: by the dispatcher.  OWN: interpreted in symbolic.c,
 * never called. SDPA, RMS_NORM: spelled in other ops where this libtorch has none of the
 * name. LINEAR: as CALL; in F32 a slice of the weight at a time. GROUPED, UPDATE_CACHE,
 * CUSTOM_SDPA, TORCHAO: spelled in other ops, and no libtorch's own is called. check      what must
 * hold before the call beside types and what libtorch itself checks: NOTHING; LIST: the
 * result is at most ATEN_MAX_LIST tensors; EVAL: `train` is false, `dropout_p` 0 (random
 * otherwise); GROUPS: groups of rows, with neither bias nor another dtype; BLOCKS: dtypes,
 * limits and blocks that torchao has (ops_torchao.c).
 *
 * Rejected at load for every op: a device that is not the CPU, a layout that is not
 * strided, pinned memory, memory formats other than contiguous and preserve. */
/* clang-format off */

/* ---- what moves or makes elements: bit for bit the same in any libtorch ---- */
ATEN_OP("aten::alias(Tensor(a) self) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::arange(Scalar end, *, ScalarType? dtype=None, Layout? layout=None, "
        "Device? device=None, bool? pin_memory=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::arange.start(Scalar start, Scalar end, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::arange.start_step(Scalar start, Scalar end, Scalar step=1, *, "
        "ScalarType? dtype=None, Layout? layout=None, Device? device=None, "
        "bool? pin_memory=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::broadcast_to(Tensor(a) self, SymInt[] size) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::cat(Tensor[] tensors, int dim=0) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::chunk(Tensor(a -> *) self, int chunks, int dim=0) -> Tensor(a)[]", NULL, NATIVE, CALL, LIST)
ATEN_OP("aten::clone(Tensor self, *, MemoryFormat? memory_format=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::concat(Tensor[] tensors, int dim=0) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::contiguous(Tensor(a) self, *, "
        "MemoryFormat memory_format=0) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::copy(Tensor self, Tensor src, bool non_blocking=False) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::copy_(Tensor(a!) self, Tensor src, "
        "bool non_blocking=False) -> Tensor(a!)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::detach(Tensor(a) self) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::detach_(Tensor(a) self) -> Tensor(a)", "aten::detach", NATIVE, CALL, NOTHING)
ATEN_OP("aten::dropout(Tensor(a) input, float p, bool train) -> Tensor(a)", NULL, NATIVE, CALL, EVAL)
ATEN_OP("aten::embedding(Tensor weight, Tensor indices, SymInt padding_idx=-1, "
        "bool scale_grad_by_freq=False, bool sparse=False) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::empty_like(Tensor self, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None, "
        "MemoryFormat? memory_format=None) -> Tensor", "aten::zeros_like", NATIVE, CALL, NOTHING)
ATEN_OP("aten::expand(Tensor(a) self, SymInt[] size, *, "
        "bool implicit=False) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::expand_as(Tensor(a) self, Tensor other) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::fill.Scalar(Tensor self, Scalar value) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::fill_.Scalar(Tensor(a!) self, Scalar value) -> Tensor(a!)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::flatten.using_ints(Tensor(a) self, int start_dim=0, "
        "int end_dim=-1) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::flip(Tensor self, int[] dims) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::full(SymInt[] size, Scalar fill_value, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::full_like(Tensor self, Scalar fill_value, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None, "
        "MemoryFormat? memory_format=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::gather(Tensor self, int dim, Tensor index, *, "
        "bool sparse_grad=False) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::index.Tensor(Tensor self, Tensor?[] indices) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::index_copy(Tensor self, int dim, Tensor index, "
        "Tensor source) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::index_copy_(Tensor(a!) self, int dim, Tensor index, "
        "Tensor source) -> Tensor(a!)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::index_put(Tensor self, Tensor?[] indices, Tensor values, "
        "bool accumulate=False) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::index_put_(Tensor(a!) self, Tensor?[] indices, Tensor values, "
        "bool accumulate=False) -> Tensor(a!)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::index_select(Tensor self, int dim, Tensor index) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::lift_fresh(Tensor(a) self) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::lift_fresh_copy(Tensor self) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::masked_fill.Scalar(Tensor self, Tensor mask, Scalar value) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::masked_fill.Tensor(Tensor self, Tensor mask, Tensor value) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::masked_fill_.Scalar(Tensor(a!) self, Tensor mask, "
        "Scalar value) -> Tensor(a!)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::masked_fill_.Tensor(Tensor(a!) self, Tensor mask, "
        "Tensor value) -> Tensor(a!)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::movedim.int(Tensor(a) self, int source, int destination) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::narrow(Tensor(a) self, int dim, SymInt start, "
        "SymInt length) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::new_empty(Tensor self, SymInt[] size, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor", "aten::new_zeros", NATIVE, CALL, NOTHING)
ATEN_OP("aten::new_full(Tensor self, SymInt[] size, Scalar fill_value, *, "
        "ScalarType? dtype=None, Layout? layout=None, Device? device=None, "
        "bool? pin_memory=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::new_ones(Tensor self, SymInt[] size, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::new_zeros(Tensor self, SymInt[] size, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::ones(SymInt[] size, *, ScalarType? dtype=None, Layout? layout=None, "
        "Device? device=None, bool? pin_memory=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::ones_like(Tensor self, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None, "
        "MemoryFormat? memory_format=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::permute(Tensor(a) self, int[] dims) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::repeat(Tensor self, SymInt[] repeats) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::repeat_interleave.self_int(Tensor self, SymInt repeats, "
        "int? dim=None, *, SymInt? output_size=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::reshape(Tensor(a) self, SymInt[] shape) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::reshape_as(Tensor(a) self, Tensor other) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::roll(Tensor self, SymInt[1] shifts, int[1] dims=[]) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::scalar_tensor(Scalar s, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::scatter.src(Tensor self, int dim, Tensor index, Tensor src) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::scatter.value(Tensor self, int dim, Tensor index, "
        "Scalar value) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::scatter_.src(Tensor(a!) self, int dim, Tensor index, "
        "Tensor src) -> Tensor(a!)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::scatter_.value(Tensor(a!) self, int dim, Tensor index, "
        "Scalar value) -> Tensor(a!)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::select.int(Tensor(a) self, int dim, SymInt index) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::select_scatter(Tensor self, Tensor src, int dim, "
        "SymInt index) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::slice.Tensor(Tensor(a) self, int dim=0, SymInt? start=None, "
        "SymInt? end=None, SymInt step=1) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::slice_scatter(Tensor self, Tensor src, int dim=0, SymInt? start=None, "
        "SymInt? end=None, SymInt step=1) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::split.Tensor(Tensor(a -> *) self, SymInt split_size, "
        "int dim=0) -> Tensor(a)[]", NULL, NATIVE, CALL, LIST)
ATEN_OP("aten::split.sizes(Tensor(a -> *) self, SymInt[] split_size, "
        "int dim=0) -> Tensor(a)[]", NULL, NATIVE, CALL, LIST)
ATEN_OP("aten::split_with_sizes(Tensor(a -> *) self, SymInt[] split_sizes, "
        "int dim=0) -> Tensor(a)[]", NULL, NATIVE, CALL, LIST)
ATEN_OP("aten::squeeze(Tensor(a) self) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::squeeze.dim(Tensor(a) self, int dim) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::stack(Tensor[] tensors, int dim=0) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::t(Tensor(a) self) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::tensor_split.sections(Tensor(a -> *) self, SymInt sections, "
        "int dim=0) -> Tensor(a)[]", NULL, NATIVE, CALL, LIST)
ATEN_OP("aten::tile(Tensor self, SymInt[] dims) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::to.device(Tensor(a) self, Device device, ScalarType dtype, "
        "bool non_blocking=False, bool copy=False, "
        "MemoryFormat? memory_format=None) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::to.dtype(Tensor(a) self, ScalarType dtype, bool non_blocking=False, "
        "bool copy=False, MemoryFormat? memory_format=None) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::to.dtype_layout(Tensor(a) self, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None, "
        "bool non_blocking=False, bool copy=False, "
        "MemoryFormat? memory_format=None) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::to.other(Tensor(a) self, Tensor other, bool non_blocking=False, "
        "bool copy=False, MemoryFormat? memory_format=None) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::_to_copy(Tensor self, *, ScalarType? dtype=None, Layout? layout=None, "
        "Device? device=None, bool? pin_memory=None, bool non_blocking=False, "
        "MemoryFormat? memory_format=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::transpose.int(Tensor(a) self, int dim0, int dim1) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::tril(Tensor self, SymInt diagonal=0) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::triu(Tensor self, SymInt diagonal=0) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::type_as(Tensor(a) self, Tensor other) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::unbind.int(Tensor(a -> *) self, int dim=0) -> Tensor(a)[]", NULL, NATIVE, CALL, LIST)
ATEN_OP("aten::unflatten.int(Tensor(a) self, int dim, SymInt[] sizes) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::_unsafe_view(Tensor self, SymInt[] size) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::unsqueeze(Tensor(a) self, int dim) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::view(Tensor(a) self, SymInt[] size) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::view_as(Tensor(a) self, Tensor other) -> Tensor(a)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::where.Scalar(Tensor condition, Scalar self, Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::where.ScalarOther(Tensor condition, Tensor self, "
        "Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::where.ScalarSelf(Tensor condition, Scalar self, "
        "Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::where.self(Tensor condition, Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::zero_(Tensor(a!) self) -> Tensor(a!)", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::zeros(SymInt[] size, *, ScalarType? dtype=None, Layout? layout=None, "
        "Device? device=None, bool? pin_memory=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::zeros_like(Tensor self, *, ScalarType? dtype=None, "
        "Layout? layout=None, Device? device=None, bool? pin_memory=None, "
        "MemoryFormat? memory_format=None) -> Tensor", NULL, NATIVE, CALL, NOTHING)

/* ---- comparisons and logic: exact ---- */
ATEN_OP("aten::all(Tensor self) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::all.dim(Tensor self, int dim, bool keepdim=False) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::__and__.Scalar(Tensor self, Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::__and__.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::any(Tensor self) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::any.dim(Tensor self, int dim, bool keepdim=False) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::bitwise_and.Scalar(Tensor self, Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::bitwise_and.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::bitwise_not(Tensor self) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::bitwise_or.Scalar(Tensor self, Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::bitwise_or.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::bitwise_xor.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::eq.Scalar(Tensor self, Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::eq.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::ge.Scalar(Tensor self, Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::ge.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::gt.Scalar(Tensor self, Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::gt.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::le.Scalar(Tensor self, Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::le.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::logical_and(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::logical_not(Tensor self) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::logical_or(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::logical_xor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::lt.Scalar(Tensor self, Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::lt.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::ne.Scalar(Tensor self, Scalar other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::ne.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::__or__.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)
ATEN_OP("aten::__xor__.Tensor(Tensor self, Tensor other) -> Tensor", NULL, NATIVE, CALL, NOTHING)

/* ---- arithmetic, element by element ---- */
ATEN_OP("aten::abs(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::add_.Scalar(Tensor(a!) self, Scalar other, "
        "Scalar alpha=1) -> Tensor(a!)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::add_.Tensor(Tensor(a!) self, Tensor other, *, "
        "Scalar alpha=1) -> Tensor(a!)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::ceil(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::clamp(Tensor self, Scalar? min=None, Scalar? max=None) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::clamp.Tensor(Tensor self, Tensor? min=None, "
        "Tensor? max=None) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::clamp_max(Tensor self, Scalar max) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::clamp_min(Tensor self, Scalar min) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::cos(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::div.Scalar(Tensor self, Scalar other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::div.Scalar_mode(Tensor self, Scalar other, *, "
        "str? rounding_mode) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::div.Tensor(Tensor self, Tensor other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::div.Tensor_mode(Tensor self, Tensor other, *, "
        "str? rounding_mode) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::div_.Scalar(Tensor(a!) self, Scalar other) -> Tensor(a!)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::div_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::erf(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::exp(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::exp2(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::expm1(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::floor(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::floor_divide(Tensor self, Tensor other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::floor_divide.Scalar(Tensor self, Scalar other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::gelu(Tensor self, *, str approximate=none) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::glu(Tensor self, int dim=-1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::hardtanh(Tensor self, Scalar min_val=-1, Scalar max_val=1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::leaky_relu(Tensor self, Scalar negative_slope=0.01) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::log(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::log1p(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::max.other(Tensor self, Tensor other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::maximum(Tensor self, Tensor other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::min.other(Tensor self, Tensor other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::minimum(Tensor self, Tensor other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::mish(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::mul.Scalar(Tensor self, Scalar other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::mul.Tensor(Tensor self, Tensor other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::mul_.Scalar(Tensor(a!) self, Scalar other) -> Tensor(a!)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::mul_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::neg(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::pow.Scalar(Scalar self, Tensor exponent) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::pow.Tensor_Scalar(Tensor self, Scalar exponent) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::pow.Tensor_Tensor(Tensor self, Tensor exponent) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::reciprocal(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::relu(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::relu_(Tensor(a!) self) -> Tensor(a!)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::remainder.Scalar(Tensor self, Scalar other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::remainder.Tensor(Tensor self, Tensor other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::round(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::rsqrt(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::rsub.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::rsub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sigmoid(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sign(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::silu(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::silu_(Tensor(a!) self) -> Tensor(a!)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sin(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::softplus(Tensor self, Scalar beta=1, Scalar threshold=20) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sqrt(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::square(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sub.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sub_.Scalar(Tensor(a!) self, Scalar other, "
        "Scalar alpha=1) -> Tensor(a!)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sub_.Tensor(Tensor(a!) self, Tensor other, *, "
        "Scalar alpha=1) -> Tensor(a!)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::tanh(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::trunc(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)

/* ---- reductions, norms, products, order ---- */
ATEN_OP("aten::addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, "
        "Scalar alpha=1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::amax(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::amin(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::argmax(Tensor self, int? dim=None, bool keepdim=False) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::argmin(Tensor self, int? dim=None, bool keepdim=False) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::argsort(Tensor self, int dim=-1, bool descending=False) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, "
        "Scalar alpha=1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::bmm(Tensor self, Tensor mat2) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::cumsum(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::_grouped_mm(Tensor self, Tensor mat2, Tensor? offs=None, Tensor? bias=None, "
        "ScalarType? out_dtype=None) -> Tensor", NULL, F32, GROUPED, GROUPS)
ATEN_OP("transformers::grouped_mm_fallback(Tensor input, Tensor weight, "
        "Tensor offs) -> Tensor", NULL, F32, GROUPED, NOTHING)
ATEN_OP("aten::histc(Tensor self, int bins=100, Scalar min=0, Scalar max=0) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::index_add(Tensor self, int dim, Tensor index, Tensor source, *, "
        "Scalar alpha=1) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::layer_norm(Tensor input, SymInt[] normalized_shape, "
        "Tensor? weight=None, Tensor? bias=None, float eps=1e-05, "
        "bool cudnn_enable=True) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor", NULL, F32, LINEAR, NOTHING)
ATEN_OP("aten::log_softmax.int(Tensor self, int dim, "
        "ScalarType? dtype=None) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::logsumexp(Tensor self, int[1] dim, bool keepdim=False) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::matmul(Tensor self, Tensor other) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::max(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::max.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, "
        "Tensor indices)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::mean(Tensor self, *, ScalarType? dtype=None) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::mean.dim(Tensor self, int[1]? dim, bool keepdim=False, *, "
        "ScalarType? dtype=None) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::min(Tensor self) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::min.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, "
        "Tensor indices)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::mm(Tensor self, Tensor mat2) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::native_layer_norm(Tensor input, SymInt[] normalized_shape, "
        "Tensor? weight, Tensor? bias, float eps) -> (Tensor, Tensor, Tensor)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::outer(Tensor self, Tensor vec2) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::rms_norm(Tensor input, SymInt[] normalized_shape, "
        "Tensor? weight=None, float? eps=None) -> Tensor", NULL, F32, RMS_NORM, NOTHING)
ATEN_OP("aten::scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, "
        "Tensor? attn_mask=None, float dropout_p=0., bool is_causal=False, *, "
        "float? scale=None, bool enable_gqa=False) -> Tensor", NULL, F32, SDPA, EVAL)
ATEN_OP("aten::scatter_add(Tensor self, int dim, Tensor index, Tensor src) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::_softmax(Tensor self, int dim, bool half_to_float) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sort(Tensor self, int dim=-1, "
        "bool descending=False) -> (Tensor values, Tensor indices)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sort.stable(Tensor self, *, bool? stable, int dim=-1, "
        "bool descending=False) -> (Tensor values, Tensor indices)", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sum(Tensor self, *, ScalarType? dtype=None) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False, *, "
        "ScalarType? dtype=None) -> Tensor", NULL, F32, CALL, NOTHING)
ATEN_OP("aten::topk(Tensor self, SymInt k, int dim=-1, bool largest=True, "
        "bool sorted=True) -> (Tensor values, Tensor indices)", NULL, F32, CALL, NOTHING)

/* ---- of ExecuTorch: extension/llm/custom_ops/op_sdpa_aot.cpp, 1.5.1 ---- */
ATEN_OP("llama::custom_sdpa(Tensor query, Tensor key, Tensor value, SymInt start_pos, "
        "Tensor? attn_mask=None, float drpout_p=0., bool is_causal=False, "
        "float? scale=None) -> Tensor", NULL, F32, CUSTOM_SDPA, EVAL)
ATEN_OP("llama::update_cache(Tensor value, Tensor(a!) cache, "
        "SymInt start_pos) -> Tensor", NULL, F32, UPDATE_CACHE, NOTHING)

/* ---- quantised programs, as torchao 0.18 has them ---- */
ATEN_OP("torchao::choose_qparams_affine(Tensor? input, str mapping_type, SymInt[] block_size, "
        "ScalarType target_dtype, Scalar? quant_min=None, Scalar? quant_max=None, float? eps=None, "
        "ScalarType? scale_dtype=None, ScalarType? zero_point_dtype=None, "
        "bool keepdim=False) -> (Tensor, Tensor)", NULL, F32, TORCHAO, BLOCKS)
ATEN_OP("torchao::dequantize_affine(Tensor input, SymInt[] block_size, Tensor scale, "
        "Tensor? zero_point, ScalarType input_dtype, Scalar? quant_min=None, "
        "Scalar? quant_max=None, ScalarType output_dtype=6) -> Tensor", NULL, F32, TORCHAO, BLOCKS)
ATEN_OP("torchao::quantize_affine(Tensor input, SymInt[] block_size, Tensor scale, "
        "Tensor? zero_point, ScalarType output_dtype, Scalar? quant_min=None, "
        "Scalar? quant_max=None) -> Tensor", NULL, F32, TORCHAO, BLOCKS)

/* ---- sizes, scalars and assertions: interpreted here ---- */
ATEN_OP("aten::_assert_async.msg(Tensor self, str assert_msg) -> ()", NULL, NATIVE, OWN, NOTHING)
ATEN_OP("aten::_assert_scalar(Scalar self, str assert_msg) -> ()", NULL, NATIVE, OWN, NOTHING)
ATEN_OP("aten::_assert_tensor_metadata(Tensor a, SymInt[]? size=None, "
        "SymInt[]? stride=None, ScalarType? dtype=None, *, Device? device=None, "
        "Layout? layout=None) -> ()", NULL, NATIVE, OWN, NOTHING)
ATEN_OP("aten::item(Tensor self) -> Scalar", NULL, NATIVE, OWN, NOTHING)
ATEN_OP("aten::_local_scalar_dense(Tensor self) -> Scalar", NULL, NATIVE, OWN, NOTHING)
ATEN_OP("aten::sym_constrain_range(Scalar size, *, int? min=None, "
        "int? max=None) -> ()", NULL, NATIVE, OWN, NOTHING)
ATEN_OP("aten::sym_constrain_range_for_size(Scalar size, *, int? min=None, "
        "int? max=None) -> ()", NULL, NATIVE, OWN, NOTHING)
ATEN_OP("aten::sym_numel(Tensor self) -> SymInt", NULL, NATIVE, OWN, NOTHING)
ATEN_OP("aten::sym_storage_offset(Tensor self) -> SymInt", NULL, NATIVE, OWN, NOTHING)
ATEN_OP("aten::sym_size.int(Tensor self, int dim) -> SymInt", NULL, NATIVE, OWN, NOTHING)
