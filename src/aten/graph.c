#include "aten/graph.h"

#define DEFAULT_MAX_RUN_BYTES (UINT64_C(4) << 30)

void *graph_alloc(struct graph *graph, size_t n, size_t size)
{
    struct allocation *a;
    uint64_t bytes;

    if (!size_mul(n, size, &bytes) || !size_add(bytes, sizeof(*a), &bytes))
        return NULL;
    a = calloc(1, bytes);
    if (!a)
        return NULL;
    a->next = graph->allocations;
    graph->allocations = a;
    return a->data;
}

static int open_parts(struct graph *graph, struct pt2_err *err)
{
    graph->values =
        graph_alloc(graph, pt2_program_n_values(graph->program), sizeof(*graph->values));
    if (!graph->values)
        return pt2_err_set(err, PT2_ERR_NOMEM, "values of the program");
    if (cells_open(graph, err) < 0 || calls_open(graph, err) < 0 ||
        write_rule_check(graph, err) < 0)
        return -1;
    return cells_load(graph, err);
}

int graph_open(const struct pt2_archive *archive, const struct pt2_program *program,
               const struct aten_limits *limits, struct graph **ret_graph,
               struct pt2_err *err)
{
    AUTO(graph) graph = calloc(1, sizeof(*graph));

    if (!graph)
        return pt2_err_set(err, PT2_ERR_NOMEM, "graph");
    graph->archive = archive;
    graph->program = program;
    graph->fail_at = -1;
    if (limits)
        graph->limits = *limits;
    if (graph->limits.max_run_bytes == 0)
        graph->limits.max_run_bytes = DEFAULT_MAX_RUN_BYTES;
    bridge_set_threads(graph->limits.n_threads);
    bridge_limit_memory(graph->limits.max_run_bytes);
    if (open_parts(graph, err) < 0)
        return -1;
    *ret_graph = TAKE(graph);
    return 0;
}

void graph_free(struct graph *graph)
{
    if (!graph)
        return;
    cells_done(graph);
    for (struct allocation *a = graph->allocations, *next; a; a = next) {
        next = a->next;
        free(a);
    }
    free(graph);
}
