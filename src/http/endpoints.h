/* endpoints.h - the handlers that routes.c names; each lives in the file of its name. */
#ifndef HTTP_ENDPOINTS_H
#define HTTP_ENDPOINTS_H

#include "http/request.h"

/* health.c */
void healthz_get(struct http_request *req);
void readyz_get(struct http_request *req);
void version_get(struct http_request *req);

#endif
