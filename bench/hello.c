/* hello.c - the least that libmicrohttpd can do, for bench/under_load.py to compare with.
 *
 * usage: hello
 *
 * Two threads with epoll, as pt2d has.  GET /N answers N bytes from memory, N at most
 * 64 MiB.  Prints its port, on loopback, and serves until its standard input ends. */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_BYTES (128 << 20)
#define N_CONNECTIONS 4096

static char *bytes;

static enum MHD_Result answer(void *cls, struct MHD_Connection *connection,
                              const char *url, const char *method, const char *version,
                              const char *upload, size_t *upload_size, void **ret_state)
{
    size_t n = strtoul(url + 1, NULL, 10);
    struct MHD_Response *response;
    enum MHD_Result result;

    (void)cls;
    (void)method;
    (void)version;
    (void)upload;
    (void)upload_size;
    if (!*ret_state) { /* the header alone is there */
        *ret_state = bytes;
        return MHD_YES;
    }
    response = MHD_create_response_from_buffer(n <= MAX_BYTES ? n : 0, bytes,
                                               MHD_RESPMEM_PERSISTENT);
    result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_Daemon *daemon;

    bytes = calloc(1, MAX_BYTES);
    if (!bytes)
        return 1;
    daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, NULL,
                              MHD_OPTION_THREAD_POOL_SIZE, 2u,
                              MHD_OPTION_CONNECTION_LIMIT, (unsigned)N_CONNECTIONS,
                              MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_END);
    if (!daemon)
        return 1;
    printf("%d\n", (int)MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    MHD_stop_daemon(daemon);
    free(bytes);
    return 0;
}
