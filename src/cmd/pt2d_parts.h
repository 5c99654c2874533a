/* pt2d_parts.h - the daemon's parts, in the order in which they start.
 *
 * The main thread alone.  To add one: write its functions in pt2d_parts.c and put a row
 * into the table there.
 *
 *     start   in the table's order; app->config and the parts before it stand
 *     drain   begin to stop: take up no more work; must not wait
 *     give_up what may take long comes to its end at once, before anything is stopped
 *     stop    end what still runs: in the reverse order, after the grace time or once
 *             everything is idle; every request that the part holds has to be replied
 *     done    release it: in the reverse order, when no handler runs any more and no
 *             request comes */
#ifndef CMD_PT2D_PARTS_H
#define CMD_PT2D_PARTS_H

#include "http/app.h"

#include <pt2/err.h>

struct part {
    const char *name;
    int (*start)(struct app *app, struct pt2_err *err);
    void (*drain)(struct app *app);         /* may be NULL, as the following */
    bool (*is_idle)(const struct app *app); /* nothing runs that the grace time is for */
    void (*give_up)(struct app *app);
    void (*stop)(struct app *app);
    void (*done)(struct app *app);
};

/* Start all.  On an error those that stood are released again; the text names the part.
 */
MUST_USE int parts_start(struct app *app, struct pt2_err *err);
void parts_drain(struct app *app);
bool parts_are_idle(const struct app *app);
/* Take and leave each part's lock: where one is never given back this does not return, so
 * that the watchdog goes off. */
void parts_touch(const struct app *app);
void parts_stop(struct app *app);
void parts_done(struct app *app);

#endif
