/* program_reply.h - what several endpoints answer about a program.  Pool threads. */
#ifndef HTTP_PROGRAM_REPLY_H
#define HTTP_PROGRAM_REPLY_H

#include "http/request.h"
#include "store/programs.h"

/* Which program does the path's first part name?  Adds Cache-Control: no-cache where the
 * name could come to mean another one.  False: replied. */
MUST_USE bool program_from_path(struct http_request *req, char ret_id[PROGRAM_ID_SIZE]);

/* The file of a full id. */
void program_reply_file(struct http_request *req, const char *id);
/* An ExecuTorch program that was made of it, by its digest. */
void program_reply_pte(struct http_request *req, const char *id, const char *sha256);

/* 201 or 200, with Location, and the program once its engines are known. */
void program_reply_added(struct http_request *req, const char *id, bool is_new);

#endif
