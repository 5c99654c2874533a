/* hub.h - one revision of a model on a Hugging Face hub: its list, its files, its cache.
 *
 * The token goes to the endpoint's own scheme, host and port alone; a redirect to
 * somewhere else (a storage) is followed without it, one from https to http is not.
 * What is busy (429, 5xx) is asked again a few times.  One thread. */
#ifndef CMD_HUB_H
#define CMD_HUB_H

#include "cmd/ctl_fetch.h"
#include "cmd/hub_list.h"
#include "cmd/hub_settings.h"

struct hub {
    struct ctl *ctl;
    struct hub_settings settings;
    const char *repo, *revision; /* borrowed: "org/name", "main" */
};

/* Reads the settings.  Fails where repo or revision can't be one. */
MUST_USE int hub_init(struct hub *hub, struct ctl *ctl, const char *repo,
                      const char *revision);

/* Ask for the list.  hub_list_done, also after a failure. */
MUST_USE int hub_get_list(struct hub *hub, struct hub_list *ret_list);

/* A file of the list for ctl_fetch: from the hub, or from a copy on this machine (path not
 * NULL).  Everything is borrowed. */
struct hub_source {
    struct hub *hub;
    const char *commit;
    const struct hub_file *file;
    const char *path;
    char label[64];
    struct fetch_source fetch;
};
void hub_source_init(struct hub_source *source, struct hub *hub, const char *commit,
                     const struct hub_file *file, const char *path);

/* Where the hub's cache has that commit's snapshot: …/models--org--name/snapshots/COMMIT */
void hub_snapshot(const struct hub *hub, const char *commit, char ret_path[PATH_MAX]);
/* The commit that the revision had when the cache last heard of it. */
MUST_USE int hub_cached_commit(struct hub *hub, char ret_commit[HUB_COMMIT_SIZE]);

#endif
