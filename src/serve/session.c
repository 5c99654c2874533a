#include "base/log.h"
#include "serve/impl.h"

#include <inttypes.h>
#include <sys/random.h>

/* ---- making ---- */

/* 128 random bits in 26 characters, after the node's name. */
static int make_id(const char *node, char ret_id[SERVE_ID_SIZE], struct pt2_err *err)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint8_t random[16];
    char text[27] = "";
    unsigned bits = 0, n_bits = 0;
    size_t n = 0;

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "getrandom");
    for (size_t i = 0; i < sizeof(random); i++) {
        bits = bits << 8 | random[i];
        for (n_bits += 8; n_bits >= 5; n_bits -= 5)
            text[n++] = digits[bits >> (n_bits - 5) & 31];
    }
    text[n++] = digits[bits << (5 - n_bits) & 31];
    ASSERT(n == sizeof(text) - 1);
    snprintf(ret_id, SERVE_ID_SIZE, "ses_%s-%s", node, text);
    return 0;
}

int session_new(const char *node, const char *owner, const json_t *labels,
                struct session **ret_session, struct pt2_err *err)
{
    AUTO(session) s = calloc(1, sizeof(*s));

    if (!s)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a session");
    s->last = &s->first;
    s->labels = labels ? json_deep_copy(labels) : json_object();
    if (!s->labels)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a session's labels");
    if (make_id(node, s->id, err) < 0)
        return -1;
    snprintf(s->owner, sizeof(s->owner), "%s", owner ? owner : "");
    s->created_ms = clock_unix_ms();
    s->used_ns = clock_mono_ns();
    *ret_session = TAKE(s);
    return 0;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    ASSERT(!s->cache && !s->first && !s->running);
    json_decref(s->labels);
    free(s);
}

/* ---- the table ---- */

static size_t bucket_of(const char *id)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a; ids are ours and random */

    for (; *id; id++)
        hash = (hash ^ (uint8_t)*id) * 1099511628211u;
    return hash % SERVE_BUCKETS;
}

void session_insert_locked(struct serve *serve, struct session *s)
{
    struct session **bucket = &serve->table[bucket_of(s->id)];

    s->number = ++serve->last_number;
    s->used_ns = clock_mono_ns();
    s->next_hash = *bucket;
    *bucket = s;
    s->older = serve->newest;
    if (s->older)
        s->older->newer = s;
    else
        serve->oldest = s;
    serve->newest = s;
    pthread_cond_signal(&serve->keeper_wake);
}

struct session *session_find_locked(struct serve *serve, const char *id, const char *who)
{
    struct session *s = serve->table[bucket_of(id)];

    while (s && !streq(s->id, id))
        s = s->next_hash;
    if (s && !owner_is_seen_by(s->owner, who))
        return NULL;
    if (s && session_is_idle_locked(s) && session_expires_ns_locked(s) <= clock_mono_ns())
        return NULL; /* the keeper is about to take it */
    return s;
}

void session_doom_locked(struct serve *serve, struct session *s)
{
    struct session **link = &serve->table[bucket_of(s->id)];

    ASSERT(!s->is_doomed);
    while (*link != s)
        link = &(*link)->next_hash;
    *link = s->next_hash;
    *(s->newer ? &s->newer->older : &serve->newest) = s->older;
    *(s->older ? &s->older->newer : &serve->oldest) = s->newer;
    s->is_doomed = true;
    spill_stays_locked(s);
    runner_returned_locked(s);
    serve->n_sessions--;
    holders_remove_locked(serve, s->holder);
    budget_give_back_locked(s);
    if (--s->runner->n_sessions == 0)
        s->runner->idle_since_ns = clock_mono_ns();
    if (s->running || s->is_ready)
        return; /* the runner finds it when the call is through */
    s->next_drop = s->runner->drops;
    s->runner->drops = s;
    pthread_cond_signal(&s->runner->wake);
}

bool session_is_idle_locked(const struct session *s)
{
    return !s->first && !s->running;
}

int64_t session_expires_ns_locked(const struct session *s)
{
    return s->used_ns + s->ttl_s * 1000000000;
}

int session_info_locked(const struct session *s, struct serve_info *ret_info,
                        struct pt2_err *err)
{
    int64_t left_ns = session_expires_ns_locked(s) - clock_mono_ns();
    json_t *labels = json_deep_copy(s->labels);

    if (!labels)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to describe a session");
    if (!session_is_idle_locked(s))
        left_ns = s->ttl_s * 1000000000; /* it counts from the end of its work */
    *ret_info = (struct serve_info){
        .facts = s->facts,
        .engine = s->engine,
        .position = s->position,
        .rewind_floor = s->rewind_floor,
        .created_ms = s->created_ms,
        .expires_ms = clock_unix_ms() + left_ns / 1000000,
        .ttl_s = s->ttl_s,
        .is_resident = !s->is_away,
        .labels = labels,
        .number = s->number,
    };
    memcpy(ret_info->id, s->id, sizeof(ret_info->id));
    return 0;
}

void serve_info_done(struct serve_info *info)
{
    json_decref(info->labels);
    info->labels = NULL;
}

/* ---- its queue ---- */

void session_push_locked(struct session *s, struct serve_call *call)
{
    call->session = s;
    call->next = NULL;
    *s->last = call;
    s->last = &call->next;
    s->n_waiting++;
}

struct serve_call *session_pop_locked(struct session *s)
{
    struct serve_call *call = s->first;

    if (!call)
        return NULL;
    s->first = call->next;
    if (!s->first)
        s->last = &s->first;
    s->n_waiting--;
    return call;
}

bool session_remove_locked(struct session *s, struct serve_call *call)
{
    for (struct serve_call **link = &s->first; *link; link = &(*link)->next) {
        if (*link != call)
            continue;
        *link = call->next;
        if (!*link)
            s->last = link;
        s->n_waiting--;
        return true;
    }
    return false;
}

/* ---- the rules of positions ---- */

int session_check_step(const struct session *s, int64_t start, int64_t n,
                       struct pt2_err *err)
{
    if (start > s->position)
        return pt2_err_set(err, PT2_ERR_POSITION_GAP,
                           "the step starts at position %" PRId64
                           ", but the session is at %" PRId64
                           ": positions between were never written",
                           start, s->position);
    if (session_check_rewind(s, start, err) < 0)
        return -1;
    if (n > s->facts.max_cache_len - start)
        return pt2_err_set(err, PT2_ERR_LIMIT,
                           "the session is at position %" PRId64 " of %" PRId64
                           ", so %" PRId64 " tokens from position %" PRId64
                           " on do not fit",
                           s->position, s->facts.max_cache_len, n, start);
    return 0;
}

int session_check_rewind(const struct session *s, int64_t position, struct pt2_err *err)
{
    if (position > s->position)
        return pt2_err_set(err, PT2_ERR_POSITION_GAP,
                           "position %" PRId64 " is beyond the session's, %" PRId64,
                           position, s->position);
    if (position < s->rewind_floor)
        return pt2_err_set(err, PT2_ERR_CANNOT_REWIND,
                           "position %" PRId64 " is below %" PRId64
                           ", the lowest that this session can go back to",
                           position, s->rewind_floor);
    return 0;
}

int session_check_match(const struct session *s, const struct serve_call *call,
                        struct pt2_err *err)
{
    for (size_t i = 0; i < call->n_if_match; i++)
        if (call->if_match[i] == s->position)
            return 0;
    if (call->n_if_match == 0)
        return 0;
    if (call->if_match[0] < 0)
        return pt2_err_set(err, PT2_ERR_PRECONDITION,
                           "the session is at position %" PRId64
                           ", If-Match has tags that no session has",
                           s->position);
    return pt2_err_set(err, PT2_ERR_PRECONDITION,
                       "the session is at position %" PRId64 ", If-Match says %" PRId64,
                       s->position, call->if_match[0]);
}
