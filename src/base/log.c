#include "base/log.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdatomic.h>

static _Atomic int max_level = LOG_LEVEL_INFO;
static _Atomic int format = LOG_PLAIN;
static _Thread_local const char *request;

static const struct {
    const char *name;
    int priority; /* syslog's, as systemd reads it */
} levels[] = {{"error", 3}, {"warning", 4}, {"info", 6}, {"debug", 7}};

void log_set_level(enum log_level level)
{
    atomic_store(&max_level, (int)level);
}

int log_level_from_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (streq(levels[i].name, name))
            return (int)i;
    return -1;
}

void log_set_format(enum log_format to)
{
    atomic_store(&format, (int)to);
}

void log_set_request(const char *id)
{
    request = id;
}

/* ---- a line: what does not fit is cut, its end is not ---- */

#define LINE_SIZE    4096
#define VALUE_MAX    1024 /* of the message or a field, before it is escaped */
#define RESERVE      8    /* for the end: a quote, a brace, the line end */
#define MESSAGE_SIZE 2048

struct line {
    char text[LINE_SIZE];
    size_t n;
};

static size_t room(const struct line *line)
{
    size_t end = sizeof(line->text) - RESERVE;

    return line->n < end ? end - line->n : 0;
}

static bool add(struct line *line, const char *text, size_t len)
{
    if (len > room(line))
        return false;
    memcpy(line->text + line->n, text, len);
    line->n += len;
    return true;
}

static void add_text(struct line *line, const char *text)
{
    (void)add(line, text, strlen(text));
}

static void add_plain(struct line *line, const char *text, size_t max)
{
    for (size_t i = 0; text[i] && i < max; i++)
        if (!add(line, (unsigned char)text[i] < ' ' ? " " : text + i, 1))
            return;
}

/* A JSON string. */
static void add_quoted(struct line *line, const char *text, size_t max)
{
    size_t len = strnlen(text, max);
    char code[8];

    add_text(line, "\"");
    for (size_t i = 0, n; i < len; i += n) {
        unsigned char c = (unsigned char)text[i];
        bool fits;

        n = utf8_char_len(text + i, len - i);
        snprintf(code, sizeof(code), "\\u%04x", n ? c : 0xfffdu);
        if (n == 0 || c < ' ' || c == 0x7f)
            fits = add(line, code, 6);
        else if (c == '"' || c == '\\')
            fits = add(line, c == '"' ? "\\\"" : "\\\\", 2);
        else
            fits = add(line, text + i, n);
        if (!fits)
            break;
        n = MAX(n, (size_t)1);
    }
    line->text[line->n++] = '"'; /* of the reserve, where nothing else fits */
}

/* ---- two formats ---- */

static bool is_word(const char *value)
{
    return value[strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                               "0123456789-_.:/+@=")] == '\0';
}

static void add_field(struct line *line, bool is_json, const char *name,
                      const char *value)
{
    if (!value || !*value || strlen(name) + 16 > room(line))
        return;
    add_text(line, is_json ? ",\"" : ", ");
    add_text(line, name);
    add_text(line, is_json ? "\":" : is_word(value) ? " " : " '");
    if (is_json) {
        add_quoted(line, value, VALUE_MAX);
        return;
    }
    add_plain(line, value, VALUE_MAX);
    if (!is_word(value))
        add_text(line, "'");
}

static void begin(struct line *line, bool is_json, enum log_level level,
                  const char *message)
{
    char time[CLOCK_TEXT_SIZE], prefix[8];

    clock_to_text(clock_unix_ms(), time);
    snprintf(prefix, sizeof(prefix), "<%d>", levels[level].priority);
    if (is_json) {
        add_text(line, "{\"time\":\"");
        add_text(line, time);
        add_text(line, "\",\"level\":\"");
        add_text(line, levels[level].name);
        add_text(line, "\",\"message\":");
        add_quoted(line, message, MESSAGE_SIZE);
    } else if (getenv("JOURNAL_STREAM")) {
        add_text(line, prefix);
        add_plain(line, message, MESSAGE_SIZE);
    } else {
        add_text(line, time);
        add_text(line, " ");
        add_text(line, levels[level].name);
        add_text(line, ": ");
        add_plain(line, message, MESSAGE_SIZE);
    }
}

void log_with(enum log_level level, const struct log_field *fields, const char *fmt, ...)
{
    bool is_json = atomic_load(&format) == LOG_JSON, has_request = false;
    struct line line = {.n = 0};
    char message[MESSAGE_SIZE];
    va_list ap;

    if ((int)level > atomic_load(&max_level))
        return;
    va_start(ap, fmt);
    if (vsnprintf(message, sizeof(message), fmt, ap) < 0)
        message[0] = '\0';
    va_end(ap);
    begin(&line, is_json, level, message);
    for (; fields && fields->name; fields++) {
        add_field(&line, is_json, fields->name, fields->value);
        has_request |= streq(fields->name, "request");
    }
    if (!has_request)
        add_field(&line, is_json, "request", request);
    if (is_json)
        line.text[line.n++] = '}';
    line.text[line.n++] = '\n';
    if (write(STDERR_FILENO, line.text, line.n) < 0)
        return; /* nowhere left to say it */
}

void assert_failed(const char *cond, const char *file, int line, const char *func)
{
    log_error("assertion failed: %s at %s:%d in %s, pt2d %s", cond, file, line, func,
              PACKAGE_VERSION);
    abort();
}
