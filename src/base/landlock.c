#include "base/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Numbers and bits are those of linux/landlock.h, which older headers have in part only.
 * The numbers are the same on every machine. */
#define CALL_CREATE_RULESET 444
#define CALL_ADD_RULE       445
#define CALL_RESTRICT_SELF  446
#define CREATE_VERSION      1u /* landlock_create_ruleset: answer the ABI */
#define RULE_PATH_BENEATH   1

#define FS_EXECUTE    (UINT64_C(1) << 0)
#define FS_WRITE_FILE (UINT64_C(1) << 1)
#define FS_READ_FILE  (UINT64_C(1) << 2)
#define FS_READ_DIR   (UINT64_C(1) << 3)
#define FS_TRUNCATE   (UINT64_C(1) << 14)

/* The bits of an ABI are all those below. */
#define BITS(n) ((UINT64_C(1) << (n)) - 1)

struct ruleset_attr {
    uint64_t files, network, scopes;
};

struct path_beneath_attr {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

int landlock_abi(void)
{
    long abi = syscall(CALL_CREATE_RULESET, NULL, 0, CREATE_VERSION);

    return abi < 0 ? 0 : (int)abi;
}

uint64_t landlock_files_of(int abi)
{
    static const int n_bits[] = {
        0, 13, 14 /* refer */, 15 /* truncate */, 15, 16 /* ioctl of devices */};

    return BITS(n_bits[MIN(abi, (int)ARRAY_LEN(n_bits) - 1)]);
}

uint64_t landlock_network_of(int abi)
{
    return abi >= 4 ? BITS(2) : 0; /* to bind and to connect, TCP */
}

uint64_t landlock_scopes_of(int abi)
{
    return abi >= 6 ? BITS(2) : 0; /* abstract sockets, signals */
}

int landlock_begin(struct landlock *ret_rules, struct pt2_err *err)
{
    int abi = landlock_abi();
    const struct ruleset_attr attr = {.files = landlock_files_of(abi),
                                      .network = landlock_network_of(abi),
                                      .scopes = landlock_scopes_of(abi)};
    struct landlock rules = {.fd = -1, .handled = attr.files};

    if (abi > 0 && (rules.fd = (int)syscall(CALL_CREATE_RULESET, &attr, sizeof(attr),
                                            0)) < 0)
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "a Landlock ruleset");
    *ret_rules = rules;
    return 0;
}

void landlock_done(struct landlock *rules)
{
    if (rules->fd >= 0)
        close(rules->fd);
    rules->fd = -1;
}

static uint64_t bits_of(unsigned rights, bool is_folder)
{
    uint64_t bits = 0;

    if (rights & LANDLOCK_READ)
        bits |= FS_READ_FILE;
    if (rights & LANDLOCK_WRITE)
        bits |= FS_WRITE_FILE | FS_TRUNCATE;
    if (rights & LANDLOCK_RUN)
        bits |= FS_EXECUTE;
    if ((rights & LANDLOCK_LIST) && is_folder)
        bits |= FS_READ_DIR;
    return bits;
}

int landlock_allow(struct landlock *rules, const char *path, unsigned rights,
                   struct pt2_err *err)
{
    struct path_beneath_attr rule = {0};
    AUTO_FD int fd = -1;
    struct stat st;

    if (rules->fd < 0)
        return 0;
    fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EACCES))
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "'%s'", path);
    rule.parent_fd = fd;
    rule.allowed = bits_of(rights, S_ISDIR(st.st_mode)) & rules->handled;
    if (rule.allowed &&
        syscall(CALL_ADD_RULE, rules->fd, RULE_PATH_BENEATH, &rule, 0) < 0)
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "a Landlock rule for '%s'", path);
    return 0;
}

#define LIBRARY_RIGHTS (LANDLOCK_READ | LANDLOCK_LIST | LANDLOCK_RUN)

/* "/a:/b", as LD_LIBRARY_PATH; NULL: none. */
static int allow_list(struct landlock *rules, const char *list, struct pt2_err *err)
{
    char path[PATH_MAX];
    size_t n;

    for (; list && *list; list += n + (list[n] == ':')) {
        n = strcspn(list, ":");
        if (n > 0 && n < sizeof(path)) {
            snprintf(path, sizeof(path), "%.*s", (int)n, list);
            if (landlock_allow(rules, path, LIBRARY_RIGHTS, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* Where this program lies: an uninstalled one has its workers beside it. */
static int allow_own_folder(struct landlock *rules, struct pt2_err *err)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    char *slash;

    if (n < 0)
        return 0;
    path[n] = '\0';
    if (!(slash = strrchr(path, '/')) || slash == path)
        return 0;
    *slash = '\0';
    return landlock_allow(rules, path, LIBRARY_RIGHTS, err);
}

int landlock_allow_libraries(struct landlock *rules, struct pt2_err *err)
{
    static const char *const folders[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32",
                                          "/lib64", "/nix/store", "/gnu/store",
                                          PT2_LIBEXECDIR, PT2_TORCH_LIBDIR};
    static const char *const facts[] = {"/etc/ld.so.cache", "/etc/ld.so.preload",
                                        "/etc/alternatives", "/proc/cpuinfo",
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
                                        "/proc", /* their maps, in a program that starts */
#endif
                                        "/sys/devices/system"};

    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        if (landlock_allow(rules, folders[i], LIBRARY_RIGHTS, err) < 0)
            return -1;
    for (size_t i = 0; i < ARRAY_LEN(facts); i++)
        if (landlock_allow(rules, facts[i], LANDLOCK_READ | LANDLOCK_LIST, err) < 0)
            return -1;
    if (allow_list(rules, getenv("LD_LIBRARY_PATH"), err) < 0 ||
        allow_list(rules, getenv("PT2_LIBEXEC"), err) < 0 ||
        allow_own_folder(rules, err) < 0)
        return -1;
    return landlock_allow(rules, "/dev/null", LANDLOCK_READ | LANDLOCK_WRITE, err);
}

int landlock_enter(const struct landlock *rules, struct pt2_err *err)
{
    if (rules->fd < 0)
        return 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "no_new_privs");
    if (syscall(CALL_RESTRICT_SELF, rules->fd, 0) < 0)
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "Landlock");
    return 0;
}
