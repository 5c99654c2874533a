/* body.c - taking a request's body: into memory, or to the route's receive(). */
#include "http/exchange.h"

#include "base/log.h"
#include "http/pool.h"
#include "http/server_parts.h"
#include "http/watcher.h"

#define SLICE   (256 << 10) /* what receive() gets at once */
#define RESERVE (64 << 10)  /* how a body takes from the budget, as it comes */

/* A file on its way through: one slice fills on the HTTP thread while receive() has the
 * other one on the pool of uploads, whose threads have a lower priority than those that
 * answer, and may all wait for the disk.  Where both are full the connection is suspended,
 * so a client sends as fast as the disk takes. */
struct upload {
    char *filling, *working; /* SLICE bytes each */
    size_t n_filling, n_working;
    /* guarded by x->lock */
    bool is_busy;   /* receive() has `working` */
    bool is_paused; /* the connection is suspended until it gives it back */
    bool is_cut;    /* `filling` holds the last that came */
    struct pt2_err err;
};

/* ---- memory ---- */

/* Room for n bytes.  What a client only says that it will send takes none. */
static int reserve(struct http_exchange *x, uint64_t n, struct pt2_err *err)
{
    while (x->held[HOLD_BODIES] < n) {
        uint64_t left = x->content_length - x->held[HOLD_BODIES]; /* or any number */

        if (share_take(x, HOLD_BODIES, MIN(RESERVE, left), err) < 0)
            return -1;
    }
    return 0;
}

static int begin_upload(struct http_exchange *x, struct pt2_err *err)
{
    if (share_take(x, HOLD_UPLOADS, 1, err) < 0)
        return -1;
    x->upload = calloc(1, sizeof(*x->upload));
    if (!x->upload)
        return pt2_err_set(err, PT2_ERR_NOMEM, "upload");
    x->upload->filling = malloc(SLICE);
    x->upload->working = malloc(SLICE);
    if (!x->upload->filling || !x->upload->working)
        return pt2_err_set(err, PT2_ERR_NOMEM, "upload");
    return 0;
}

static uint64_t max_body(const struct http_exchange *x)
{
    const struct route *route = x->req.route;
    uint64_t max = route->max_body ? route->max_body(&x->req)
                                   : x->server->limits.max_request_bytes;

    /* what is kept in memory must have room there, however long one waits */
    return route->body == HTTP_BODY_STREAM
               ? max
               : MIN(max, client_share(x->client, HOLD_BODIES));
}

static int too_large(const struct http_exchange *x, struct pt2_err *err)
{
    if (x->content_length == UINT64_MAX)
        return pt2_err_set(err, PT2_ERR_TOO_LARGE,
                           "the body may have at most %llu bytes, not more",
                           (unsigned long long)max_body(x));
    return pt2_err_set(
        err, PT2_ERR_TOO_LARGE, "the body may have at most %llu bytes, not %llu",
        (unsigned long long)max_body(x), (unsigned long long)x->content_length);
}

int body_begin(struct http_exchange *x, struct pt2_err *err)
{
    bool is_known = x->content_length != UINT64_MAX;

    if (is_known && x->content_length > max_body(x))
        return too_large(x, err);
    if (x->req.route->body == HTTP_BODY_STREAM)
        return begin_upload(x, err);
    buf_init(&x->body, max_body(x));
    return reserve(x, MIN(x->content_length, 1), err);
}

void body_done(struct http_exchange *x)
{
    buf_done(&x->body);
    if (x->upload) {
        free(x->upload->filling);
        free(x->upload->working);
        free(x->upload);
    }
}

/* ---- to receive() ---- */

static int receive(struct http_exchange *x, const void *data, size_t len,
                   struct pt2_err *err)
{
    int r;

    log_set_request(x->req.id);
    r = x->req.route->receive(&x->req, data, len, err);
    log_set_request(NULL);
    return r;
}

/* What came last, unless something before it was not taken. */
static void take_last(struct http_exchange *x)
{
    struct upload *u = x->upload;

    if (u->err.code == PT2_ERR_NONE && u->n_filling > 0)
        (void)!receive(x, u->filling, u->n_filling, NULL);
    x->req.route->cut(&x->req);
}

static void receive_last(void *arg, bool is_stopping)
{
    (void)is_stopping;
    take_last(arg);
    exchange_unref(arg);
}

static void receive_slice(void *arg, bool is_stopping)
{
    struct http_exchange *x = arg;
    struct upload *u = x->upload;
    struct pt2_err err = {0};
    bool is_cut;

    if (is_stopping)
        pt2_err_set(&err, PT2_ERR_DRAINING, "the daemon is stopping");
    else if (receive(x, u->working, u->n_working, &err) < 0 &&
             err.code == PT2_ERR_NONE)
        pt2_err_set(&err, PT2_ERR_INTERNAL, "upload");
    pthread_mutex_lock(&x->lock);
    u->is_busy = false;
    u->err = err;
    if (u->is_paused) {
        u->is_paused = false;
        MHD_resume_connection(x->conn);
    }
    is_cut = u->is_cut;
    pthread_mutex_unlock(&x->lock);
    if (is_cut)
        take_last(x);
    exchange_unref(x);
}

void body_cut(struct http_exchange *x)
{
    struct upload *u = x->upload;
    bool is_busy;

    if (!u || x->is_handed || !x->req.context || !x->req.route->cut)
        return;
    pthread_mutex_lock(&x->lock);
    is_busy = u->is_busy;
    u->is_cut = true;
    pthread_mutex_unlock(&x->lock);
    if (is_busy) /* receive_slice sees to the rest */
        return;
    exchange_ref(x);
    if (pool_push(x->server->upload_pool, receive_last, x, /* must_fit= */ true, NULL) < 0)
        receive_last(x, /* is_stopping= */ true);
}

enum handed { HANDED, PAUSED, FAILED };

/* Give the filling slice to receive(); PAUSED: it still has the last one, and the
 * connection is suspended meanwhile.  With nothing to give: wait for the last one. */
static enum handed hand_slice(struct http_exchange *x, struct pt2_err *err)
{
    struct upload *u = x->upload;
    enum handed handed = HANDED;
    bool is_given = false;

    pthread_mutex_lock(&x->lock);
    if (u->is_busy) {
        u->is_paused = true;
        MHD_suspend_connection(x->conn);
        handed = PAUSED;
    } else if (u->err.code != PT2_ERR_NONE) {
        *err = u->err;
        handed = FAILED;
    } else if (u->n_filling > 0) {
        char *empty = u->working;

        u->working = u->filling;
        u->n_working = u->n_filling;
        u->filling = empty;
        u->n_filling = 0;
        u->is_busy = is_given = true;
    }
    pthread_mutex_unlock(&x->lock);
    if (!is_given)
        return handed;
    exchange_ref(x);
    if (pool_push(x->server->upload_pool, receive_slice, x, /* must_fit= */ true, err) == 0)
        return HANDED;
    exchange_unref(x);
    pthread_mutex_lock(&x->lock);
    u->is_busy = false;
    pthread_mutex_unlock(&x->lock);
    return FAILED;
}

/* *len becomes what did not fit. */
static enum handed stream_take(struct http_exchange *x, const char *data, size_t *len,
                               struct pt2_err *err)
{
    struct upload *u = x->upload;

    while (*len > 0) {
        size_t n = MIN(*len, SLICE - u->n_filling);

        memcpy(u->filling + u->n_filling, data, n);
        u->n_filling += n;
        data += n;
        *len -= n;
        /* Never suspend with nothing left: libmicrohttpd 0.9.75 would go on to the next
         * chunk of a chunked body in spite of it. */
        if (*len > 0) {
            enum handed handed = hand_slice(x, err);

            if (handed != HANDED)
                return handed;
        }
    }
    return HANDED;
}

/* ---- into memory ---- */

static int memory_take(struct http_exchange *x, const char *data, size_t len,
                       struct pt2_err *err)
{
    if (reserve(x, x->body.len + len, err) < 0)
        return -1;
    buf_add(&x->body, data, len);
    if (buf_failed(&x->body))
        return pt2_err_set(err, PT2_ERR_NOMEM, "request body");
    return 0;
}

/* ---- as it comes ---- */

/* The client gets body_timeout, and the time that its bytes take at the slowest rate;
 * the time that receive() made it wait does not count. */
static void expect_more(struct http_exchange *x)
{
    const struct http_limits *limits = &x->server->limits;
    uint64_t ms = x->body_seen / limits->min_body_rate * 1000;

    link_expect(x->link, LINK_BODY,
                x->body_began_ms + x->body_paused_ms + limits->body_timeout_ms +
                    (int64_t)MIN(ms, (uint64_t)INT32_MAX * 1000));
}

/* Before a pause and after it. */
static void pause_clock(struct http_exchange *x)
{
    link_expect_nothing(x->link);
    x->body_paused_ms -= http_now_ms();
    x->body_is_paused = true;
}

static void resume_clock(struct http_exchange *x)
{
    if (x->body_is_paused)
        x->body_paused_ms += http_now_ms();
    x->body_is_paused = false;
}

enum MHD_Result body_take(struct http_exchange *x, const char *data, size_t *len)
{
    struct pt2_err err = {0};
    size_t n = *len, left = 0;
    enum handed handed = HANDED;

    resume_clock(x);
    if (pace_pause_upload(x)) { /* *len is left as it is */
        pause_clock(x);
        return MHD_YES;
    }
    if (x->body_seen + n > max_body(x)) {
        too_large(x, &err);
        handed = FAILED;
    } else if (x->upload) {
        left = n;
        handed = stream_take(x, data, &left, &err);
    } else if (memory_take(x, data, n, &err) < 0) {
        handed = FAILED;
    }
    x->body_seen += n - left;
    pace_pass(x, /* is_upload= */ true, n - left);
    *len = left;
    if (handed == FAILED) {
        *len = 0;
        x->body_seen += left;
        return refuse(x, &err);
    }
    if (handed == PAUSED)
        pause_clock(x);
    else
        expect_more(x);
    return MHD_YES;
}

/* ---- complete ---- */

/* What the text becomes may be a hundred times as large. */
static int reserve_tree(struct http_exchange *x, const char *text, struct pt2_err *err)
{
    uint64_t bytes = json_tree_bytes(text, x->body.len);
    uint64_t max = client_share(x->client, HOLD_BODIES), has = x->held[HOLD_BODIES];

    if (has > max || bytes > max - has)
        return pt2_err_set(err, PT2_ERR_TOO_LARGE,
                           "the body's text and values take %llu bytes of memory, and the "
                           "bodies of '%s' may have %llu",
                           (unsigned long long)(has + bytes), client_name(x->client),
                           (unsigned long long)max);
    return share_take(x, HOLD_BODIES, bytes, err);
}

static int parse_json(struct http_exchange *x, struct pt2_err *err)
{
    const char *text = x->body.data ? x->body.data : "";

    if (!x->has_body) {
        x->req.json = json_object();
        return x->req.json ? 0 : pt2_err_set(err, PT2_ERR_NOMEM, "request body");
    }
    if (reserve_tree(x, text, err) < 0 ||
        json_parse(text, x->body.len, &x->req.json, err) < 0)
        return -1;
    if (!json_is_object(x->req.json))
        return pt2_err_set(err, PT2_ERR_INVALID, "the body must be one JSON object");
    return 0;
}

/* The last bytes have to get through to receive() first. */
static enum handed finish_upload(struct http_exchange *x, struct pt2_err *err)
{
    enum handed handed = hand_slice(x, err);

    while (handed == HANDED) {
        bool is_through;

        pthread_mutex_lock(&x->lock);
        is_through = !x->upload->is_busy && x->upload->err.code == PT2_ERR_NONE &&
                     x->upload->n_filling == 0;
        pthread_mutex_unlock(&x->lock);
        if (is_through)
            break;
        handed = hand_slice(x, err);
    }
    return handed;
}

enum MHD_Result body_end(struct http_exchange *x)
{
    struct pt2_err err = {0};
    enum handed handed = HANDED;

    link_expect_nothing(x->link);
    resume_clock(x);
    if (x->upload) {
        handed = finish_upload(x, &err);
    } else if (x->req.route->body == HTTP_BODY_JSON && parse_json(x, &err) < 0) {
        handed = FAILED;
    }
    if (handed == PAUSED)
        return MHD_YES;
    if (handed == FAILED) {
        http_reply_err(&x->req, &err);
        x->phase = PHASE_SERVED;
        return exchange_answer(x);
    }
    x->req.body = x->body.data ? x->body.data : "";
    x->req.body_len = x->body.len;
    return exchange_serve(x);
}
