#include "store/programs.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "native/plan.h"
#include "store/aliases_db.h"
#include "store/jobs_db.h"
#include "store/program_checks.h"
#include "store/program_facts.h"
#include "store/programs_db.h"
#include "store/ptes_db.h"
#include "store/retention.h"
#include "store/whole.h"

#include <pthread.h>
#include <sys/stat.h>

#define WAIT_ENGINES_MS 10000
#define USE_EVERY_MS    60000 /* a later use than that is written down */
#define MAX_MATCHES     8 /* ids that an ambiguous prefix lists */

struct pin {
    char id[PROGRAM_ID_SIZE];
    size_t n;         /* users */
    bool is_deleting; /* no more of them */
};

struct programs {
    struct store *store;     /* borrowed */
    struct objects *objects; /* borrowed */
    struct whole_state whole;
    struct program_checks *checks;
    struct retention *retention;
    pthread_mutex_t change; /* held while an object and its row come or go */
    pthread_mutex_t mutex;  /* guards the pins; never held while waiting */
    struct pin *pins;
    size_t n_pins;
};

/* ---- start and stop ---- */

static int is_recorded(void *ctx, const char *id, bool *ret_keep, struct pt2_err *err)
{
    struct programs *programs = ctx;

    if (programs_db_find(programs->store, id, ret_keep, NULL, err) < 0)
        return -1;
    return *ret_keep ? 0 : ptes_db_has(programs->store, id, ret_keep, err);
}

int programs_new(struct store *store, struct objects *objects,
                 const struct programs_options *options, struct programs **ret_programs,
                 struct pt2_err *err)
{
    AUTO(programs) programs = calloc(1, sizeof(*programs));

    if (!programs)
        return pt2_err_set(err, PT2_ERR_NOMEM, "programs");
    programs->store = store;
    programs->objects = objects;
    pthread_mutex_init(&programs->change, NULL);
    pthread_mutex_init(&programs->mutex, NULL);
    if (whole_start(&programs->whole, store, objects, err) < 0 ||
        objects_sweep(objects, is_recorded, programs, err) < 0 ||
        program_checks_new(store, objects, &programs->whole, options, &programs->checks,
                           err) < 0 ||
        retention_new(programs, store, objects, options->max_store_bytes, options->keep_ms,
                      &programs->retention, err) < 0)
        return -1;
    *ret_programs = TAKE(programs);
    return 0;
}

void programs_stop(struct programs *programs)
{
    whole_stop(&programs->whole);
    program_checks_stop(programs->checks);
}

void programs_free(struct programs *programs)
{
    if (!programs)
        return;
    retention_free(programs->retention);
    whole_stop(&programs->whole);
    program_checks_free(programs->checks);
    whole_done(&programs->whole);
    pthread_mutex_destroy(&programs->mutex);
    pthread_mutex_destroy(&programs->change);
    free(programs->pins);
    free(programs);
}

/* ---- names ---- */

static bool is_hex(const char *s)
{
    return strspn(s, "0123456789abcdef") == strlen(s);
}

static int not_found(const char *name, struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_NOT_FOUND, "there is no program '%.100s'", name);
}

/* 1: found, 0: the name is none of these, -1: err. */
static int resolve_alias(struct programs *programs, const char *name,
                         char ret_id[PROGRAM_ID_SIZE], struct pt2_err *err)
{
    struct alias alias;
    bool found;

    if (aliases_db_find(programs->store, name, &found, &alias, err) < 0)
        return -1;
    if (found)
        memcpy(ret_id, alias.program, PROGRAM_ID_SIZE);
    return found;
}

static int resolve_export(struct programs *programs, const char *name, const char *who,
                          char ret_id[PROGRAM_ID_SIZE], struct pt2_err *err)
{
    AUTO_JOB_ROW row = {0};
    bool found;

    if (jobs_db_find(programs->store, name, &found, &row, err) < 0)
        return -1;
    if (!found || !owner_is_seen_by(row.owner, who))
        return 0;
    if (row.state != JOB_SUCCEEDED)
        return pt2_err_set(err, PT2_ERR_CONFLICT, "export '%s' is %s, it has no program",
                           name, job_state_name(row.state));
    memcpy(ret_id, row.program, PROGRAM_ID_SIZE);
    if (programs_db_find(programs->store, ret_id, &found, NULL, err) < 0)
        return -1;
    if (!found)
        return pt2_err_set(err, PT2_ERR_NOT_FOUND,
                           "program '%s' of export '%s' was deleted", ret_id, name);
    return 1;
}

static int ambiguous(const char *name, char (*ids)[PROGRAM_ID_SIZE], size_t n,
                     struct pt2_err *err)
{
    AUTO_BUF list = BUF_INIT(1024);

    for (size_t i = 0; i < n && i < 4; i++)
        buf_printf(&list, "%s%s", i ? ", " : "", ids[i]);
    return pt2_err_set(err, PT2_ERR_AMBIGUOUS, "'%s' begins %s%zu programs' ids: %s%s",
                       name, n == MAX_MATCHES ? "at least " : "", n,
                       list.data ? list.data : "", n > 4 ? ", …" : "");
}

static int resolve_prefix(struct programs *programs, const char *name,
                          char ret_id[PROGRAM_ID_SIZE], struct pt2_err *err)
{
    char ids[MAX_MATCHES][PROGRAM_ID_SIZE];
    size_t len = strlen(name), n;

    if (len < PROGRAM_MIN_PREFIX || len >= PROGRAM_ID_SIZE || !is_hex(name))
        return 0;
    if (programs_db_match(programs->store, name, MAX_MATCHES, ids, &n, err) < 0)
        return -1;
    if (n > 1)
        return ambiguous(name, ids, n, err);
    if (n == 1)
        memcpy(ret_id, ids[0], PROGRAM_ID_SIZE);
    return n == 1;
}

/* A full id is the longest prefix there is, and never an alias. */
int programs_resolve(struct programs *programs, const char *name, const char *who,
                     char ret_id[PROGRAM_ID_SIZE], bool *ret_by_alias,
                     struct pt2_err *err)
{
    int r = resolve_alias(programs, name, ret_id, err);
    bool by_alias = r > 0;

    if (r == 0 && after_prefix(name, "exp_"))
        r = resolve_export(programs, name, who, ret_id, err);
    if (r == 0)
        r = resolve_prefix(programs, name, ret_id, err);
    if (r < 0)
        return -1;
    if (r == 0)
        return not_found(name, err);
    if (ret_by_alias)
        *ret_by_alias = by_alias;
    return 0;
}

void programs_path(const struct programs *programs, const char *id,
                   char ret_path[PATH_MAX])
{
    objects_path(programs->objects, id, ret_path);
}

void programs_packed_path(const struct programs *programs, const char *id,
                          char ret_path[PATH_MAX])
{
    objects_packed_path(programs->objects, id, ret_path);
}

/* ---- pins ---- */

static struct pin *find_pin_locked(struct programs *programs, const char *id)
{
    for (size_t i = 0; i < programs->n_pins; i++)
        if (streq(programs->pins[i].id, id))
            return &programs->pins[i];
    return NULL;
}

/* NULL: out of memory. */
static struct pin *make_pin_locked(struct programs *programs, const char *id)
{
    struct pin *pin = find_pin_locked(programs, id);
    struct pin *pins;

    if (pin)
        return pin;
    pins = realloc(programs->pins, (programs->n_pins + 1) * sizeof(*pins));
    if (!pins)
        return NULL;
    programs->pins = pins;
    pin = &pins[programs->n_pins++];
    *pin = (struct pin){0};
    snprintf(pin->id, sizeof(pin->id), "%s", id);
    return pin;
}

static void drop_pin_locked(struct programs *programs, struct pin *pin)
{
    if (pin->n == 0 && !pin->is_deleting)
        *pin = programs->pins[--programs->n_pins];
}

static int count_pin(struct programs *programs, const char *id, struct pt2_err *err)
{
    struct pin *pin;
    int r = 0;

    pthread_mutex_lock(&programs->mutex);
    pin = make_pin_locked(programs, id);
    if (!pin)
        r = pt2_err_set(err, PT2_ERR_NOMEM, "a pin");
    else if (pin->is_deleting)
        r = not_found(id, err);
    else
        pin->n++;
    pthread_mutex_unlock(&programs->mutex);
    return r;
}

/* When it was used is no reason to fail. */
static void use(struct programs *programs, const char *id)
{
    (void)!programs_db_use(programs->store, id, clock_unix_ms(), USE_EVERY_MS, NULL);
}

int programs_pin(struct programs *programs, const char *id, enum whole_wait wait,
                 struct pt2_err *err)
{
    if (strlen(id) >= PROGRAM_ID_SIZE)
        return not_found(id, err);
    if (count_pin(programs, id, err) < 0)
        return -1;
    if (whole_check(&programs->whole, id, wait, err) == 0) {
        use(programs, id);
        return 0;
    }
    programs_unpin(programs, id);
    return -1;
}

void programs_unpin(struct programs *programs, const char *id)
{
    struct pin *pin;

    pthread_mutex_lock(&programs->mutex);
    pin = find_pin_locked(programs, id);
    ASSERT(pin && pin->n > 0);
    pin->n--;
    drop_pin_locked(programs, pin);
    pthread_mutex_unlock(&programs->mutex);
}

int programs_suspect(struct programs *programs, const char *id, struct pt2_err *err)
{
    return whole_suspect(&programs->whole, id, err);
}

bool programs_is_used(struct programs *programs, const char *id)
{
    bool is;

    pthread_mutex_lock(&programs->mutex);
    is = find_pin_locked(programs, id) != NULL;
    pthread_mutex_unlock(&programs->mutex);
    return is;
}

int programs_set_pinned(struct programs *programs, const char *id, bool is_pinned,
                        struct pt2_err *err)
{
    bool found = false;

    if (programs_db_pin(programs->store, id, is_pinned, &found, err) < 0)
        return -1;
    if (!found)
        return not_found(id, err);
    retention_wake(programs->retention, NULL);
    return 0;
}

void programs_look_again(struct programs *programs)
{
    retention_wake(programs->retention, NULL);
}

/* ---- room ---- */

static int check_disk(struct programs *programs, uint64_t bytes, struct pt2_err *err)
{
    return temp_folder_check_room(objects_temp(programs->objects), bytes, err);
}

int programs_check_room(struct programs *programs, uint64_t bytes, struct pt2_err *err)
{
    if (check_disk(programs, bytes, err) < 0)
        return -1;
    return retention_check_room(programs->retention, bytes, err);
}

int programs_check_room_quick(struct programs *programs, uint64_t bytes, struct pt2_err *err)
{
    if (check_disk(programs, bytes, err) < 0)
        return -1;
    return retention_check_room_quick(programs->retention, bytes, err);
}

/* ---- reading ---- */

static json_t *row_json(const struct programs *programs, const struct program_row *row)
{
    json_t *json = json_of_text(row->facts), *head;
    char created[CLOCK_TEXT_SIZE], used[CLOCK_TEXT_SIZE];

    clock_to_text(row->created_ms, created);
    clock_to_text(row->used_ms, used);
    head = json_pack("{s:s, s:I, s:s, s:s, s:s?, s:s, s:s, s:b}", "id", row->id, "bytes",
                     (json_int_t)row->bytes, "created", created, "origin",
                     row->origin == PROGRAM_EXPORT ? "export" : "upload", "model",
                     row->model, "integrity", whole_name(row->whole), "used", used,
                     "pinned", row->is_pinned);
    if (!head || !json || json_object_update(head, json) < 0 ||
        json_object_set_new(head, "engines", program_checks_json(programs->checks, row)) <
            0) {
        json_decref(head);
        head = NULL;
    }
    json_decref(json);
    return head;
}

int programs_get(struct programs *programs, const char *id, bool wait_engines,
                 json_t **ret_json, struct pt2_err *err)
{
    AUTO_PROGRAM_ROW row = {0};
    bool found;

    if (wait_engines)
        program_checks_wait(programs->checks, id, WAIT_ENGINES_MS);
    if (programs_db_find(programs->store, id, &found, &row, err) < 0)
        return -1;
    if (!found)
        return not_found(id, err);
    *ret_json = row_json(programs, &row);
    return *ret_json ? 0 : pt2_err_set(err, PT2_ERR_NOMEM, "a program");
}

struct listing {
    const struct programs *programs;
    json_t *list;
    int64_t limit, last;
    bool has_more;
};

static int list_row(void *ctx, const struct program_row *row, struct pt2_err *err)
{
    struct listing *listing = ctx;

    if ((int64_t)json_array_size(listing->list) == listing->limit) {
        listing->has_more = true;
        return 0;
    }
    listing->last = row->seq;
    if (json_array_append_new(listing->list, row_json(listing->programs, row)) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of programs");
    return 0;
}

int programs_list(struct programs *programs, int64_t limit, int64_t after,
                  json_t **ret_list, int64_t *ret_next, struct pt2_err *err)
{
    json_auto_t *list = json_array();
    struct listing listing = {.programs = programs, .list = list, .limit = limit};

    if (programs_db_list(programs->store, after, limit + 1, list_row, &listing, err) < 0)
        return -1;
    *ret_next = listing.has_more ? listing.last : 0;
    *ret_list = json_incref(list);
    return 0;
}

int programs_open_file(struct programs *programs, const char *id, int *ret_fd,
                       uint64_t *ret_bytes, struct pt2_err *err)
{
    if (whole_check(&programs->whole, id, WHOLE_BE_SHORT, err) < 0)
        return -1;
    use(programs, id);
    return objects_open_file(programs->objects, id, ret_fd, ret_bytes, err);
}

int programs_open_pte(struct programs *programs, const char *id, const char *sha256,
                      int *ret_fd, uint64_t *ret_bytes, struct pt2_err *err)
{
    bool has = false;

    if (whole_check(&programs->whole, id, WHOLE_BE_SHORT, err) < 0 ||
        ptes_db_has(programs->store, sha256, &has, err) < 0)
        return -1;
    if (!has)
        return pt2_err_set(err, PT2_ERR_NOT_FOUND,
                           "the .pte '%s' was damaged and is gone: export it again", sha256);
    use(programs, id);
    return objects_open_file(programs->objects, sha256, ret_fd, ret_bytes, err);
}

int programs_count(struct programs *programs, int64_t *ret_n, struct pt2_err *err)
{
    return programs_db_count(programs->store, ret_n, err);
}

/* A program with its archive, which must outlive what is compiled from it. */
struct opened {
    struct pt2_archive *archive;
    struct pt2_program *program;
};

static void opened_done(struct opened *opened)
{
    pt2_program_free(opened->program);
    pt2_archive_free(opened->archive);
}

/* Errors as of those who call; opened_done also where it fails. */
static int open_program(struct programs *programs, const char *id, struct opened *ret,
                        struct pt2_err *err)
{
    AUTO_FD int fd = -1;
    uint64_t bytes;

    *ret = (struct opened){0};
    if (programs_open_file(programs, id, &fd, &bytes, err) < 0 ||
        pt2_archive_open_fd(fd, "program.pt2", &ret->archive, err) < 0)
        return -1;
    return pt2_program_read(ret->archive, &ret->program, err);
}

int programs_graph(struct programs *programs, const char *id, char **ret_text,
                   struct pt2_err *err)
{
    struct opened opened;
    int r = open_program(programs, id, &opened, err);

    if (r == 0)
        r = pt2_program_print(opened.program, ret_text, err);
    opened_done(&opened);
    return r;
}

int programs_plan(struct programs *programs, const char *id, char **ret_text,
                  struct pt2_err *err)
{
    struct opened opened;
    int r = open_program(programs, id, &opened, err);

    if (r == 0)
        r = plan_describe(opened.archive, opened.program, ret_text, err);
    opened_done(&opened);
    return r;
}

int programs_decoder(struct programs *programs, const char *id,
                     struct pt2_decoder *ret_decoder, struct pt2_err *err)
{
    struct opened opened;
    int r = open_program(programs, id, &opened, err);

    if (r == 0)
        r = pt2_program_decoder(opened.program, ret_decoder, err);
    opened_done(&opened);
    return r;
}

/* ---- changing ---- */

static int record_within(struct programs *programs, const struct program_row *row,
                         const struct program_source *source, bool *ret_is_new,
                         struct pt2_err *err)
{
    char pte[SHA256_HEX];

    if (programs_db_insert(programs->store, row, ret_is_new, err) < 0 ||
        (row->whole == DAMAGED &&
         programs_db_set_whole(programs->store, row->id, WHOLE, err) < 0))
        return -1;
    if (source->pte) {
        sha256_to_hex(source->pte_sha256, pte);
        if (ptes_db_put(programs->store, row->id, pte, err) < 0)
            return -1;
    }
    return source->also ? source->also(source->ctx, row->id, err) : 0;
}

static int record(struct programs *programs, const struct program_row *row,
                  const struct program_source *source, bool *ret_is_new,
                  struct pt2_err *err)
{
    if (store_begin(programs->store, err) < 0)
        return -1;
    if (record_within(programs, row, source, ret_is_new, err) < 0) {
        store_rollback(programs->store);
        return -1;
    }
    return store_commit(programs->store, err);
}

/* A file that could not be recorded is nobody's. */
static void take_back(struct programs *programs, const char *id)
{
    bool found = true;

    if (is_recorded(programs, id, &found, NULL) == 0 && !found)
        (void)!objects_remove(programs->objects, id, NULL);
}

/* Both files, under their digests.  The holder of change.  One that nobody knows, or that is
 * damaged, makes room; nobody maps a .pte, so a new one may always take the old one's place. */
static int keep_objects(struct programs *programs, struct temp_file *temp,
                        const struct program_row *row, const struct program_source *source,
                        const char *pte, struct pt2_err *err)
{
    bool is_known = false;

    if (programs_db_find(programs->store, row->id, &is_known, NULL, err) < 0 ||
        objects_keep(programs->objects, temp, row->id,
                     /* replace= */ !is_known || row->whole == DAMAGED, err) < 0)
        return -1;
    return source->pte ? objects_keep(programs->objects, source->pte, pte,
                                      /* replace= */ true, err)
                       : 0;
}

static int keep(struct programs *programs, struct temp_file *temp,
                const struct program_row *row, const struct program_source *source,
                bool *ret_is_new, struct pt2_err *err)
{
    char pte[SHA256_HEX] = "";
    int r;

    if (source->pte)
        sha256_to_hex(source->pte_sha256, pte);
    pthread_mutex_lock(&programs->change);
    r = keep_objects(programs, temp, row, source, pte, err);
    if (r == 0)
        r = record(programs, row, source, ret_is_new, err);
    if (r < 0)
        take_back(programs, row->id);
    if (r < 0 && source->pte)
        take_back(programs, pte);
    pthread_mutex_unlock(&programs->change);
    return r;
}

int programs_settle(struct programs *programs, const char *id, enum whole_wait wait,
                    bool *ret_is_damaged, struct pt2_err *err)
{
    struct pt2_err why = {0};

    *ret_is_damaged = false;
    if (whole_check(&programs->whole, id, wait, &why) == 0) {
        use(programs, id);
        return 0;
    }
    if (why.code == PT2_ERR_NOT_FOUND)
        return 0;
    *ret_is_damaged = why.code == PT2_ERR_PROGRAM_DAMAGED;
    return *ret_is_damaged ? 0 : pt2_err_set(err, why.code, "%s", why.text);
}

/* One that is there needs none. */
static int check_new_room(struct programs *programs, const struct program_row *row,
                          const struct program_source *source, struct pt2_err *err)
{
    uint64_t bytes = (uint64_t)row->bytes;
    bool found = false;
    struct stat st;

    if (programs_db_find(programs->store, row->id, &found, NULL, err) < 0)
        return -1;
    if (source->pte && fstat(source->pte->fd, &st) == 0)
        bytes += (uint64_t)st.st_size;
    return found ? 0 : retention_check_room(programs->retention, bytes, err);
}

int programs_add(struct programs *programs, struct temp_file *temp,
                 const uint8_t sha256[SHA256_BYTES], const struct program_source *source,
                 char ret_id[PROGRAM_ID_SIZE], bool *ret_is_new, struct pt2_err *err)
{
    struct program_row row = {.created_ms = clock_unix_ms(), .origin = source->origin};
    json_auto_t *facts = NULL;
    AUTO_PTR char *text = NULL;
    AUTO_PTR char *model = NULL;
    bool is_new = false, is_damaged;
    off_t bytes = lseek(temp->fd, 0, SEEK_END);

    if (bytes < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", temp->path);
    /* Our own worker wrote its sums a moment ago; others' may be damaged. */
    if (program_facts_read(temp->fd, source->origin == PROGRAM_UPLOAD, &facts, err) < 0)
        return -1;
    text = json_to_text(facts, JSON_COMPACT);
    model = source->model ? strdup(source->model) : NULL;
    if (!text || (source->model && !model))
        return pt2_err_set(err, PT2_ERR_NOMEM, "a program");
    sha256_to_hex(sha256, row.id);
    row.bytes = bytes;
    row.facts = text;
    row.model = model;
    if (temp_file_sync(temp, OBJECT_MODE, err) < 0 ||
        (source->pte && temp_file_sync(source->pte, OBJECT_MODE, err) < 0) ||
        programs_settle(programs, row.id,
                        source->origin == PROGRAM_UPLOAD ? WHOLE_BE_SHORT : WHOLE_WAIT,
                        &is_damaged, err) < 0 ||
        check_new_room(programs, &row, source, err) < 0)
        return -1;
    row.whole = is_damaged ? DAMAGED : WHOLE; /* of what is there */
    if (keep(programs, temp, &row, source, &is_new, err) < 0)
        return -1;
    temp_file_drop(temp);
    if (source->pte)
        temp_file_drop(source->pte);
    program_checks_wake(programs->checks);
    retention_wake(programs->retention, row.id);
    memcpy(ret_id, row.id, PROGRAM_ID_SIZE);
    if (ret_is_new)
        *ret_is_new = is_new;
    return 0;
}

static int delete_row_within(struct programs *programs, const char *id,
                             struct pt2_err *err)
{
    char alias[ALIAS_SIZE];
    bool found;

    if (aliases_db_of(programs->store, id, &found, alias, err) < 0)
        return -1;
    if (found)
        return pt2_err_set(err, PT2_ERR_IN_USE, "alias '%s' points to program '%s'",
                           alias, id);
    if (programs_db_delete(programs->store, id, &found, err) < 0)
        return -1;
    return found ? 0 : not_found(id, err);
}

static int delete_row(struct programs *programs, const char *id, struct pt2_err *err)
{
    if (store_begin(programs->store, err) < 0)
        return -1;
    if (delete_row_within(programs, id, err) < 0) {
        store_rollback(programs->store);
        return -1;
    }
    return store_commit(programs->store, err);
}

static int begin_delete(struct programs *programs, const char *id, struct pt2_err *err)
{
    struct pin *pin;
    int r = 0;

    pthread_mutex_lock(&programs->mutex);
    pin = make_pin_locked(programs, id);
    if (!pin)
        r = pt2_err_set(err, PT2_ERR_NOMEM, "a pin");
    else if (pin->n > 0)
        r = pt2_err_set(err, PT2_ERR_IN_USE, "program '%s' is used by %zu session%s", id,
                        pin->n, pin->n == 1 ? "" : "s");
    else
        pin->is_deleting = true;
    pthread_mutex_unlock(&programs->mutex);
    return r;
}

static void end_delete(struct programs *programs, const char *id)
{
    struct pin *pin;

    pthread_mutex_lock(&programs->mutex);
    pin = find_pin_locked(programs, id);
    pin->is_deleting = false;
    drop_pin_locked(programs, pin);
    pthread_mutex_unlock(&programs->mutex);
}

/* The row, and the objects that nothing else names then.  The holder of change. */
static int delete_all(struct programs *programs, const char *id, struct pt2_err *err)
{
    json_auto_t *ptes = NULL;
    json_t *pte;
    size_t i;
    int r;

    if (ptes_db_only_of(programs->store, id, &ptes, err) < 0 ||
        delete_row(programs, id, err) < 0)
        return -1;
    r = objects_remove(programs->objects, id, err);
    json_array_foreach (ptes, i, pte)
        if (objects_remove(programs->objects, json_string_value(pte), err) < 0)
            r = -1;
    return r;
}

int programs_delete(struct programs *programs, const char *id, struct pt2_err *err)
{
    uint8_t digest[SHA256_BYTES];
    int r;

    if (!sha256_from_hex(id, digest))
        return pt2_err_set(err, PT2_ERR_NOT_FOUND,
                           "'%.100s' is no program's full id (64 hex digits), which "
                           "deleting takes",
                           id);
    pthread_mutex_lock(&programs->change);
    r = begin_delete(programs, id, err);
    if (r == 0) {
        r = delete_all(programs, id, err);
        end_delete(programs, id);
    }
    pthread_mutex_unlock(&programs->change);
    return r;
}
