/* epoll.c - an epoll_wait of our own, in place of libc's, for libmicrohttpd.
 *
 * libmicrohttpd 0.9.75 asks for 128 events at most, and where there are 128 it waits once more
 * before it looks at any of them (MHD_epoll in daemon.c: while (MAX_EVENTS == num_events)).
 * Where no further event comes, since all who have asked wait for their answers, that thread
 * stands still for all its connections.  It never sees as many as it asked for here; what was
 * left over comes with the next call.  A program's function takes the place of a library's. */
#include "http/epoll.h"

#include <stddef.h>
#include <sys/epoll.h>

void http_epoll_link(void)
{
}

__attribute__((visibility("default"))) int
epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
    return epoll_pwait(fd, events, max > 1 ? max - 1 : max, timeout, NULL);
}
