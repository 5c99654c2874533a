/* hub_settings.h - where the Hugging Face hub is and who asks, from the same variables and
 * files as the hub's own tools (huggingface_hub, constants.py and utils/_auth.py):
 *
 *     HF_ENDPOINT        https://huggingface.co
 *     HF_HOME            $XDG_CACHE_HOME/huggingface, ~/.cache/huggingface
 *     HF_HUB_CACHE       $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub
 *     HF_TOKEN           $HUGGING_FACE_HUB_TOKEN, otherwise the first line of the file
 *     HF_TOKEN_PATH      $HF_HOME/token
 *     HF_HUB_OFFLINE     $TRANSFORMERS_OFFLINE: 1, on, yes or true
 *
 * Set but empty is as not set.  "~/" at the beginning of a path is the home directory. */
#ifndef CMD_HUB_SETTINGS_H
#define CMD_HUB_SETTINGS_H

#include "cmd/ctl.h"

#include <limits.h>

struct hub_settings {
    char endpoint[1024];  /* no '/' at its end */
    char token[512];      /* "": none.  Goes to the endpoint alone, and into no message */
    char cache[PATH_MAX]; /* the hub's cache; need not be there */
    char work[PATH_MAX];  /* $XDG_CACHE_HOME/pt2ctl, for what is on its way */
    bool is_offline;
};

/* Fails for an endpoint that is no URL and a token that can't be sent. */
MUST_USE int hub_settings_read(struct ctl *ctl, struct hub_settings *ret_settings);

#endif
