#include "checkpoint/gguf_words.h"

#define BYTES(use_regex)                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"          \
    "\"use_regex\":" use_regex "}"
#define SPLIT(regex)                                                                     \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"         \
    "{\"Regex\":\"" regex                                                                \
    "\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTES("false") "]}"
#define REST        "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define ENDINGS     "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER       "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define LOWER       "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define BEFORE      "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?"
#define SIGNS(more) " ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n" more "]*|"

#define WORDS_GPT2 BYTES("true")
#define WORDS_DIGITS                                                                     \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","                    \
    "\"individual_digits\":true}," BYTES("true") "]}"
#define WORDS_LLAMA3 SPLIT(ENDINGS "|" BEFORE "\\\\p{L}+|\\\\p{N}{1,3}|" SIGNS("") REST)
#define WORDS_QWEN2  SPLIT(ENDINGS "|" BEFORE "\\\\p{L}+|\\\\p{N}|" SIGNS("") REST)
#define WORDS_TEKKEN                                                                     \
    SPLIT(BEFORE UPPER "*" LOWER "+|" BEFORE UPPER "+" LOWER "*|\\\\p{N}|" SIGNS("/")    \
              REST)
#define WORDS_GPT4O                                                                      \
    SPLIT(BEFORE UPPER "*" LOWER "+" ENDINGS "?|" BEFORE UPPER "+" LOWER "*" ENDINGS     \
                       "?|\\\\p{N}{1,3}|" SIGNS("/") REST)

/* tokenizer.ggml.pre: Transformers' GGUF_PRE_TOKENIZER_SPLITS, and for the rest
 * llama.cpp's llama-vocab.cpp, which also says where a text begins with the first token
 * and where a word that is a token is not merged. */
static const struct gguf_words words[] = {
    {"default", WORDS_GPT2, false},
    {"gpt-2", WORDS_GPT2, false},
    {"gpt2", WORDS_GPT2, false},
    {"phi-2", WORDS_GPT2, false},
    {"mpt", WORDS_GPT2, false},
    {"olmo", WORDS_GPT2, false},
    {"jais", WORDS_GPT2, false},
    {"trillion", WORDS_GPT2, false},
    {"smollm", WORDS_DIGITS, false},
    {"starcoder", WORDS_DIGITS, false},
    {"refact", WORDS_DIGITS, false},
    {"command-r", WORDS_DIGITS, false},
    {"codeshell", WORDS_DIGITS, false},
    {"exaone", WORDS_DIGITS, false},
    {"llama3", WORDS_LLAMA3, true},
    {"llama-v3", WORDS_LLAMA3, true},
    {"llama-bpe", WORDS_LLAMA3, true},
    {"falcon3", WORDS_LLAMA3, true},
    {"falcon-h1", WORDS_LLAMA3, true},
    {"pixtral", WORDS_LLAMA3, true},
    {"midm-2.0", WORDS_LLAMA3, true},
    {"lfm2", WORDS_LLAMA3, true},
    {"dbrx", WORDS_LLAMA3, false},
    {"smaug-bpe", WORDS_LLAMA3, false},
    {"qwen2", WORDS_QWEN2, false},
    {"stablelm2", WORDS_QWEN2, false},
    {"deepseek-r1-qwen", WORDS_QWEN2, false},
    {"kormo", WORDS_QWEN2, false},
    {"megrez", WORDS_QWEN2, false},
    {"tekken", WORDS_TEKKEN, false},
    {"gpt-4o", WORDS_GPT4O, false},
    {"llama4", WORDS_GPT4O, false},
};

const struct gguf_words *gguf_words_find(const char *pre)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (streq(words[i].pre, pre))
            return &words[i];
    return NULL;
}
