#include "serve/ledger.h"

#include "base/log.h"
#include "store/sessions_db.h"

static int opened(void *context, const char *id, const char *owner, const char *program,
                  struct pt2_err *err)
{
    struct ledger *ledger = context;

    if (programs_pin(ledger->programs, program, WHOLE_WAIT, err) < 0)
        return -1;
    if (sessions_db_add(ledger->store, id, owner, err) == 0)
        return 0;
    programs_unpin(ledger->programs, program);
    return -1;
}

static int returned(void *context, const char *id, const char *owner, const char *program,
                    char *ret_path, char *ret_packed_path, struct pt2_err *err)
{
    struct ledger *ledger = context;
    struct pt2_err why = {0};

    if (programs_pin(ledger->programs, program, WHOLE_WAIT, err) < 0)
        return -1;
    /* What the row tells is how a session ended: no reason to lose one. */
    if (sessions_db_add(ledger->store, id, owner, &why) < 0)
        log_warning("session %s is there again, but the database does not know, ignoring: %s",
                    id, why.text);
    programs_path(ledger->programs, program, ret_path);
    programs_packed_path(ledger->programs, program, ret_packed_path);
    return 0;
}

static void closed(void *context, const char *id, const char *program, enum serve_end how)
{
    struct ledger *ledger = context;
    struct pt2_err err = {0};
    int ret;

    programs_unpin(ledger->programs, program);
    if (how == SERVE_EXPIRED)
        ret = sessions_db_expire(ledger->store, id, &err);
    else if (how == SERVE_LOST)
        ret = sessions_db_lose(ledger->store, id, &err);
    else
        ret = sessions_db_remove(ledger->store, id, &err);
    if (ret < 0) /* nobody waits for an answer here */
        log_warning("session %s ended, but the database does not know, ignoring: %s", id,
                    err.text);
}

static void suspected(void *context, const char *program)
{
    struct ledger *ledger = context;
    struct pt2_err err = {0};

    if (programs_suspect(ledger->programs, program, &err) < 0 &&
        err.code != PT2_ERR_PROGRAM_DAMAGED) /* that one is logged */
        log_warning("the file of program %s may be damaged, and could not be looked at, "
                    "ignoring: %s",
                    program, err.text);
}

struct serve_hooks ledger_hooks(struct ledger *ledger)
{
    return (struct serve_hooks){.context = ledger,
                                .opened = opened,
                                .returned = returned,
                                .closed = closed,
                                .suspected = suspected};
}

int ledger_fate(struct store *store, const char *id, const char *who,
                struct pt2_err *err)
{
    enum session_fate fate = SESSION_NEVER;

    if (sessions_db_fate(store, id, who, &fate, err) < 0)
        return -1;
    switch (fate) {
    case SESSION_LIVE: /* its end is about to be written */
    case SESSION_EXPIRED:
        return pt2_err_set(err, PT2_ERR_SESSION_EXPIRED,
                           "session '%s' was not used for longer than its ttl", id);
    case SESSION_LOST:
        return pt2_err_set(err, PT2_ERR_SESSION_LOST,
                           "session '%s' was lost: the daemon was restarted and had not saved "
                           "it, or what it had saved is damaged",
                           id);
    default:
        return pt2_err_set(err, PT2_ERR_NOT_FOUND, "there is no session '%.*s'",
                           SERVE_ID_SIZE, id);
    }
}
