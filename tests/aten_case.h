/* aten_case.h - a small graph from a line of JSON, and the tensors that go in.
 *
 * {"values": {"v0": ["F", [2, 3]], "v1": ["int"]},   dtype and sizes; "F": the one given
 *  "inputs": [{"name": "v0", "data": [...]},         user inputs, or with "kind":
 *             {"name": "v2", "kind": "parameter"},   "parameter", "buffer": in an archive,
 *                                                    by the same name; without data zeros
 *  "nodes": as in model.json, "as_scalar_type": "F" too
 *  "outputs": [{"name": "v1"}],                      user outputs; "buffer": a mutation
 *  "decoder": true}                                  leave the graph to aten_program_open
 */
#ifndef TESTS_ATEN_CASE_H
#define TESTS_ATEN_CASE_H

#include "aten/graph.h"

#include <jansson.h>

#define ATEN_CASE_MAX 16

struct aten_case {
    struct pt2_program *program;
    struct pt2_archive *archive; /* NULL where no input lies in one */
    struct graph_tensor inputs[ATEN_CASE_MAX]; /* the user inputs */
    uint32_t n_inputs;
};

/* The file, an object; it must be readable.  new: json_decref. */
json_t *aten_case_load(const char *path);

/* Make the program, its archive and its inputs.  init: aten_case_done.
 * Errors: those of pt2_program_parse and pt2_archive_open. */
MUST_USE int aten_case_init(struct aten_case *c, const json_t *json, enum pt2_dtype dtype,
                            struct pt2_err *err);
void aten_case_done(struct aten_case *c);

/* The elements that an array of numbers ("Infinity", "NaN" too) stands for; new.
 * ret_bytes may be NULL. */
void *aten_case_elements(const json_t *data, enum pt2_dtype dtype, size_t *ret_bytes);
/* A number of that array. */
double aten_case_number(const json_t *item);
/* An element as a double, and a double rounded to a dtype of floating point. */
double aten_case_read(enum pt2_dtype dtype, const void *element);
double aten_case_round(enum pt2_dtype dtype, double x);

#endif
