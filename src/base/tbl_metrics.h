/* tbl_metrics.h - every metric of GET /metrics, written once.
 *
 * METRIC(id, kind, name, labels, help): kind COUNTER (name ends in _total), GAUGE, or a
 * histogram: HISTOGRAM (seconds, 1 ms to 60 s), HISTOGRAM_SHORT (0.1 ms to 60 s),
 * HISTOGRAM_LONG (0.1 s to an hour), HISTOGRAM_SIZES (1 to 1024 of something).  Labels by
 * spaces, "" for none.  Gauges that say "as of this answer" are measured by
 * http/measure.c. */
METRIC(HTTP_REQUESTS, COUNTER, "pt2d_http_requests_total", "route method status",
       "Requests that were answered")
METRIC(HTTP_DURATION, HISTOGRAM, "pt2d_http_request_duration_seconds", "route",
       "Time from the request line to the last byte of the reply")
METRIC(HTTP_PROBLEMS, COUNTER, "pt2d_http_problems_total", "route status type",
       "Refusals and failures by the type of the problem that was answered")
METRIC(HTTP_CONNECTIONS, GAUGE, "pt2d_http_connections", "", "Open connections")
METRIC(HTTP_CONNECTIONS_LIMIT, GAUGE, "pt2d_http_connections_limit", "",
       "Connections that there may be")
METRIC(HTTP_DISPLACED, COUNTER, "pt2d_http_connections_displaced_total", "",
       "Idle connections closed to make room for others")
METRIC(HTTP_CLIENTS, GAUGE, "pt2d_http_clients", "",
       "Clients that are known: names, addresses, users")
METRIC(HTTP_PACED, GAUGE, "pt2d_http_requests_paced", "",
       "Requests that wait since their client is ahead of its rate")
METRIC(HTTP_PACES, COUNTER, "pt2d_http_paces_total", "direction",
       "Times that an upload or a download was made to wait for its rate")
METRIC(HTTP_ACTIVE, GAUGE, "pt2d_http_requests_active", "", "Requests that are being served")
METRIC(HTTP_SUSPENDED, GAUGE, "pt2d_http_requests_suspended", "",
       "Requests that wait for work, with no thread")
METRIC(HTTP_CANCELLED, COUNTER, "pt2d_http_requests_cancelled_total", "why",
       "Waiting requests whose client went, whose deadline passed or that a stop ended")
METRIC(HTTP_TIMEOUTS, COUNTER, "pt2d_http_timeouts_total", "what",
       "Connections closed because a handshake, a header, a body or the next request took too long")
METRIC(HTTP_BODY_BYTES, GAUGE, "pt2d_http_body_bytes", "", "Memory held by request bodies")
METRIC(HTTP_UPLOADS, GAUGE, "pt2d_http_uploads_active", "", "File uploads under way")
METRIC(HTTP_POOL_QUEUE, GAUGE, "pt2d_http_pool_queue_length", "",
       "Requests that wait for a pool thread")
METRIC(HTTP_POOL_REFUSED, COUNTER, "pt2d_http_pool_refused_total", "",
       "Requests answered 429 because the pool's queue was full")
METRIC(HTTP_BODY_LIMIT, GAUGE, "pt2d_http_body_limit_bytes", "",
       "Memory that request bodies may have")
METRIC(HTTP_BODIES_REFUSED, COUNTER, "pt2d_http_bodies_refused_total", "why",
       "Requests answered 429 for their body: memory, uploads (too many at once)")
METRIC(HTTP_ANSWER_BYTES, GAUGE, "pt2d_http_answer_bytes", "",
       "Memory held by answers of 64 KiB and more that are made, or not read yet")
METRIC(HTTP_ANSWER_LIMIT, GAUGE, "pt2d_http_answer_limit_bytes", "",
       "Memory that these answers may have")
METRIC(HTTP_ANSWERS_REFUSED, COUNTER, "pt2d_http_answers_refused_total", "",
       "Requests answered 429 because the answers of others had all of it")
METRIC(HTTP_REFUSED, COUNTER, "pt2d_http_refused_total", "reason",
       "Requests refused for who sent them: host, origin, token, certificate, scope, or a limit "
       "of one client (connections, rate, sessions, exports, idempotency-keys, body-memory, "
       "answer-memory, uploads, followers, calls, unfinished-uploads)")
METRIC(TLS_HANDSHAKES, COUNTER, "pt2d_tls_handshakes_total", "result",
       "Connections to TLS addresses that ended, by their handshake: ok, failed, or refused for "
       "the client's certificate")
METRIC(TLS_EXPIRY, GAUGE, "pt2d_tls_certificate_expiry_timestamp_seconds", "",
       "When the certificate expires, in seconds since 1970; 0 where there is none")
METRIC(HTTP_FOLLOWERS, GAUGE, "pt2d_http_followers", "",
       "Long polls and event streams that wait for exports' news")
METRIC(HTTP_FOLLOWERS_REFUSED, COUNTER, "pt2d_http_followers_refused_total", "",
       "Those that were answered 429 because there were too many")
METRIC(JOBS_REFUSED, COUNTER, "pt2d_jobs_refused_total", "",
       "Exports answered 429 because the queue was full")
METRIC(JOBS_QUEUED, GAUGE, "pt2d_jobs_queued", "", "Exports that wait, as of this answer")
METRIC(JOBS_QUEUE_LIMIT, GAUGE, "pt2d_jobs_queue_limit", "", "Exports that may wait")
METRIC(JOBS_OLDEST, GAUGE, "pt2d_jobs_oldest_queued_age_seconds", "",
       "Since when the export at the queue's head has been there, 0 for an empty queue, as of this answer")
METRIC(JOB_WORKERS, GAUGE, "pt2d_job_workers", "", "Exports that may run at once")
METRIC(JOB_WORKERS_BUSY, GAUGE, "pt2d_job_workers_busy", "",
       "Exports that run, as of this answer")
METRIC(JOB_WORKERS_DIED, COUNTER, "pt2d_job_workers_died_total", "",
       "Export workers that died, took too long or answered nonsense; their jobs may be tried again")
METRIC(JOBS_FINISHED, COUNTER, "pt2d_jobs_finished_total", "outcome format",
       "Exports that ended: succeeded, cached (succeeded without a run), failed or cancelled")
METRIC(JOB_DURATION, HISTOGRAM_LONG, "pt2d_job_duration_seconds", "format",
       "Time from its run's begin to an export's success")
METRIC(JOB_QUEUE, HISTOGRAM_LONG, "pt2d_job_queue_seconds", "",
       "How long an export waited for its run")
METRIC(IDEMPOTENCY_KEYS, GAUGE, "pt2d_idempotency_keys", "",
       "Idempotency keys whose answers are kept")
METRIC(IDEMPOTENCY_LIMIT, GAUGE, "pt2d_idempotency_keys_limit", "",
       "Keys that there may be, half of them of one owner")
METRIC(ALIASES, GAUGE, "pt2d_aliases", "", "Aliases")
METRIC(ALIASES_LIMIT, GAUGE, "pt2d_aliases_limit", "", "Aliases that there may be")
METRIC(UNFINISHED, GAUGE, "pt2d_unfinished_uploads", "",
       "Files of models of which a part came (PATCH)")
METRIC(UNFINISHED_BYTES, GAUGE, "pt2d_unfinished_upload_bytes", "",
       "Bytes of these files, with what running requests may still bring")
METRIC(UNFINISHED_LIMIT, GAUGE, "pt2d_unfinished_upload_limit_bytes", "",
       "Bytes that they may have together")
METRIC(MODEL_FILES, COUNTER, "pt2d_model_files_total", "", "Files of models that were uploaded")
METRIC(MODEL_FILE_BYTES, COUNTER, "pt2d_model_file_bytes_total", "", "Bytes of these files")
METRIC(MODELS_PUBLISHED, COUNTER, "pt2d_models_published_total", "",
       "Models that uploads made or replaced")
METRIC(MODELS_DELETED, COUNTER, "pt2d_models_deleted_total", "", "Models that clients deleted")
METRIC(PROGRAM_BYTES, GAUGE, "pt2d_program_bytes", "",
       "Bytes of all programs, with their packed weights and .pte files")
METRIC(PROGRAMS_REMOVED, COUNTER, "pt2d_programs_removed_total", "why",
       "Programs that were removed for their age or to make room")
METRIC(PROGRAMS_DAMAGED, COUNTER, "pt2d_programs_damaged_total", "",
       "Programs and .pte files that were found to have another digest, or no file")
METRIC(SESSIONS, GAUGE, "pt2d_sessions", "", "Sessions, with those being made")
METRIC(SESSIONS_LIMIT, GAUGE, "pt2d_sessions_limit", "", "Sessions that there may be")
METRIC(SESSIONS_REFUSED, COUNTER, "pt2d_sessions_refused_total", "why",
       "Sessions and steps answered 429: sessions (too many), memory, programs (too many open)")
METRIC(SESSION_CACHE_BYTES, GAUGE, "pt2d_session_cache_bytes", "",
       "Memory of the sessions' caches")
METRIC(SESSION_CACHE_LIMIT, GAUGE, "pt2d_session_cache_limit_bytes", "",
       "The budget of this memory")
METRIC(SESSIONS_ENDED, COUNTER, "pt2d_sessions_ended_total", "how",
       "Sessions that were deleted, expired, or lost with what was saved of them")
METRIC(SESSIONS_SPILLED, GAUGE, "pt2d_sessions_spilled", "",
       "Sessions whose caches are on the disk and not in memory")
METRIC(SESSION_SPILLED_BYTES, GAUGE, "pt2d_session_spilled_bytes", "", "Disk that these take")
METRIC(SESSION_SPILLS, COUNTER, "pt2d_session_spills_total", "result",
       "Caches that were put on the disk because memory was short: ok, failed")
METRIC(SESSION_RETURNS, COUNTER, "pt2d_session_returns_total", "result",
       "Caches that came back from the disk: ok, failed (still there), lost")
METRIC(SESSION_SPILL_IO, COUNTER, "pt2d_session_spill_bytes_total", "direction",
       "Bytes of caches that were put on the disk (out) and came back (in)")
METRIC(SESSIONS_SAVED, COUNTER, "pt2d_sessions_saved_total", "result",
       "Sessions that a stop saved: ok, failed")
METRIC(PROGRAMS_OPEN, GAUGE, "pt2d_programs_open", "", "Programs with an engine and a thread")
METRIC(PROGRAMS_OPEN_LIMIT, GAUGE, "pt2d_programs_open_limit", "",
       "Programs that may be open at once")
METRIC(PROGRAMS_CLOSED, COUNTER, "pt2d_programs_closed_total", "why",
       "Programs that were closed: idle for too long, or evicted for another one")
METRIC(ENGINES_DIED, COUNTER, "pt2d_engines_died_total", "",
       "Engines that were opened anew: their worker died, or a file was cut under them")
METRIC(CALLS_WAITING, GAUGE, "pt2d_session_calls_waiting", "",
       "Calls on sessions that wait for their turn")
METRIC(CALLS_REFUSED, COUNTER, "pt2d_session_calls_refused_total", "queue",
       "Calls answered 429 because a queue was full: session (its own), all (of all sessions)")
METRIC(CALLS_LATE, COUNTER, "pt2d_session_calls_late_total", "",
       "Calls answered 503 because their turn did not come within sessions.max_wait")
METRIC(CALLS_LIMIT, GAUGE, "pt2d_session_calls_limit", "", "Calls that may wait for their turn")
METRIC(CALLS_RUNNING, GAUGE, "pt2d_session_calls_running", "", "Calls on sessions that have begun")
METRIC(STEPS, COUNTER, "pt2d_steps_total", "result",
       "Steps: ok, failed, or refused and given up before they began")
METRIC(STEP_TOKENS, COUNTER, "pt2d_step_tokens_total", "program kind",
       "Tokens of the steps that went well: generated (one a row, after others) or prompt")
METRIC(STEP_QUEUE, HISTOGRAM_SHORT, "pt2d_step_queue_seconds", "",
       "How long a step waited for its turn")
METRIC(STEP_RUN, HISTOGRAM_SHORT, "pt2d_step_run_seconds", "program",
       "How long a step took once it had begun, others' turns between included")
METRIC(BATCH_STEPS, HISTOGRAM_SIZES, "pt2d_step_batch_steps", "",
       "Sessions whose steps ran together")
METRIC(BATCH_ROWS, HISTOGRAM_SIZES, "pt2d_step_batch_rows", "",
       "Tokens of all rows that ran together")
METRIC(STORE_PROGRAMS, GAUGE, "pt2d_store_programs", "", "Programs that are kept")
METRIC(STORE_BYTES, GAUGE, "pt2d_store_bytes", "kind",
       "Bytes on the disk: objects (programs and what is made of them), database")
METRIC(STORE_FREE, GAUGE, "pt2d_store_free_bytes", "",
       "Bytes that the state directory's file system has left, as of this answer")
METRIC(PROCESS_CPU, COUNTER, "process_cpu_seconds_total", "", "CPU time used, in seconds")
METRIC(PROCESS_MEMORY, GAUGE, "process_resident_memory_bytes", "", "Resident memory")
METRIC(PROCESS_VIRTUAL, GAUGE, "process_virtual_memory_bytes", "", "Address space")
METRIC(PROCESS_FDS, GAUGE, "process_open_fds", "", "Open file descriptors")
METRIC(PROCESS_MAX_FDS, GAUGE, "process_max_fds", "", "File descriptors that may be open")
METRIC(PROCESS_START, GAUGE, "process_start_time_seconds", "",
       "When the process began, in seconds since 1970")
METRIC(BUILD_INFO, GAUGE, "pt2d_build_info", "version", "Always 1; the version is a label")
