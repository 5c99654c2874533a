/* check_rank.c - top_k against a sort of the whole row, ties and odd numbers included. */
#include "suite.h"

#include "base/util.h"
#include "serve/rank.h"

#include <math.h>

START_TEST(test_rank_ties_go_to_the_lower_id)
{
    const float logits[] = {1, 3, -2, 3, 1, 3};
    int64_t ids[6];
    double logprobs[6];

    rank_top(logits, 6, 6, ids, logprobs);
    for (size_t i = 0; i < 6; i++)
        ck_assert_int_eq(ids[i], ((int64_t[]){1, 3, 5, 0, 4, 2})[i]);
    rank_top(logits, 6, 2, ids, logprobs);
    ck_assert_int_eq(ids[0], 1);
    ck_assert_int_eq(ids[1], 3);
    /* python3: math.log(math.exp(3) / (2*math.exp(1) + 3*math.exp(3) + math.exp(-2))) */
    ck_assert_double_eq_tol(logprobs[0], -1.1870530227565361, 1e-12);
    rank_top(logits, 6, 0, ids, logprobs);
}
END_TEST

START_TEST(test_rank_equals_a_sort)
{
    enum { N = 997 };
    float logits[N];
    int64_t all[N], ids[N];
    double all_logprobs[N], logprobs[N];

    srand(7);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++)
            logits[i] = (float)(rand() % 300) - 150;
        rank_top(logits, N, N, all, all_logprobs);
        for (int i = 1; i < N; i++)
            ck_assert(logits[all[i - 1]] > logits[all[i]] ||
                      (logits[all[i - 1]] == logits[all[i]] && all[i - 1] < all[i]));
        for (size_t k = 1; k < N; k += 83) {
            rank_top(logits, N, k, ids, logprobs);
            ck_assert_mem_eq(ids, all, k * sizeof(ids[0]));
            ck_assert_mem_eq(logprobs, all_logprobs, k * sizeof(logprobs[0]));
        }
    }
}
END_TEST

START_TEST(test_rank_odd_numbers)
{
    const float with_nan[] = {NAN, 1, -INFINITY, NAN, 2};
    const float large[] = {3e38f, -3e38f, 3e38f};
    const float infinite[] = {0, INFINITY};
    int64_t ids[5];
    double logprobs[5];

    rank_top(with_nan, 5, 5, ids, logprobs);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(ids[i], ((int64_t[]){4, 1, 2, 0, 3})[i]);
        ck_assert(isnan(logprobs[i]));
    }
    rank_top(large, 3, 3, ids, logprobs);
    ck_assert(isfinite(logprobs[0]) && logprobs[0] <= 0);
    rank_top(infinite, 2, 1, ids, logprobs);
    ck_assert_int_eq(ids[0], 1);
    ck_assert(isnan(logprobs[0])); /* as torch.log_softmax has it */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rank");
    TCase *core = tcase_create("core");

    tcase_add_test(core, test_rank_ties_go_to_the_lower_id);
    tcase_add_test(core, test_rank_equals_a_sort);
    tcase_add_test(core, test_rank_odd_numbers);
    suite_add_tcase(s, core);
    return suite_run(s);
}
