/* endpoints.h - the handlers that routes.c names; each lives in the file of its name. */
#ifndef HTTP_ENDPOINTS_H
#define HTTP_ENDPOINTS_H

#include "http/request.h"

/* health.c */
void healthz_get(struct http_request *req);
void readyz_get(struct http_request *req);
void version_get(struct http_request *req);

/* metrics_get.c */
void metrics_get_text(struct http_request *req);

/* page_get.c */
void page_get(struct http_request *req);

/* stats_get.c */
void stats_get(struct http_request *req);

/* openapi.c */
void openapi_get(struct http_request *req);

/* the files of these names */
void models_list_get(struct http_request *req);
void models_get_one(struct http_request *req);
void models_file_delete(struct http_request *req);
void models_file_get(struct http_request *req);
void models_file_patch(struct http_request *req);
void models_file_put(struct http_request *req);
void models_publish_post(struct http_request *req);
void models_delete_one(struct http_request *req);
void exports_post(struct http_request *req);
void exports_list_get(struct http_request *req);
void exports_get(struct http_request *req);
void exports_events_get(struct http_request *req);
void exports_file_get(struct http_request *req);
void exports_cancel_post(struct http_request *req);
void exports_delete(struct http_request *req);
void programs_post(struct http_request *req);
void programs_put(struct http_request *req);
void programs_list_get(struct http_request *req);
void programs_get_one(struct http_request *req);
void programs_file_get(struct http_request *req);
void programs_graph_get(struct http_request *req);
void programs_plan_get(struct http_request *req);
void programs_delete_one(struct http_request *req);
void programs_pin_delete(struct http_request *req);
void programs_pin_put(struct http_request *req);
void aliases_list_get(struct http_request *req);
void aliases_get_one(struct http_request *req);
void aliases_put(struct http_request *req);
void aliases_delete(struct http_request *req);

/* sessions_*.c, step_post.c, steps_post.c, fork_post.c, rewind_post.c, cache_*.c */
void sessions_post(struct http_request *req);
void sessions_list(struct http_request *req);
void sessions_get(struct http_request *req);
void sessions_delete(struct http_request *req);
void step_post(struct http_request *req);
void steps_post(struct http_request *req);
void fork_post(struct http_request *req);
void rewind_post(struct http_request *req);
void cache_get(struct http_request *req);
void cache_put(struct http_request *req);
int cache_put_prepare(struct http_request *req, struct pt2_err *err);
uint64_t cache_put_max_body(const struct http_request *req);

#endif
