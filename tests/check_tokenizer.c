#include "suite.h"

#include "base/json.h"
#include "base/util.h"
#include "cases.h"
#include "cmd/pretokenizer.h"
#include "cmd/tokenizer.h"

#define OK(call) ck_assert_msg((call) == 0, "%s", err.text)

static struct pt2_err err;

/* Tokenizers with the pre_tokenizers of families of models, and the ids that Hugging
 * Face's tokenizers gave: tests/data/tokenizer/make.py says which version. */
static const char *const names[] = {"smollm2", "llama3", "qwen2", "gpt2_prefix", "demo"};

static void setup(void)
{
    err = (struct pt2_err){0};
}

static char *slurp(const char *path, size_t *ret_len)
{
    FILE *f = fopen(path, "rb");
    char *data;
    long len;

    ck_assert_msg(f && fseek(f, 0, SEEK_END) == 0 && (len = ftell(f)) >= 0, "%s", path);
    rewind(f);
    data = malloc((size_t)len + 1);
    *ret_len = fread(data, 1, (size_t)len, f);
    ck_assert_uint_eq(*ret_len, (size_t)len);
    data[len] = '\0';
    fclose(f);
    return data;
}

static struct tokenizer *load(const char *name)
{
    struct tokenizer *t = NULL;
    AUTO_PTR char *text = NULL;
    char path[500];
    size_t len;

    if (streq(name, "demo"))
        snprintf(path, sizeof(path), "%s/../../share/models/demo/tokenizer.json",
                 test_data());
    else
        snprintf(path, sizeof(path), "%s/tokenizer/%s.json", test_data(), name);
    text = slurp(path, &len);
    OK(tokenizer_new(text, len, &t, &err));
    return t;
}

static void ck_ids(const char *name, const char *text, const json_t *want,
                   const int64_t *ids, size_t n)
{
    for (size_t i = 0; i < n || i < json_array_size(want); i++) {
        json_int_t id = json_integer_value(json_array_get(want, i));

        ck_assert_msg(i < n && i < json_array_size(want) && ids[i] == id,
                      "%s, '%s': id %zu is %lld of %zu, not %lld of %zu", name, text, i,
                      i < n ? (long long)ids[i] : -1, n, (long long)id,
                      json_array_size(want));
    }
}

START_TEST(test_tokenizer_ids_are_those_of_hugging_face)
{
    AUTO(tokenizer) t = load(names[_i]);
    json_auto_t *cases = NULL;
    json_t *one;
    char path[500];
    size_t i;

    snprintf(path, sizeof(path), "%s/tokenizer/%s.ids.json", test_data(), names[_i]);
    cases = json_load_file(path, JSON_ALLOW_NUL, NULL);
    ck_assert_uint_gt(json_array_size(cases), 20);
    json_array_foreach (cases, i, one) {
        const json_t *text = json_array_get(one, 0), *back = json_array_get(one, 3);
        AUTO_BUF bytes = BUF_INIT(1 << 20);
        AUTO_PTR int64_t *with = NULL, *bare = NULL;
        size_t n_with, n_bare;

        OK(tokenizer_encode(t, json_string_value(text), json_string_length(text), true,
                            &with, &n_with, &err));
        ck_ids(names[_i], json_string_value(text), json_array_get(one, 1), with, n_with);
        OK(tokenizer_encode(t, json_string_value(text), json_string_length(text), false,
                            &bare, &n_bare, &err));
        ck_ids(names[_i], json_string_value(text), json_array_get(one, 2), bare, n_bare);
        for (size_t k = 0; k < n_bare; k++)
            tokenizer_decode(t, bare[k], &bytes);
        ck_assert_uint_eq(bytes.len, json_string_length(back));
        if (bytes.len)
            ck_assert_mem_eq(bytes.data, json_string_value(back), bytes.len);
    }
}
END_TEST

START_TEST(test_tokenizer_unknown_ids_are_no_text)
{
    AUTO(tokenizer) t = load("smollm2");
    AUTO_BUF b = BUF_INIT(100);

    tokenizer_decode(t, -1, &b);
    tokenizer_decode(t, 0, &b); /* <|end|>, special */
    tokenizer_decode(t, 1 << 30, &b);
    ck_assert_uint_eq(b.len, 0);
}
END_TEST

START_TEST(test_tokenizer_text_that_is_not_utf8)
{
    AUTO(tokenizer) t = load("demo");
    int64_t *ids;
    size_t n;

    ck_assert_int_eq(tokenizer_encode(t, "a\xff", 2, true, &ids, &n, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_INVALID);
}
END_TEST

/* Another cut would give other tokens, silently: what is not known is refused. */
START_TEST(test_tokenizer_unknown_parts_are_refused)
{
    static const struct {
        const char *json, *says;
        enum pt2_error code;
    } cases[] = {
        {"{", "", PT2_ERR_BAD_JSON},
        {"{}", "model is ''", PT2_ERR_UNSUPPORTED},
        {"{'model':{'type':'WordPiece'}}", "WordPiece", PT2_ERR_UNSUPPORTED},
        {"{'model':{'type':'BPE','byte_fallback':true}}", "byte_fallback",
         PT2_ERR_UNSUPPORTED},
        {"{'model':{'type':'BPE','end_of_word_suffix':'</w>'}}", "end_of_word_suffix",
         PT2_ERR_UNSUPPORTED},
        {"{'model':{'type':'BPE'},'normalizer':{'type':'Lowercase'}}", "Lowercase",
         PT2_ERR_UNSUPPORTED},
        {"{'model':{'type':'BPE'},'pre_tokenizer':{'type':'Metaspace'}}", "Metaspace",
         PT2_ERR_UNSUPPORTED},
        {"{'model':{'type':'BPE'},'pre_tokenizer':{'type':'Split','pattern':{'Regex':'x'}"
         ","
         "'behavior':'Isolated'}}",
         "pattern", PT2_ERR_UNSUPPORTED},
        {"{'model':{'type':'BPE'},'pre_tokenizer':{'type':'ByteLevel'}}", "vocab",
         PT2_ERR_INVALID},
        {"{'model':{'type':'BPE','vocab':{'a':-1}},'pre_tokenizer':{'type':'ByteLevel'}}",
         "id", PT2_ERR_INVALID},
        {"{'model':{'type':'BPE','vocab':{'a':1,'b':1}},'pre_tokenizer':{'type':"
         "'ByteLevel'}}",
         "one id", PT2_ERR_INVALID},
        {"{'model':{'type':'BPE','vocab':{'a':0,'b':1},'merges':['a b']},'pre_tokenizer':"
         "{'type':'ByteLevel'}}",
         "merge names", PT2_ERR_INVALID},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':['a']},'pre_tokenizer':{'type':"
         "'ByteLevel'}}",
         "two tokens", PT2_ERR_INVALID},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':[]},'added_tokens':[{'id':9}],"
         "'pre_tokenizer':{'type':'ByteLevel'}}",
         "content", PT2_ERR_INVALID},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':[]},'pre_tokenizer':{'type':"
         "'ByteLevel'},'post_processor':{'type':'BertProcessing'}}",
         "BertProcessing", PT2_ERR_UNSUPPORTED},
        {"{'model':{'type':'BPE','vocab':{'a':0},'merges':[]},'pre_tokenizer':{'type':"
         "'ByteLevel'},'post_processor':{'type':'TemplateProcessing','single':[{"
         "'SpecialToken':{'id':'s'}}],'special_tokens':{'s':{'ids':[-1]}}}}",
         "special tokens", PT2_ERR_INVALID},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tokenizer *t = NULL;
        char json[400];

        snprintf(json, sizeof(json), "%s", cases[i].json);
        for (char *p = json; *p; p++)
            *p = *p == '\'' ? '"' : *p;
        err = (struct pt2_err){0};
        ck_assert_msg(tokenizer_new(json, strlen(json), &t, &err) < 0, "%s", json);
        ck_assert_msg(err.code == cases[i].code && strstr(err.text, cases[i].says),
                      "%s: %s", json, err.text);
    }
}
END_TEST

START_TEST(test_tokenizer_byte_that_no_token_is)
{
    static const char json[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}";
    AUTO(tokenizer) t = NULL;
    int64_t *ids = NULL;
    size_t n = 0;

    OK(tokenizer_new(json, strlen(json), &t, &err));
    OK(tokenizer_encode(t, "aa", 2, true, &ids, &n, &err));
    ck_assert_uint_eq(n, 2);
    free(ids);
    ck_assert_int_eq(tokenizer_encode(t, "ab", 2, true, &ids, &n, &err), -1);
    ck_assert_str_eq(err.text, "the tokenizer has no token for the byte 0x62");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tokenizer");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, NULL);
    tcase_add_loop_test(core, test_tokenizer_ids_are_those_of_hugging_face, 0,
                        (int)ARRAY_LEN(names));
    tcase_add_test(core, test_tokenizer_unknown_ids_are_no_text);
    tcase_add_checked_fixture(errors, setup, NULL);
    tcase_add_test(errors, test_tokenizer_text_that_is_not_utf8);
    tcase_add_test(errors, test_tokenizer_unknown_parts_are_refused);
    tcase_add_test(errors, test_tokenizer_byte_that_no_token_is);
    suite_add_tcase(s, core);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
