/* pt2ctl.c - the client of pt2d, for people and scripts: pt2ctl(1). */
#include "base/json.h"
#include "cmd/ctl.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_show.h"

#include <locale.h>

static const struct ctl_command commands[] = {
    {"models", ctl_cmd_models, "what can be exported"},
    {"push", ctl_cmd_push, "send a checkpoint directory to the daemon"},
    {"pull", ctl_cmd_pull, "bring a model from a Hugging Face hub"},
    {"export", ctl_cmd_export, "export a model, wait, download the program"},
    {"exports", ctl_cmd_exports, "the export jobs"},
    {"programs", ctl_cmd_programs, "the programs; upload, download, forget one"},
    {"aliases", ctl_cmd_aliases, "names for programs"},
    {"inspect", ctl_cmd_inspect, "what is in a program, or in a .pt2 file here"},
    {"step", ctl_cmd_step, "run tokens through a program or a session"},
    {"generate", ctl_cmd_generate, "continue a text"},
    {"sessions", ctl_cmd_sessions, "the sessions; open, fork, save one"},
    {"status", ctl_cmd_status, "is the daemon well?"},
    {"token", ctl_cmd_token, "make a token for the daemon's token file"},
};

static void on_signal(int signal)
{
    ctl_interrupted = 1;
}

static void print_help(struct ctl *ctl)
{
    puts("usage: pt2ctl COMMAND [ARGUMENTS]\n\n"
         "The client of pt2d: exports of language models, and sessions on them.\n\n"
         "commands (pt2ctl COMMAND --help says more):");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        printf("  %-12s  %s\n", commands[i].name, commands[i].about);
    puts("\neverywhere:");
    ctl_print_options(stdout, ctl_global_options(ctl));
    puts("\nenvironment: PT2_SERVER (the daemon), PT2_TOKEN (sent as Bearer token),\n"
         "PT2_CACERT, PT2_CERT, PT2_KEY (of https);\n"
         "of pull, as the hub's own tools have them: HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, "
         "HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE");
}

static const struct ctl_command *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (streq(commands[i].name, name))
            return &commands[i];
    return NULL;
}

/* Where in argv the command stands: behind options that may come before it. */
static int command_place(int argc, char **argv)
{
    int i = 1;

    while (i < argc && argv[i][0] == '-')
        i += streq(argv[i], "-s") || streq(argv[i], "--server") ? 2 : 1;
    return i;
}

/* Run the command with argv[0] its name and the options that stood before it behind it.
 */
static int run(struct ctl *ctl, int argc, char **argv)
{
    int place = command_place(argc, argv);
    const struct ctl_command *command;
    char *name;

    if (argc > 1 && (streq(argv[1], "--version") || streq(argv[1], "-V"))) {
        puts("pt2ctl " PACKAGE_VERSION);
        return 0;
    }
    if (argc > 1 && (streq(argv[1], "--help") || streq(argv[1], "-h") ||
                     (streq(argv[1], "help") && argc == 2))) {
        print_help(ctl);
        return 0;
    }
    if (place >= argc)
        return ctl_fail(ctl, CTL_USAGE, "no command; pt2ctl --help says which there are");
    command = find(argv[place]);
    if (!command)
        return ctl_fail(ctl, CTL_USAGE,
                        "there is no command '%s'; pt2ctl --help says which there are",
                        argv[place]);
    name = argv[place];
    memmove(argv + 2, argv + 1, (size_t)(place - 1) * sizeof(*argv));
    argv[1] = name;
    return command->run(ctl, argc - 1, argv + 1);
}

/* What went wrong, on standard error: a problem object where --json was given. */
static void print_failure(const struct ctl *ctl)
{
    json_auto_t *own = NULL;

    if (!ctl->json) {
        fputs("pt2ctl: ", stderr);
        show_text(stderr, ctl->text, true);
    } else {
        own = ctl->problem ? json_incref(ctl->problem)
                           : json_pack("{s:o*}", "detail", json_string_lossy(ctl->text));
        json_dumpf(own, stderr, JSON_INDENT(1));
    }
    fputc('\n', stderr);
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.server = getenv("PT2_SERVER"),
                      .token = getenv("PT2_TOKEN"),
                      .cacert = getenv("PT2_CACERT"),
                      .cert = getenv("PT2_CERT"),
                      .key = getenv("PT2_KEY")};
    struct sigaction action = {.sa_handler = on_signal};

    setlocale(LC_CTYPE, "");
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (run(&ctl, argc, argv) == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        ctl_fail(&ctl, CTL_FILE, "standard output could not be written");
    fflush(stdout);
    if (ctl.exit != CTL_OK)
        print_failure(&ctl);
    ctl_http_done(&ctl);
    json_decref(ctl.problem);
    return ctl.exit;
}
