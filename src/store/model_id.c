#include "store/model_id.h"

#include "base/utf8.h"

#define MAX_NEW_PART 96 /* as a Hugging Face hub has it */

bool model_id_is_part(const char *s, size_t len)
{
    if (len == 0 || s[0] == '.' || !utf8_is_valid(s, len))
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < ' ' || s[i] == 0x7f || s[i] == '/')
            return false;
    return true;
}

bool model_id_is_valid(const char *id)
{
    const char *slash = strchr(id, '/');

    if (strlen(id) >= MODEL_ID_SIZE)
        return false;
    if (!slash)
        return model_id_is_part(id, strlen(id));
    return model_id_is_part(id, (size_t)(slash - id)) &&
           model_id_is_part(slash + 1, strlen(slash + 1));
}

static size_t new_part(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789._-");

    return n > MAX_NEW_PART || s[0] == '.' || s[0] == '-' ? 0 : n;
}

int model_id_check_new(const char *id, struct pt2_err *err)
{
    size_t n = new_part(id), m = n > 0 && id[n] == '/' ? new_part(id + n + 1) : 0;

    if (n > 0 && (id[n] == '\0' || (m > 0 && id[n + 1 + m] == '\0')))
        return 0;
    return pt2_err_set(err, PT2_ERR_INVALID,
                       "'%.100s' can't be a new model's id: NAME or ORG/NAME is due, each "
                       "of 1 to %d letters, digits, '.', '_' and '-', beginning with "
                       "neither '.' nor '-'",
                       id, MAX_NEW_PART);
}

void model_id_to_file_name(const char *id, char ret_name[MODEL_ID_SIZE])
{
    const char *slash = strchr(id, '/');

    if (slash)
        snprintf(ret_name, MODEL_ID_SIZE, "%.*s%%2F%s", (int)(slash - id), id, slash + 1);
    else
        snprintf(ret_name, MODEL_ID_SIZE, "%s", id);
}
