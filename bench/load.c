/* load.c - steps of many sessions at once, over HTTP.
 *
 * usage: load [-a binary|none|top|json] [-t TOKENS] [-p START] [-c COUNT]
 *             [-w WARM_UP_SECONDS] [-s SECONDS] [-r RATE] PORT SESSION...
 *
 * One connection for each session, kept alive; each sends its next step when the last one's
 * answer is there in full.  A step takes TOKENS (1) from START (0) on, the next one those
 * after, and so on for COUNT (256) positions, then from START again: the session must hold START
 * positions.  -a says what is asked for: the last row's logits as bytes (binary, the
 * default), in JSON (json), the best token's id in JSON (top), nothing (none).
 *
 * With -r steps are due RATE times a second, the sessions in turn, whether or not the daemon
 * keeps up: one that is due while its session's last answer is out is sent behind it, and its
 * latency counts from when it was due.
 *
 * Counts the answers between WARM_UP_SECONDS (0.5) and SECONDS (3) more, or until there is
 * one for each session.  Prints tokens a second, and in milliseconds the latency, what the
 * daemon says of it in Server-Timing (queue, run), and the rest, which is HTTP's.
 *
 * One thread, which copies nothing twice: it shares the machine with what it measures. */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_SESSIONS 1024
#define MAX_SAMPLES (1 << 20)
#define BUFFER (1 << 16)  /* of one read; holds every header */
#define MAX_TOKENS 8192

enum wants { WANT_BINARY, WANT_NONE, WANT_TOP, WANT_JSON };

static const char *const want_names[] = {"binary", "none", "top", "json"};
static const char *const want_members[] = {"", ",\"logits\":false",
                                           ",\"logits\":false,\"top_k\":1", ""};

/* What is measured of one answer, in milliseconds. */
struct sample {
    double latency, queue, run, http;
};

struct connection {
    const char *session;
    int fd;
    long position; /* of its next step */
    double sent; /* with a rate: when it was due */
    double due;  /* of its next step; with a rate */
    bool is_out; /* its answer is waited for */
    struct sample sample; /* of the answer that comes */
    bool in_body;
    size_t header_len, body_left; /* header_len: bytes of an unfinished header */
    char header[BUFFER];
};

static struct {
    enum wants wants;
    long tokens, start, count;
    double warm_up, seconds, rate; /* rate 0: as fast as answers come */
    int port;
} options = {WANT_BINARY, 1, 0, 256, 0.5, 3, 0, 0};

static struct connection connections[MAX_SESSIONS];
static struct sample samples[MAX_SAMPLES];
static size_t n_samples, answer_bytes;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "load: %s: %s\n", what, why);
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- a request ---- */

static void open_connection(struct connection *c, int epoll)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)options.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        fail("connect", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        fail("epoll", strerror(errno));
}

/* The body of a step at `position`; its length. */
static int print_body(char *body, size_t size, long position)
{
    FILE *f = fmemopen(body, size, "w");
    int len;

    fprintf(f, "{\"input_ids\":[[");
    for (long i = 0; i < options.tokens; i++)
        fprintf(f, "%s%ld", i ? "," : "", 100 + (position + i) * 7 % 40000);
    fprintf(f, "]],\"cache_position\":[");
    for (long i = 0; i < options.tokens; i++)
        fprintf(f, "%s%ld", i ? "," : "", position + i);
    fprintf(f, "]%s}", want_members[options.wants]);
    len = (int)ftell(f);
    fclose(f);
    return len;
}

static void send_step(struct connection *c)
{
    static char body[MAX_TOKENS * 16], request[MAX_TOKENS * 16 + 1024];
    bool is_binary = options.wants == WANT_BINARY || options.wants == WANT_NONE;
    int len, body_len;

    if (c->position + options.tokens > options.start + options.count)
        c->position = options.start;
    body_len = print_body(body, sizeof(body), c->position);
    len = snprintf(request, sizeof(request),
                   "POST /v1/sessions/%s/step HTTP/1.1\r\nHost: localhost\r\n"
                   "Content-Type: application/json\r\nAccept: %s\r\n"
                   "Content-Length: %d\r\n\r\n%.*s",
                   c->session,
                   is_binary ? "application/octet-stream" : "application/json", body_len,
                   body_len, body);
    c->position += options.tokens;
    c->sent = options.rate > 0 ? c->due : now();
    c->is_out = true;
    for (int at = 0; at < len;) {
        ssize_t n = write(c->fd, request + at, (size_t)(len - at));

        if (n < 0)
            fail("write", strerror(errno));
        at += (int)n;
    }
}

/* ---- an answer ---- */

static double timing(const char *value, const char *name)
{
    const char *at = strstr(value, name);

    return at ? atof(at + strlen(name)) : 0;
}

/* The header is there, with a 0 behind it. */
static void read_header(struct connection *c)
{
    const char *line = strstr(c->header, "\r\n");

    if (strncmp(c->header, "HTTP/1.1 2", 10) != 0)
        fail("a step was refused", c->header);
    c->body_left = 0;
    for (; line && line[2]; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, "Content-Length:", 15) == 0)
            c->body_left = strtoul(line + 17, NULL, 10);
        else if (strncasecmp(line + 2, "Server-Timing:", 14) == 0)
            c->sample = (struct sample){.queue = timing(line, "queue;dur="),
                                        .run = timing(line, "run;dur=")};
    }
    answer_bytes = c->body_left;
    c->in_body = true;
}

/* Takes n bytes that came; true: the answer is there in full. */
static bool take(struct connection *c, const char *data, size_t n)
{
    if (!c->in_body) {
        size_t before = c->header_len, header_len;
        const char *end;

        if (before + n >= sizeof(c->header))
            fail("an answer", "its header is too long");
        memcpy(c->header + before, data, n);
        c->header[before + n] = 0;
        c->header_len += n;
        end = strstr(c->header, "\r\n\r\n");
        if (!end)
            return false;
        header_len = (size_t)(end - c->header) + 4;
        n -= header_len - before;
        c->header[header_len - 2] = 0;
        read_header(c);
    }
    if (n > c->body_left)
        fail("an answer", "it is longer than it says");
    c->body_left -= n;
    return c->body_left == 0;
}

/* True where the answer to a step is there; then c->sample is filled. */
static bool receive(struct connection *c)
{
    static char data[4 * BUFFER];
    /* a header is small; a body can be read in large pieces */
    ssize_t n = read(c->fd, data, c->in_body ? sizeof(data) : BUFFER - 1 - c->header_len);

    if (n <= 0)
        fail("read", n < 0 ? strerror(errno) : "the daemon closed the connection");
    if (!take(c, data, (size_t)n))
        return false;
    c->in_body = c->is_out = false;
    c->header_len = 0;
    c->sample.latency = (now() - c->sent) * 1e3;
    c->sample.http = c->sample.latency - c->sample.queue - c->sample.run;
    return true;
}

/* ---- the run ---- */

/* Sends what is due; milliseconds until the next is. */
static int send_due(int n_sessions)
{
    double t = now(), next = t + 600;

    for (int i = 0; i < n_sessions; i++) {
        struct connection *c = &connections[i];

        if (c->fd < 0 || c->is_out)
            continue;
        if (c->due <= t) {
            send_step(c);
            c->due += n_sessions / options.rate;
        } else if (c->due < next) {
            next = c->due;
        }
    }
    return (int)((next - t) * 1e3); /* rounded down: rather look once more than be late */
}

static void begin_steps(int n_sessions, int epoll)
{
    double begin;

    for (int i = 0; i < n_sessions; i++)
        open_connection(&connections[i], epoll);
    begin = now();
    for (int i = 0; i < n_sessions; i++) {
        if (options.rate > 0)
            connections[i].due = begin + i / options.rate;
        else
            send_step(&connections[i]);
    }
}

/* The daemon would, once it has been idle for long. */
static void end_connection(struct connection *c, int *n_open)
{
    close(c->fd);
    c->fd = -1;
    (*n_open)--;
}

/* Seconds over which samples were taken. */
static double run(int n_sessions)
{
    struct epoll_event events[64];
    int epoll = epoll_create1(0), n_open = n_sessions;
    double begin = now() + options.warm_up, end = 0;

    begin_steps(n_sessions, epoll);
    while (n_open > 0) {
        bool is_paced = options.rate > 0 && end == 0;
        int n = epoll_wait(epoll, events, 64, is_paced ? send_due(n_sessions) : 600000);

        if (n < 0 || (n == 0 && !is_paced))
            fail("no answer", n < 0 ? strerror(errno) : "in ten minutes");
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            double t;

            if (!receive(c))
                continue;
            t = now();
            if (t >= begin && end == 0 && n_samples < MAX_SAMPLES) {
                samples[n_samples++] = c->sample;
                if (t >= begin + options.seconds && n_samples >= (size_t)n_sessions)
                    end = t;
            }
            if (end != 0)
                end_connection(c, &n_open);
            else if (options.rate <= 0)
                send_step(c);
        }
        for (int i = 0; i < n_sessions && end != 0; i++) /* those that wait to be due */
            if (connections[i].fd >= 0 && !connections[i].is_out)
                end_connection(&connections[i], &n_open);
    }
    return end - begin;
}

static int less(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The samples' member at `offset`, its median and beyond. */
static void print_samples(const char *name, size_t offset)
{
    static double values[MAX_SAMPLES];

    for (size_t i = 0; i < n_samples; i++)
        values[i] = *(double *)((char *)&samples[i] + offset);
    qsort(values, n_samples, sizeof(*values), less);
    printf(", \"%s\": {\"min\": %.4f, \"p50\": %.4f, \"p90\": %.4f, \"p99\": %.4f, "
           "\"p99.9\": %.4f, \"max\": %.4f}",
           name, values[0], values[n_samples / 2], values[n_samples * 9 / 10],
           values[n_samples * 99 / 100], values[n_samples * 999 / 1000],
           values[n_samples - 1]);
}

static void read_options(int argc, char **argv)
{
    for (int c; (c = getopt(argc, argv, "a:t:p:c:w:s:r:")) != -1;) {
        if (c == 'a') {
            options.wants = 0;
            while (options.wants <= WANT_JSON && strcmp(optarg, want_names[options.wants]))
                options.wants++;
        } else if (c == 't')
            options.tokens = atol(optarg);
        else if (c == 'p')
            options.start = atol(optarg);
        else if (c == 'c')
            options.count = atol(optarg);
        else if (c == 'w')
            options.warm_up = atof(optarg);
        else if (c == 's')
            options.seconds = atof(optarg);
        else if (c == 'r')
            options.rate = atof(optarg);
        else
            exit(2);
    }
    if (optind + 2 > argc || argc - optind - 1 > MAX_SESSIONS || options.wants > WANT_JSON ||
        options.tokens < 1 || options.tokens > MAX_TOKENS || options.count < options.tokens)
        fail("usage", "load [OPTION]... PORT SESSION...");
    options.port = atoi(argv[optind]);
}

int main(int argc, char **argv)
{
    int n_sessions;
    double seconds;

    read_options(argc, argv);
    n_sessions = argc - optind - 1;
    for (int i = 0; i < n_sessions; i++) {
        connections[i].session = argv[optind + 1 + i];
        connections[i].position = options.start;
    }
    seconds = run(n_sessions);
    printf("{\"sessions\": %d, \"seconds\": %.3f, \"steps\": %zu, \"tokens_per_second\": %.3f, "
           "\"answer_bytes\": %zu",
           n_sessions, seconds, n_samples,
           (double)n_samples * (double)options.tokens / seconds, answer_bytes);
    print_samples("latency_ms", offsetof(struct sample, latency));
    print_samples("queue_ms", offsetof(struct sample, queue));
    print_samples("run_ms", offsetof(struct sample, run));
    print_samples("http_ms", offsetof(struct sample, http));
    printf("}\n");
    return 0;
}
