#include "export/text_part.h"

static const struct text_part parts[] = {
    {.model_type = "gemma3",
     .architecture = "Gemma3ForConditionalGeneration",
     .text_type = "gemma3_text",
     .has_own_type = true,
     .tied = true},
    {.model_type = "idefics3",
     .architecture = "Idefics3ForConditionalGeneration",
     .text_type = "llama"},
    {.model_type = "llava",
     .architecture = "LlavaForConditionalGeneration",
     .text_type = "llama",
     .ties_by_text = true},
    {.model_type = "llava_next",
     .architecture = "LlavaNextForConditionalGeneration",
     .text_type = "llama"},
    {.model_type = "mistral3",
     .architecture = "Mistral3ForConditionalGeneration",
     .text_type = "mistral",
     .tied = true},
    {.model_type = "qwen2_5_vl",
     .architecture = "Qwen2_5_VLForConditionalGeneration",
     .text_type = "qwen2_5_vl_text",
     .has_own_type = true,
     .is_flat_too = true,
     .ties_by_text = true},
    {.model_type = "qwen2_vl",
     .architecture = "Qwen2VLForConditionalGeneration",
     .text_type = "qwen2_vl_text",
     .has_own_type = true,
     .is_flat_too = true,
     .ties_by_text = true},
    {.model_type = "smolvlm",
     .architecture = "SmolVLMForConditionalGeneration",
     .text_type = "llama"},
};

/* What stands before a text model's name.  The last two are how older versions saved, and
 * how conversion_mapping.py has it saved still. */
static const struct {
    const char *prefix;
    bool is_inside; /* in the place of "model."; the head has no prefix */
} spellings[] = {
    {"model.language_model.", true},
    {"model.text_model.", true},
    {"language_model.", false},
    {"", false}, /* Qwen's */
};

static const char *const others[] = {
    "model.vision_tower", "model.multi_modal_projector", "model.image_newline",
    "model.visual",       "model.vision_model",          "model.connector",
    "vision_tower",       "multi_modal_projector",       "image_newline",
    "visual",
};

const struct text_part *text_part_at(size_t i)
{
    return i < ARRAY_LEN(parts) ? &parts[i] : NULL;
}

const struct text_part *text_part_find(const char *model_type)
{
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (streq(parts[i].model_type, model_type))
            return &parts[i];
    return NULL;
}

int text_part_fields(const struct text_part *part, const struct fields *whole,
                     struct fields *ret_text, struct pt2_err *err)
{
    const json_t *text = field_get(whole, "text_config");

    if (json_is_object(text))
        *ret_text = fields_of(text, "text_config");
    else if (part->is_flat_too && !field_is_there(whole, "text_config"))
        *ret_text = *whole;
    else
        return field_bad(whole, "text_config", err, "must be there, and an object");
    return 0;
}

int text_part_is_tied(const struct text_part *part, const struct fields *whole,
                      const struct fields *text, bool *ret_tied, struct pt2_err *err)
{
    bool by_text = false;

    if (field_bool(whole, "tie_word_embeddings", part->tied, ret_tied, err) < 0 ||
        (part->ties_by_text &&
         field_bool(text, "tie_word_embeddings", false, &by_text, err) < 0))
        return -1;
    *ret_tied = *ret_tied || by_text;
    return 0;
}

bool text_part_name(size_t i, const char *name, char *to, size_t size)
{
    static const char base[] = "model.";
    bool is_base = strncmp(name, base, strlen(base)) == 0;

    if (i >= ARRAY_LEN(spellings))
        return false;
    if (!spellings[i].is_inside)
        snprintf(to, size, "%s%s", spellings[i].prefix, name);
    else if (is_base)
        snprintf(to, size, "%s%s", spellings[i].prefix, name + strlen(base));
    else
        snprintf(to, size, "%s", name);
    return true;
}

const char *text_part_other_module(const char *tensor)
{
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        size_t len = strlen(others[i]);

        if (strncmp(tensor, others[i], len) == 0 &&
            (tensor[len] == '.' || tensor[len] == '\0'))
            return others[i];
    }
    return NULL;
}
