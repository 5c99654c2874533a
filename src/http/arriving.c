#include "http/arriving.h"

#include "http/exchange.h"

static __thread struct http_exchange *first;

void arriving_begin(struct http_exchange *x)
{
    x->arriving_thread = pthread_self();
    x->arriving_next = first;
    x->arriving_at = &first;
    if (first)
        first->arriving_at = &x->arriving_next;
    first = x;
}

void arriving_end(struct http_exchange *x)
{
    /* Of a thread that has ended the list is gone. */
    if (!x->arriving_at || !pthread_equal(x->arriving_thread, pthread_self()))
        return;
    *x->arriving_at = x->arriving_next;
    if (x->arriving_next)
        x->arriving_next->arriving_at = x->arriving_at;
    x->arriving_at = NULL;
}

struct http_exchange *arriving_whole(void)
{
    struct http_exchange *x = first;

    while (x && !MHD_get_connection_info(x->conn, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE))
        x = x->arriving_next;
    return x;
}

bool arriving_is_refusal(const char *line, unsigned *ret_status)
{
    return sscanf(line, "Error processing request (HTTP response code is %u",
                  ret_status) == 1;
}
