/* epoll.h - has the linker take epoll.c, which is in place of libc's. */
#ifndef HTTP_EPOLL_H
#define HTTP_EPOLL_H

/* Nothing.  Called once, since a function that a library has as well (libc's, a sanitizer's) is
 * no reason for the linker to take a file from libpt2d.a. */
void http_epoll_link(void);

#endif
