#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <time.h>

static _Atomic int max_level = LOG_LEVEL_INFO;

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

void log_line(enum log_level level, const char *fmt, ...)
{
    char line[2048];
    size_t n;
    va_list ap;
    int text;

    if ((int)level > atomic_load(&max_level))
        return;
    if (getenv("JOURNAL_STREAM")) {
        n = (size_t)snprintf(line, sizeof(line), "<%d>", levels[level].priority);
    } else {
        struct timespec ts;
        struct tm tm;

        clock_gettime(CLOCK_REALTIME, &ts);
        gmtime_r(&ts.tv_sec, &tm);
        n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
        n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03ldZ %s: ",
                              ts.tv_nsec / 1000000, levels[level].name);
    }
    va_start(ap, fmt);
    text = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
    va_end(ap);
    if (text < 0)
        return;
    n = MIN(n + (size_t)text, sizeof(line) - 2);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < ' ')
            line[i] = ' ';
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nowhere left to say it */
}

void assert_failed(const char *cond, const char *file, int line, const char *func)
{
    log_error("assertion failed: %s at %s:%d in %s, pt2d %s", cond, file, line, func,
              PACKAGE_VERSION);
    abort();
}
