/* tbl_params.h - every parameter of pt2d, written once.
 *
 * PARAM(section, key, type, unit, default, min, max, prose)
 *
 *   type     INT      a whole number, from min to max
 *            SIZE     bytes; "64 MiB", "1 GiB"; from min to max
 *            TIME     "500 ms", "30 s", "10 min", "24 h"; a bare number is seconds; min
 * and max in milliseconds BOOL     yes or no TEXT     min to max bytes CHOICE   one of
 * the words in unit, which has '|' between them unit     for readers: "threads", "bytes";
 * "" where there is none default  as it would be written in the file prose    what it
 * does, and what an empty value means; one or two sentences
 *
 * Lines of one section stand together, the sections in the order of pt2d.conf.  After a
 * change: make params. */

/* the daemon itself */
PARAM(daemon, state_dir, TEXT, "directory", "", 0, 4095,
      "Where the database, programs and temporary files lie; made where missing.  Empty: "
      "$STATE_DIRECTORY where the service manager set it, /var/lib/pt2d for root, "
      "otherwise "
      "$XDG_STATE_HOME/pt2d or ~/.local/state/pt2d.")
PARAM(daemon, models_dir, TEXT, "directory", "", 0, 4095,
      "Where the checkpoints lie, as NAME or ORG/NAME beneath it, and where those that "
      "clients send are put.  Empty: models in the state directory, and the bundled "
      "models, which stay as they are.")
PARAM(daemon, grace, TIME, "", "30 s", 0, 3600000,
      "How long requests and exports that run may take to finish after SIGTERM.")
PARAM(daemon, log_level, CHOICE, "error|warning|info|debug", "info", 0, 0,
      "What is logged.  Reloaded by SIGHUP.")
PARAM(daemon, log_format, CHOICE, "plain|json", "plain", 0, 0,
      "How: lines for people, or a JSON object a line.  Reloaded by SIGHUP.")

/* HTTP */
PARAM(http, listen, TEXT, "addresses", "127.0.0.1:8250", 1, 1024,
      "Where to listen: HOST:PORT, [IPV6]:PORT or unix:PATH, several with spaces "
      "between.  https: before the first two is TLS, as https:0.0.0.0:8443, and needs "
      "tls_certificate and tls_key.  Port 0 picks a free one.  Sockets that the service manager passes take its place.  "
      "pt2d.service lets loopback addresses alone come: for others it wants "
      "IPAddressAllow= too.")
PARAM(http, socket_mode, CHOICE, "0600|0660|0666", "0660", 0, 0,
      "Permissions of unix sockets.")
PARAM(http, token_file, TEXT, "file", "", 0, 4095,
      "A file that says who may do what, a line each: NAME, sha256:HEX (of a token), "
      "uid:N or gid:N (of a unix socket's peer), cert:sha256:HEX or cert:NAME (of a client's "
      "certificate), scopes=read,step,export,admin, and "
      "limits sessions=N exports=N rate=N/s upload=2M download=2M (bytes a second); # begins a "
      "comment.  pt2ctl token makes a line.  "
      "Reloaded by SIGHUP.  Empty: everybody may do everything.")
PARAM(http, allow_unauthenticated, BOOL, "", "no", 0, 0,
      "Listen beyond this machine though there is no token_file, and no certificate is "
      "required of clients.  Without it the daemon refuses to start so.")
PARAM(http, tls_certificate, TEXT, "file", "", 0, 4095,
      "The certificate of https: addresses in PEM, behind it those of the CAs between it and "
      "a root.  Reloaded by SIGHUP, as are the two files below: for new connections, those "
      "that are open go on.")
PARAM(http, tls_key, TEXT, "file", "", 0, 4095,
      "Its private key in PEM, without a passphrase; closed to others, as mode 0600 or 0640.")
PARAM(http, tls_client_ca, TEXT, "file", "", 0, 4095,
      "Certificates of the CAs, in PEM, whose clients are let in.  Empty: no client is asked "
      "for a certificate.")
PARAM(http, tls_client, CHOICE, "required|optional", "required", 0, 0,
      "With tls_client_ca, whether a client without a certificate is let in, to send a token "
      "say; one that can't be verified never is.")
PARAM(http, hosts, TEXT, "names", "", 0, 4096,
      "Names, without ports and with spaces between, that the Host header of requests "
      "may have beside localhost and the address they came to.  Others are 403, since a "
      "browser's pages could send them (DNS rebinding); unix sockets take any.")
PARAM(http, origins, TEXT, "origins", "", 0, 4096,
      "Origins, as https://tools.example and with spaces between, whose pages may send "
      "requests, beside those of the Host itself.  Others are 403.")
PARAM(http, threads, INT, "threads", "2", 1, 64,
      "Threads that read and write sockets, and as many for TLS where there is some; none of "
      "them ever waits for work.")
PARAM(http, pool_threads, INT, "threads", "4", 1, 256,
      "Threads for the handlers that wait for the disk or the database, and as many, of lower "
      "priority, for what uploads bring.")
PARAM(http, pool_queue, INT, "requests", "256", 1, 65536,
      "Requests that may wait for those threads; beyond, the answer is 429.")
PARAM(http, max_connections, INT, "connections", "1000", 4, 100000,
      "Connections open at once.  Then a new one takes the place of the one that was idle "
      "for the longest time, and waits to be accepted where none is.")
PARAM(http, max_connections_per_client, INT, "connections", "256", 0, 100000,
      "Connections of one address (of IPv6: of its /64) at once; a further one is answered "
      "429 and closed.  0: no limit but max_connections.  Those of this machine (loopback "
      "addresses, unix sockets) count only with limit_local, since a proxy's come so.")
PARAM(http, limit_local, BOOL, "", "no", 0, 0,
      "Hold this machine's own addresses and users to max_connections_per_client, "
      "sessions.max_per_client, exports.max_per_client and to one client's half of other bounds "
      "too where they send no token.")
PARAM(http, upload_rate, SIZE, "bytes a second", "0", 0, 1099511627776,
      "How fast one client may send bodies, over all its connections; a faster one is read "
      "no faster.  A client is a token's name, otherwise an address (IPv6: a /64) or a unix "
      "socket's user.  0: no limit.")
PARAM(http, download_rate, SIZE, "bytes a second", "0", 0, 1099511627776,
      "The same for answers.")
PARAM(
    http, max_header_bytes, SIZE, "bytes", "16 KiB", 1024, 32768,
    "Request line and header fields of one request together; beyond, the answer is 431.")
PARAM(http, max_request_bytes, SIZE, "bytes", "8 MiB", 1024, 1073741824,
      "The largest JSON body.")
PARAM(http, max_body_memory, SIZE, "bytes", "128 MiB", 1048576, 1099511627776,
      "Memory for the bodies of all requests together, and for what JSON in them becomes, and "
      "half of it for those of one client; beyond, the answer is 429, and 413 to a body that "
      "alone is more than that.")
PARAM(http, max_answer_memory, SIZE, "bytes", "512 MiB", 1048576, 1099511627776,
      "Memory for the answers of 64 KiB and more that are made, or not read yet, together, and "
      "half of it for those of one client, or one answer of any size; beyond, the answer is 429. "
      " The largest cache that can be downloaded.")
PARAM(http, max_uploads, INT, "requests", "32", 1, 10000,
      "File uploads at once, and half of them of one client; beyond, the answer is 429.")
PARAM(http, max_followers, INT, "requests", "128", 1, 100000,
      "Long polls (?wait=) and event streams of exports at once, and half of them of one "
      "client; beyond, the answer is 429.  "
      "A stream that its client does not read holds up to 1 MiB.")
PARAM(http, max_idempotency_keys, INT, "keys", "50000", 2, 100000000,
      "Idempotency keys whose answers are kept, for 24 hours, and half of them for one token's "
      "name, or for all who have none; a request with one more is answered 429.  An answer "
      "takes a few KiB of the database.")
PARAM(http, header_timeout, TIME, "", "30 s", 100, 3600000,
      "How long a client may take from its request line to the end of the header, and for "
      "the handshake of TLS.")
PARAM(http, idle_timeout, TIME, "", "75 s", 1000, 86400000,
      "How long a connection may stay open between requests, and a reply without the "
      "client "
      "taking a byte.")
PARAM(http, body_timeout, TIME, "", "30 s", 100, 86400000,
      "How long a client may take for a body, plus the time that its bytes take at "
      "min_body_rate.")
PARAM(http, min_body_rate, SIZE, "bytes a second", "4 KiB", 1, 1073741824,
      "The slowest upload that is waited for, after body_timeout.")

/* exports */
PARAM(exports, workers, INT, "processes", "2", 1, 256,
      "Exports that run at once, each in a process of its own.")
PARAM(exports, max_queued, INT, "jobs", "1000", 1, 1000000,
      "Exports that may wait; beyond, the answer is 429.")
PARAM(exports, max_per_client, INT, "jobs", "500", 0, 1000000,
      "Unfinished exports of one client: of a token's name whose line has no exports=, or of "
      "an address where there are no tokens; beyond, the answer is 429.  By default half of "
      "the queue, so that there is room for somebody else.  0: no limit.")
PARAM(exports, timeout, TIME, "", "1 h", 1000, 604800000,
      "How long one export may run before its process is killed.")
PARAM(exports, max_memory, SIZE, "bytes", "1 GiB", 0, 1099511627776,
      "Address space of one export's process.  0: no limit.")
PARAM(exports, keep, TIME, "", "720 h", 0, 315360000000,
      "How long finished exports are listed; their programs stay.  0: for ever.")
PARAM(exports, max_kept, INT, "jobs", "20000", 1, 100000000,
      "Finished exports are listed while no more than so many were asked for since, however "
      "young they are.")

/* models */
PARAM(models, max_upload_bytes, SIZE, "bytes", "64 GiB", 1, 1125899906842624,
      "The largest file of a model that can be uploaded; beyond, the answer is 413.")
PARAM(models, upload_ttl, TIME, "", "24 h", 1000, 31536000000,
      "How long the files that came for a model are kept where none follows and nobody "
      "publishes them; and a file of which a part came, after its last request.")
PARAM(models, max_unfinished_bytes, SIZE, "bytes", "64 GiB", 1, 1125899906842624,
      "What all files of which a part came (PATCH) may have on the disk together; beyond, the "
      "answer is 507.")

/* programs */
PARAM(programs, max_upload_bytes, SIZE, "bytes", "64 GiB", 1, 1125899906842624,
      "The largest .pt2 that can be uploaded; beyond, the answer is 413.")
PARAM(programs, max_store_bytes, SIZE, "bytes", "0", 0, 1125899906842624,
      "What all programs and .pte files may take.  Beyond, those that were used longest ago "
      "are removed, but none that a session uses, an alias names or a client has pinned; where "
      "even so there is no room the answer is 507.  0: no limit.")
PARAM(programs, keep, TIME, "", "0", 0, 315360000000,
      "How long a program is kept after its last use, with the same exceptions.  0: for ever.")
PARAM(programs, max_aliases, INT, "aliases", "10000", 1, 10000000,
      "Aliases that there may be; a further one is answered 429.")

/* sessions */
PARAM(sessions, node, TEXT, "name", "local", 1, 32,
      "This daemon's name within session ids (a-z, 0-9), so that a proxy can route by it.")
PARAM(sessions, ttl, TIME, "", "10 min", 1000, 2592000000,
      "How long a session lives after its last use where the client says nothing.")
PARAM(sessions, max_ttl, TIME, "", "24 h", 1000, 2592000000,
      "The longest ttl that a client may ask for.")
PARAM(sessions, max_sessions, INT, "sessions", "1024", 1, 1000000,
      "Sessions at once; beyond, the answer is 429.")
PARAM(sessions, max_per_client, INT, "sessions", "512", 0, 1000000,
      "Sessions of one client: of a token's name whose line has no sessions=, or of an "
      "address where there are no tokens; beyond, the answer is 429.  0: no limit.")
PARAM(sessions, max_cache_bytes, SIZE, "bytes", "1 GiB", 1048576, 1099511627776,
      "Memory for the caches of all sessions together; beyond, idle ones are put on the disk, "
      "and where that can't be, the answer is 429.")
PARAM(sessions, spill_bytes, SIZE, "bytes", "2 GiB", 0, 1099511627776,
      "Disk, in the state directory, for the caches of idle sessions that find no room in "
      "memory; 0: none are put there.")
PARAM(sessions, persist, BOOL, "", "no", 0, 0,
      "Save all sessions at a stop, and go on with them after the next start.")
PARAM(sessions, max_waiting, INT, "calls", "16", 1, 10000,
      "Calls that may wait for one session; beyond, the answer is 429.")
PARAM(sessions, max_waiting_all, INT, "calls", "1024", 1, 1000000,
      "Calls that may wait for all sessions together, and half of them of one client; beyond, "
      "the answer is 429.")
PARAM(sessions, max_wait, TIME, "", "5 min", 100, 86400000,
      "How long a call may wait for its turn; then the answer is 503, and nothing was done.")
PARAM(sessions, max_answer_bytes, SIZE, "bytes", "64 MiB", 65536, 17179869184,
      "The largest answer to steps; beyond, the answer is 422.")

/* engines */
PARAM(engine, max_programs, INT, "programs", "8", 1, 1000,
      "Programs open at once, each with a worker process; beyond, opening a session is 429.")
PARAM(engine, idle, TIME, "", "60 s", 1, 86400000,
      "How long a program without sessions stays open.")
PARAM(engine, threads, INT, "threads", "0", 0, 1024,
      "Compute threads: of each program on aten, of all together on native; 0: as many "
      "as there are cores.")
PARAM(engine, max_step_bytes, SIZE, "bytes", "2 GiB", 16777216, 1099511627776,
      "Memory that one run of a program's graph may take; beyond, its step fails.")
PARAM(engine, step_timeout, TIME, "", "10 min", 1000, 86400000,
      "How long one run may take; then its worker is killed and the step fails.")
