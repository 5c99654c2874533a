/* The rates and shares of clients: src/http/bucket.c, src/http/clients.c. */
#include "http/bucket.h"
#include "http/clients.h"
#include "suite.h"

#include <arpa/inet.h>
#include <netinet/in.h>

/* ---- bucket ---- */

START_TEST(test_bucket_keeps_its_rate)
{
    struct bucket b = {0};
    int64_t now = 1000, passed = 0;

    while (now < 11000) { /* ten seconds, in pieces of any size */
        int64_t wait = bucket_wait_ms(&b, 1000, now);

        now += wait;
        bucket_take(&b, 1000, 700, now);
        passed += 700;
    }
    /* A second's worth at once, and one piece that is owed. */
    ck_assert_int_le(passed, now - 1000 + 1000 + 700);
    ck_assert_int_ge(passed, 10000); /* and not less than the rate gives */
}
END_TEST

START_TEST(test_bucket_holds_no_more_than_a_second)
{
    struct bucket b = {0};

    ck_assert(bucket_is_full(&b, 1000, 5));
    bucket_take(&b, 1000, 1500, 5);
    ck_assert_int_ge(bucket_wait_ms(&b, 1000, 5), 500);
    ck_assert_int_le(bucket_wait_ms(&b, 1000, 5), 501);
    ck_assert_int_eq(bucket_wait_ms(&b, 1000, 506), 0);
    ck_assert(!bucket_is_full(&b, 1000, 506));
    bucket_take(&b, 1000, 1000, 1000000);
    ck_assert_int_eq(bucket_wait_ms(&b, 1000, 1000000), 0);
    bucket_take(&b, 1000, 1, 1000000); /* however long it was left alone */
    ck_assert_int_gt(bucket_wait_ms(&b, 1000, 1000000), 0);
}
END_TEST

START_TEST(test_bucket_survives_odd_times_and_sizes)
{
    struct bucket b = {0};

    bucket_take(&b, 1, UINT64_MAX, 1000);
    ck_assert_int_gt(bucket_wait_ms(&b, 1, 1000), 1000000);
    ck_assert_int_gt(bucket_wait_ms(&b, 1, 10), 1000000); /* back in time */
}
END_TEST

/* ---- clients ---- */

static struct clients *make(size_t max, bool limit_local, uint64_t upload)
{
    const struct clients_options options = {
        .max_connections = max, .limit_local = limit_local, .rates = {upload, 0}};
    struct clients *clients;

    ck_assert_int_eq(clients_new(&options, &clients, NULL), 0);
    return clients;
}

static struct client *from(struct clients *clients, const char *text, bool *ret_is_full)
{
    struct sockaddr_storage addr = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&addr;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&addr;

    addr.ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
    ck_assert_int_eq(inet_pton(addr.ss_family, text,
                               addr.ss_family == AF_INET ? (void *)&v4->sin_addr
                                                         : (void *)&v6->sin6_addr),
                     1);
    return client_connect(clients, (struct sockaddr *)&addr, -1, ret_is_full);
}

START_TEST(test_clients_are_addresses)
{
    static const struct {
        const char *address, *name;
        bool is_limited;
    } cases[] = {
        {"203.0.113.9", "203.0.113.9", true},
        {"127.0.0.1", "127.0.0.1", false},
        {"::1", "[::]/64", false},
        {"2001:db8:1:2:3:4:5:6", "[2001:db8:1:2::]/64", true},
        {"::ffff:203.0.113.9", "203.0.113.9", true},
        {"::ffff:127.0.0.9", "127.0.0.9", false},
    };
    struct clients *clients = make(0, false, 0);
    bool is_full;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct client *client = from(clients, cases[i].address, &is_full);

        ck_assert_str_eq(client_name(client), cases[i].name);
        ck_assert(client_is_limited(client) == cases[i].is_limited);
        client_disconnect(client);
    }
    ck_assert_uint_eq(clients_count(clients), 0);
    clients_free(clients);
}
END_TEST

START_TEST(test_clients_have_their_share_of_connections)
{
    struct clients *clients = make(2, false, 0);
    struct client *a, *b, *c, *other;
    bool is_full;

    a = from(clients, "2001:db8::1", &is_full);
    b = from(clients, "2001:db8::2", &is_full);
    ck_assert(a == b && !is_full);
    ck_assert_ptr_null(from(clients, "2001:db8::3", &is_full));
    ck_assert(is_full);
    other = from(clients, "2001:db8:0:1::3", &is_full);
    ck_assert_ptr_nonnull(other);
    client_disconnect(a);
    c = from(clients, "2001:db8::3", &is_full);
    ck_assert_ptr_nonnull(c);
    client_disconnect(b);
    client_disconnect(c);
    client_disconnect(other);
    for (int i = 0; i < 5; i++)
        ck_assert_ptr_nonnull(from(clients, "127.0.0.1", &is_full));
    clients_free(clients);
}
END_TEST

START_TEST(test_clients_who_owe_are_remembered)
{
    struct clients *clients = make(0, false, 1000);
    struct client *client;
    bool is_full;

    client = from(clients, "203.0.113.9", &is_full);
    client_pass(client, CLIENT_UPLOAD, 0, 100000);
    client_disconnect(client);
    ck_assert_uint_eq(clients_count(clients), 1);
    client = from(clients, "203.0.113.9", &is_full);
    ck_assert_int_gt(client_wait_ms(client, CLIENT_UPLOAD, 0), 50000);
    ck_assert_int_eq(client_wait_ms(client, CLIENT_DOWNLOAD, 0), 0);
    ck_assert(client_is_paced(client, CLIENT_UPLOAD, 0));
    ck_assert(!client_is_paced(client, CLIENT_DOWNLOAD, 0));
    ck_assert(client_is_paced(client, CLIENT_DOWNLOAD, 5));
    client_disconnect(client);

    client = client_of_name(clients, "203.0.113.9"); /* a name is no address */
    ck_assert_str_eq(client_name(client), "name:203.0.113.9");
    ck_assert_int_eq(client_wait_ms(client, CLIENT_UPLOAD, 0), 0);
    client_unref(client_ref(client));
    client_unref(client);
    client_unref(NULL);
    ck_assert_uint_eq(clients_count(clients), 1);
    clients_free(clients);
}
END_TEST

START_TEST(test_clients_hold_half_of_what_there_is)
{
    const struct clients_options options = {
        .max = {[HOLD_BODIES] = 9, [HOLD_ANSWERS] = 9, [HOLD_UPLOADS] = 1}};
    struct clients *clients;
    struct client *a, *b, *local;
    bool is_full;

    ck_assert_int_eq(clients_new(&options, &clients, NULL), 0);
    a = from(clients, "203.0.113.9", &is_full);
    b = from(clients, "203.0.113.10", &is_full);
    local = from(clients, "127.0.0.1", &is_full);
    ck_assert_uint_eq(client_share(a, HOLD_BODIES), 5);
    ck_assert_int_eq(client_hold(a, HOLD_BODIES, 6), HELD_SHARE);
    ck_assert_int_eq(client_hold(a, HOLD_BODIES, 4), HELD);
    ck_assert_int_eq(client_hold(a, HOLD_BODIES, 2), HELD_SHARE);
    ck_assert_int_eq(client_hold(a, HOLD_BODIES, UINT64_MAX), HELD_ALL);
    ck_assert_int_eq(client_hold(a, HOLD_BODIES, 1), HELD);
    ck_assert_int_eq(client_hold(b, HOLD_BODIES, 5), HELD_ALL);
    ck_assert_int_eq(client_hold(b, HOLD_BODIES, 4), HELD);
    client_let_go(a, HOLD_BODIES, 5);
    client_let_go(b, HOLD_BODIES, 4);
    ck_assert_uint_eq(client_share(local, HOLD_BODIES), 9);
    ck_assert_int_eq(client_hold(local, HOLD_BODIES, 9), HELD);
    client_let_go(local, HOLD_BODIES, 9);
    /* One answer may be of any size, but no second one beside it. */
    ck_assert_int_eq(client_hold(a, HOLD_ANSWERS, 10), HELD_ALL);
    ck_assert_int_eq(client_hold(a, HOLD_ANSWERS, 7), HELD);
    ck_assert_int_eq(client_hold(a, HOLD_ANSWERS, 1), HELD_SHARE);
    ck_assert_int_eq(client_hold(b, HOLD_ANSWERS, 2), HELD);
    client_let_go(a, HOLD_ANSWERS, 7);
    client_let_go(b, HOLD_ANSWERS, 2);
    /* One is enough for one; what has no bound is anybody's. */
    ck_assert_int_eq(client_hold(a, HOLD_UPLOADS, 1), HELD);
    ck_assert_int_eq(client_hold(b, HOLD_UPLOADS, 1), HELD_ALL);
    client_let_go(a, HOLD_UPLOADS, 1);
    ck_assert_int_eq(client_hold(a, HOLD_FOLLOWERS, UINT64_MAX), HELD);
    client_let_go(a, HOLD_FOLLOWERS, UINT64_MAX);
    client_disconnect(a);
    client_disconnect(b);
    client_disconnect(local);
    clients_free(clients);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clients");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits");

    tcase_add_test(core, test_bucket_keeps_its_rate);
    tcase_add_test(core, test_clients_are_addresses);
    tcase_add_test(limits, test_bucket_holds_no_more_than_a_second);
    tcase_add_test(limits, test_bucket_survives_odd_times_and_sizes);
    tcase_add_test(limits, test_clients_have_their_share_of_connections);
    tcase_add_test(limits, test_clients_hold_half_of_what_there_is);
    tcase_add_test(limits, test_clients_who_owe_are_remembered);
    suite_add_tcase(suite, core);
    suite_add_tcase(suite, limits);
    return suite_run(suite);
}
