#include "aten/bridge.h"

#include <ATen/Parallel.h>
#include <ATen/ScalarOps.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/version.h>

#include <atomic>
#include <cstring>
#include <map>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace
{

#if TORCH_VERSION_MAJOR >= 2
template <class T> using optional = std::optional<T>;
#else
template <class T> using optional = c10::optional<T>;
#endif

using impl_ptr = c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;

/* A mistake in what we were called with; its text is for the client. */
struct bad_value : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/* ---- the allocator: libtorch's own memory, counted ---- */

struct limit_error : std::bad_alloc {
    const char *what() const noexcept override
    {
        return "memory limit of the run";
    }
};

std::atomic<uint64_t> memory_used{0};
std::atomic<uint64_t> memory_max{UINT64_MAX};
std::atomic<uint64_t> memory_wanted{
    0}; /* what the last refused block would have made it */

/* Before each block's bytes, which stay aligned as libtorch wants them, lies its size:
 *
 *     | size ...      | bytes ...
 *     ^ from alloc_cpu ^ HEADER bytes on: the data, and the context of the data pointer
 *                        (raw_allocate wants the two to be one)                        */
constexpr size_t HEADER = 64;

void block_free(void *data)
{
    if (!data)
        return;
    char *begin = static_cast<char *>(data) - HEADER;
    size_t size;

    memcpy(&size, begin, sizeof(size));
    memory_used -= size;
    c10::free_cpu(begin);
}

struct counting_allocator final : c10::Allocator {
    c10::DataPtr count(size_t n) const
    {
        uint64_t used = memory_used.load(), max = memory_max.load();

        if (n > SIZE_MAX - HEADER || n > max || used > max - n) {
            memory_wanted = n > UINT64_MAX - used ? UINT64_MAX : used + n;
            throw limit_error();
        }
        if (n == 0)
            return {nullptr, nullptr, block_free, c10::Device(c10::DeviceType::CPU)};
        char *begin = static_cast<char *>(c10::alloc_cpu(n + HEADER));

        memcpy(begin, &n, sizeof(n));
        memory_used += n;
        begin += HEADER;
        return {begin, begin, block_free, c10::Device(c10::DeviceType::CPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override
    {
        return block_free;
    }
#if TORCH_VERSION_MAJOR >= 2
    c10::DataPtr allocate(size_t n) override
    {
        return count(n);
    }
    void copy_data(void *dest, const void *src, std::size_t n) const override
    {
        memcpy(dest, src, n);
    }
#else
    c10::DataPtr allocate(size_t n) const override
    {
        return count(n);
    }
#endif
};

/* Installed before the first tensor is made; never destroyed, since storages outlive
 * main. */
void install_allocator()
{
    static bool installed = [] {
        c10::SetCPUAllocator(new counting_allocator, /* priority= */ 255);
        return true;
    }();
    (void)installed;
}

/* ---- errors ---- */

int fail(struct pt2_err *err, enum pt2_error code, const char *what)
{
    char text[320];
    size_t n = 0;

    for (; what[n] && n < sizeof(text) - 1; n++)
        text[n] = (unsigned char)what[n] < ' ' ? ' ' : what[n];
    while (n > 0 && text[n - 1] == ' ')
        n--;
    text[n] = '\0';
    return pt2_err_set(err, code, "%s", text);
}

/* Run fn, and turn whatever it throws into an error. */
template <class F> int guarded(struct pt2_err *err, F &&fn)
{
    try {
        c10::InferenceMode no_autograd;

        fn();
        return 0;
    } catch (const limit_error &) {
        return pt2_err_set(err, PT2_ERR_LIMIT,
                           "%llu bytes of intermediate results, at most %llu are allowed",
                           (unsigned long long)memory_wanted.load(),
                           (unsigned long long)memory_max.load());
    } catch (const std::bad_alloc &) {
        return pt2_err_set(err, PT2_ERR_NOMEM, "intermediate results");
    } catch (const c10::Error &e) {
        return fail(err, PT2_ERR_PROGRAM_FAILED, e.what_without_backtrace());
    } catch (const std::exception &e) {
        return fail(err, PT2_ERR_PROGRAM_FAILED, e.what());
    } catch (...) {
        return fail(err, PT2_ERR_PROGRAM_FAILED, "libtorch threw something unknown");
    }
}

/* ---- types ---- */

constexpr struct {
    enum pt2_dtype ours;
    c10::ScalarType theirs;
} dtypes[] = {
    {PT2_UINT8, c10::ScalarType::Byte},    {PT2_INT8, c10::ScalarType::Char},
    {PT2_INT16, c10::ScalarType::Short},   {PT2_INT32, c10::ScalarType::Int},
    {PT2_INT64, c10::ScalarType::Long},    {PT2_FLOAT16, c10::ScalarType::Half},
    {PT2_FLOAT32, c10::ScalarType::Float}, {PT2_FLOAT64, c10::ScalarType::Double},
    {PT2_BOOL, c10::ScalarType::Bool},     {PT2_BFLOAT16, c10::ScalarType::BFloat16},
};

c10::ScalarType to_theirs(enum pt2_dtype dtype)
{
    for (auto &d : dtypes)
        if (d.ours == dtype)
            return d.theirs;
    throw bad_value("no such dtype");
}

c10::TensorImpl *impl(const struct bridge_tensor *t)
{
    return reinterpret_cast<c10::TensorImpl *>(const_cast<struct bridge_tensor *>(t));
}

at::Tensor borrow(const struct bridge_tensor *t)
{
    return at::Tensor(impl_ptr::unsafe_reclaim_from_nonowning(impl(t)));
}

struct bridge_tensor *give(at::Tensor t)
{
    return reinterpret_cast<struct bridge_tensor *>(
        t.unsafeReleaseIntrusivePtr().release());
}

[[noreturn]] void mismatch(const c10::Type &type)
{
    throw bad_value("an argument of type " + type.str() + " got something else");
}

/* ---- values in ---- */

c10::IValue to_ivalue(const c10::Type &type, const struct bridge_value &v);

template <class T, class F>
c10::IValue to_list(const struct bridge_value *items, size_t n, F &&one)
{
    c10::List<T> list;

    list.reserve(n);
    for (size_t i = 0; i < n; i++)
        list.push_back(one(items[i]));
    return c10::IValue(std::move(list));
}

c10::IValue list_ivalue(const c10::Type &type, const struct bridge_value &v)
{
    const c10::Type &item = *type.containedType(0);
    bool is_list = v.kind == BRIDGE_LIST;
    /* One number stands for a list of one, as in Python. */
    const struct bridge_value *items = is_list ? v.list.items : &v;
    size_t n = is_list ? v.list.n : 1;

    switch (item.kind()) {
    case c10::TypeKind::TensorType:
        return to_list<at::Tensor>(items, n, [&](const struct bridge_value &x) {
            return to_ivalue(item, x).toTensor();
        });
    case c10::TypeKind::OptionalType:
        return to_list<optional<at::Tensor>>(items, n, [&](const struct bridge_value &x) {
            return to_ivalue(item, x).toOptional<at::Tensor>();
        });
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
        return to_list<int64_t>(items, n, [&](const struct bridge_value &x) {
            return to_ivalue(item, x).toInt();
        });
    case c10::TypeKind::FloatType:
        return to_list<double>(items, n, [&](const struct bridge_value &x) {
            return to_ivalue(item, x).toDouble();
        });
    case c10::TypeKind::BoolType:
        return to_list<bool>(items, n, [&](const struct bridge_value &x) {
            return to_ivalue(item, x).toBool();
        });
    default:
        mismatch(type);
    }
}

c10::IValue int_ivalue(const c10::Type &type, const struct bridge_value &v)
{
    if (v.kind == BRIDGE_INT)
        return v.i;
    if (v.kind == BRIDGE_DTYPE)
        return static_cast<int64_t>(to_theirs(v.dtype));
    mismatch(type);
}

c10::IValue number_ivalue(const c10::Type &type, const struct bridge_value &v)
{
    if (v.kind == BRIDGE_INT)
        return v.i;
    if (v.kind == BRIDGE_FLOAT)
        return v.f;
    if (v.kind == BRIDGE_BOOL)
        return v.b;
    mismatch(type);
}

/* A number in a tensor's place counts for less than a tensor where dtypes are promoted.
 */
c10::IValue tensor_ivalue(const c10::Type &type, const struct bridge_value &v)
{
    if (v.kind == BRIDGE_TENSOR)
        return borrow(v.t);
    return at::native::wrapped_scalar_tensor(number_ivalue(type, v).toScalar());
}

c10::IValue to_ivalue(const c10::Type &type, const struct bridge_value &v)
{
    switch (type.kind()) {
    case c10::TypeKind::OptionalType:
        return v.kind == BRIDGE_NONE ? c10::IValue()
                                     : to_ivalue(*type.containedType(0), v);
    case c10::TypeKind::TensorType:
        return tensor_ivalue(type, v);
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
        return int_ivalue(type, v);
    case c10::TypeKind::NumberType:
        return number_ivalue(type, v);
    case c10::TypeKind::FloatType:
        if (v.kind == BRIDGE_FLOAT)
            return v.f;
        if (v.kind == BRIDGE_INT)
            return static_cast<double>(v.i);
        break;
    case c10::TypeKind::BoolType:
        if (v.kind == BRIDGE_BOOL)
            return v.b;
        break;
    case c10::TypeKind::StringType:
        if (v.kind == BRIDGE_STRING)
            return std::string(v.s);
        break;
    case c10::TypeKind::DeviceObjType:
        if (v.kind == BRIDGE_CPU)
            return c10::Device(c10::DeviceType::CPU);
        break;
    case c10::TypeKind::ListType:
        return list_ivalue(type, v);
    default:
        break;
    }
    mismatch(type);
}

/* ---- values out ---- */

void check_tensor(const at::Tensor &t)
{
    if (!t.defined())
        throw bad_value("the result is no tensor");
    if (!t.device().is_cpu() || t.layout() != c10::Layout::Strided)
        throw bad_value("the result is not a strided tensor on the CPU");
    if (t.dim() > BRIDGE_MAX_DIMS)
        throw bad_value("the result has " + std::to_string(t.dim()) + " dimensions");
}

struct bridge_value list_value(c10::IValue &&iv)
{
    struct bridge_value v = {BRIDGE_LIST, {}};
    std::vector<at::Tensor> tensors = std::move(iv).toTensorVector();

    for (const at::Tensor &t : tensors)
        check_tensor(t);
    v.list.n = 0;
    v.list.items = new struct bridge_value[tensors.size() + 1];
    for (at::Tensor &t : tensors) {
        struct bridge_value &item = v.list.items[v.list.n++];

        item.kind = BRIDGE_TENSOR;
        item.t = give(std::move(t));
    }
    return v;
}

struct bridge_value from_ivalue(c10::IValue &&iv)
{
    struct bridge_value v = {BRIDGE_NONE, {}};

    if (iv.isTensorList())
        return list_value(std::move(iv));
    if (iv.isTensor()) {
        at::Tensor t = std::move(iv).toTensor();

        check_tensor(t);
        v.kind = BRIDGE_TENSOR;
        v.t = give(std::move(t));
    } else if (iv.isInt()) {
        v.kind = BRIDGE_INT;
        v.i = iv.toInt();
    } else if (iv.isDouble()) {
        v.kind = BRIDGE_FLOAT;
        v.f = iv.toDouble();
    } else if (iv.isBool()) {
        v.kind = BRIDGE_BOOL;
        v.b = iv.toBool();
    } else if (!iv.isNone()) {
        throw bad_value("the result is of a kind that nobody expects");
    }
    return v;
}

} // namespace

/* ---- the C side ---- */

struct bridge_op {
    c10::OperatorHandle handle;
};

int bridge_version(void)
{
    return 100 * TORCH_VERSION_MAJOR + TORCH_VERSION_MINOR;
}

void bridge_set_threads(unsigned n)
{
    unsigned cores = std::thread::hardware_concurrency();

    at::set_num_threads(n ? (int)n : cores ? (int)cores : 1);
}

void bridge_limit_memory(uint64_t max_bytes)
{
    uint64_t used = memory_used.load();

    install_allocator();
    memory_max = max_bytes > UINT64_MAX - used ? UINT64_MAX : used + max_bytes;
}

uint64_t bridge_memory(void)
{
    return memory_used.load();
}

int bridge_tensor_wrap(void *data, enum pt2_dtype dtype, unsigned n_dims,
                       const int64_t *sizes, const int64_t *strides,
                       struct bridge_tensor **ret_tensor, struct pt2_err *err)
{
    return guarded(err, [&] {
        install_allocator();
        *ret_tensor = give(at::from_blob(data, c10::IntArrayRef(sizes, n_dims),
                                         c10::IntArrayRef(strides, n_dims),
                                         at::TensorOptions().dtype(to_theirs(dtype))));
    });
}

struct bridge_tensor *bridge_tensor_ref(struct bridge_tensor *tensor)
{
    return give(borrow(tensor));
}

void bridge_tensor_free(struct bridge_tensor *tensor)
{
    if (tensor)
        impl_ptr::reclaim(impl(tensor));
}

enum pt2_dtype bridge_tensor_dtype(const struct bridge_tensor *tensor)
{
    c10::ScalarType theirs = c10::typeMetaToScalarType(impl(tensor)->dtype());

    for (auto &d : dtypes)
        if (d.theirs == theirs)
            return d.ours;
    return PT2_DTYPE_NONE;
}

unsigned bridge_tensor_n_dims(const struct bridge_tensor *tensor)
{
    return (unsigned)impl(tensor)->dim();
}

int64_t bridge_tensor_size(const struct bridge_tensor *tensor, unsigned dim)
{
    return impl(tensor)->sizes()[dim];
}

int64_t bridge_tensor_stride(const struct bridge_tensor *tensor, unsigned dim)
{
    return impl(tensor)->strides()[dim];
}

const void *bridge_tensor_storage(const struct bridge_tensor *tensor)
{
    return impl(tensor)->unsafe_storage().data();
}

void *bridge_tensor_data(struct bridge_tensor *tensor)
{
    return borrow(tensor).data_ptr();
}

/* Each op is looked up once: a step finds the same few again and again. */
const struct bridge_op *bridge_op_find(const char *name, const char *overload)
{
    static auto &found = *new std::map<std::pair<std::string, std::string>, bridge_op>;

    try {
        auto key = std::make_pair(std::string(name), std::string(overload));
        auto known = found.find(key);

        if (known != found.end())
            return &known->second;
        auto handle = c10::Dispatcher::singleton().findSchema({name, overload});

        return handle ? &found.emplace(key, bridge_op{*handle}).first->second : nullptr;
    } catch (...) {
        return nullptr;
    }
}

size_t bridge_op_n_args(const struct bridge_op *op)
{
    return op->handle.schema().arguments().size();
}

int bridge_op_arg(const struct bridge_op *op, const char *name)
{
    auto place = op->handle.schema().argumentIndexWithName(name);

    return place ? (int)*place : -1;
}

int bridge_call(const struct bridge_op *op, const struct bridge_value *args,
                struct bridge_value *rets, size_t n_rets, struct pt2_err *err)
{
    size_t n_done = 0;
    int r = guarded(err, [&] {
        const auto &formal = op->handle.schema().arguments();
        torch::jit::Stack stack;

        stack.reserve(formal.size());
        for (size_t i = 0; i < formal.size(); i++) {
            if (args[i].kind != BRIDGE_DEFAULT)
                stack.push_back(to_ivalue(*formal[i].type(), args[i]));
            else if (formal[i].default_value())
                stack.push_back(*formal[i].default_value());
            else
                throw bad_value("argument '" + formal[i].name() + "' is missing");
        }
        op->handle.callBoxed(&stack);
        if (stack.size() < n_rets)
            throw bad_value("the op returns " + std::to_string(stack.size()) +
                            " values, not " + std::to_string(n_rets));
        for (; n_done < n_rets; n_done++)
            rets[n_done] = from_ivalue(std::move(stack[n_done]));
    });

    if (r < 0)
        while (n_done > 0)
            bridge_value_done(&rets[--n_done]);
    return r;
}

void bridge_value_done(struct bridge_value *value)
{
    if (value->kind == BRIDGE_TENSOR) {
        bridge_tensor_free(value->t);
    } else if (value->kind == BRIDGE_LIST) {
        for (size_t i = 0; i < value->list.n; i++)
            bridge_value_done(&value->list.items[i]);
        delete[] value->list.items;
    }
    value->kind = BRIDGE_DEFAULT;
}
