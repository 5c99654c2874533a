#include "cmd/ctl_inspect_pte.h"

#include "base/buf.h"
#include "base/sha256.h"
#include "cmd/ctl_download.h"
#include "cmd/ctl_show.h"
#include "pte/describe.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

bool ctl_is_pte(FILE *file)
{
    char head[8];
    ssize_t n = pread(fileno(file), head, sizeof(head), 0);

    return n == sizeof(head) && pte_is_program(head, sizeof(head));
}

/* ---- what people read ---- */

static long long number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)) ?: "?";
}

static void show_tensors(const char *title, const json_t *list)
{
    json_t *tensor;
    size_t i;

    json_array_foreach (list, i, tensor) {
        AUTO_PTR char *shown = json_is_object(tensor)
                                   ? show_tensor(tensor)
                                   : json_dumps(tensor, JSON_ENCODE_ANY | JSON_COMPACT);

        show_line(title, "%s", shown ? shown : "?");
    }
}

static void show_constant(const json_t *method)
{
    AUTO_BUF values = BUF_INIT(4096);
    json_t *value;
    size_t i;

    json_array_foreach (json_object_get(method, "values"), i, value) {
        AUTO_PTR char *one = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

        buf_printf(&values, "%s%s", i ? ", " : "", one ? one : "?");
    }
    show_line("constant", "%s: %s", text(method, "name"),
              values.data && !buf_failed(&values) ? values.data : "...");
}

/* Those of one kind together: "7 XnnpackBackend, 1.9 MB". */
static void show_delegates(const json_t *delegates)
{
    json_auto_t *kinds = json_object();
    const char *name;
    json_t *delegate, *kind;
    char shown[SHOW_SIZE_CHARS];
    size_t i;

    json_array_foreach (delegates, i, delegate) {
        kind = json_object_get(kinds, text(delegate, "backend"));
        json_object_set_new(kinds, text(delegate, "backend"),
                            json_pack("{s:I, s:I}", "n", (json_int_t)number(kind, "n") + 1,
                                      "bytes", (json_int_t)(number(kind, "bytes") +
                                                            number(delegate, "bytes"))));
    }
    json_object_foreach (kinds, name, kind)
        show_line("delegates", "%lld %s, payloads of %s", number(kind, "n"), name,
                  show_bytes((uint64_t)number(kind, "bytes"), shown));
}

static void show_method(const json_t *method)
{
    char shown[SHOW_SIZE_CHARS];
    json_t *op;
    size_t i;

    show_line("method", "%s", text(method, "name"));
    show_tensors("input", json_object_get(method, "inputs"));
    show_tensors("output", json_object_get(method, "outputs"));
    show_line("instructions", "%lld: %lld kernel calls, %lld delegate calls, %lld jumps",
              number(method, "instructions"), number(method, "kernel_calls"),
              number(method, "delegate_calls"), number(method, "jumps"));
    show_line("arena", "%lld (%s)", number(method, "arena_bytes"),
              show_bytes((uint64_t)number(method, "arena_bytes"), shown));
    show_delegates(json_object_get(method, "delegates"));
    json_array_foreach (json_object_get(method, "operators"), i, op)
        show_line("operator", "%s: %lld", text(op, "name"), number(op, "calls"));
}

static void show_all(const json_t *facts)
{
    char shown[SHOW_SIZE_CHARS];
    json_t *method;
    size_t i;

    show_line("sha256", "%s", text(facts, "sha256"));
    show_line("bytes", "%lld (%s)", number(facts, "bytes"),
              show_bytes((uint64_t)number(facts, "bytes"), shown));
    json_array_foreach (json_object_get(facts, "methods"), i, method)
        (json_object_get(method, "values") ? show_constant : show_method)(method);
    show_line("constants", "%lld", number(facts, "constants"));
    show_line("named data", "%zu", json_array_size(json_object_get(facts, "named_data")));
    show_line("segments", "%zu", json_array_size(json_object_get(facts, "segments")));
}

/* ---- the file ---- */

static int describe(struct ctl *ctl, FILE *file, const char *path, json_t **ret_facts)
{
    struct pt2_err err = {0};
    struct stat st;
    void *map;
    int r;

    if (fstat(fileno(file), &st) < 0)
        return ctl_fail(ctl, CTL_FILE, "%s: %s", path, strerror(errno));
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fileno(file), 0);
    if (map == MAP_FAILED)
        return ctl_fail(ctl, CTL_FILE, "%s: %s", path, strerror(errno));
    r = pte_describe(map, (size_t)st.st_size, ret_facts, &err);
    munmap(map, (size_t)st.st_size);
    return r < 0 ? ctl_fail(ctl, CTL_FILE, "%s: %s", path, err.text) : 0;
}

int ctl_inspect_pte(struct ctl *ctl, FILE *file, const char *path)
{
    json_auto_t *facts = NULL;
    char hex[SHA256_HEX];
    uint64_t bytes;

    if (describe(ctl, file, path, &facts) < 0 ||
        ctl_digest_file(ctl, file, path, hex, &bytes) < 0)
        return -1;
    json_object_set_new(facts, "sha256", json_string(hex));
    json_object_set_new(facts, "bytes", json_integer((json_int_t)bytes));
    if (ctl->json)
        return show_json(ctl, facts);
    show_all(facts);
    return 0;
}
