/* list_page.h - ?limit= and ?after= of lists, and {"data": [...], "next": "..."}. */
#ifndef HTTP_LIST_PAGE_H
#define HTTP_LIST_PAGE_H

#include "http/request.h"

struct list_page {
    int64_t limit; /* 1 to 1000, 100 where the client does not say */
    int64_t after; /* a numeric cursor; 0: from the beginning */
};

/* -1: replied (422).  list_limit reads ?limit= alone, where cursors are names. */
MUST_USE int list_page(struct http_request *req, struct list_page *ret_page);
MUST_USE int list_limit(struct http_request *req, int64_t *ret_limit);

/* Reply; data is taken.  next 0, or NULL: no more. */
void list_reply(struct http_request *req, json_t *data, int64_t next);
void list_reply_after(struct http_request *req, json_t *data, const char *next);

#endif
