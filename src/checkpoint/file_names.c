#include "checkpoint/file_names.h"

static const char *const extras[] = {
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
};

const char *file_names_extra(size_t i)
{
    return i < ARRAY_LEN(extras) ? extras[i] : NULL;
}

bool file_names_is_weights(const char *name)
{
    return ends_with(name, ".safetensors") || ends_with(name, ".gguf");
}

bool file_names_is_allowed(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n > FILE_NAME_MAX_LEN || name[0] == '.' ||
        n != strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                          "0123456789._-"))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(extras); i++)
        if (streq(name, extras[i]))
            return true;
    return streq(name, CONFIG_NAME) || streq(name, INDEX_NAME) ||
           file_names_is_weights(name);
}
