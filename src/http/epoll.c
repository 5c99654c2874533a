/* epoll.c - an epoll_wait of our own, in place of libc's, for libmicrohttpd.
 *
 * libmicrohttpd 0.9.75 asks for 128 events at most, and where there are 128 it waits once more
 * before it looks at any of them (MHD_epoll in daemon.c: while (MAX_EVENTS == num_events)).
 * Where no further event comes, since all who have asked wait for their answers, that thread
 * stands still for all its connections.  It never sees as many as it asked for here; what was
 * left over comes with the next call.  The linker lets the program's function take the place
 * of the library's. */
#include <stddef.h>
#include <sys/epoll.h>

__attribute__((visibility("default"))) int
epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
    return epoll_pwait(fd, events, max > 1 ? max - 1 : max, timeout, NULL);
}
