/* shardwise COMMAND [options]: finds the command, parses, runs, prints the error if there is one.
 * Exit statuses are those of enum err_code. */
#include <signal.h>
#include <string.h>

#include "cli/help.h"

/* --help or -h before "--", wherever it stands: who asks for help gets it even with other mistakes
 * on the line. */
static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

/* One line: a command's forms, which its help has below each other, after one another. */
static bool say_usage(const struct cli *c, struct err *e)
{
    const char *line = c->command->usage, *end;
    const char *text = arena_printf(c->a, "usage:");
    for (bool more = true; more; line = end + 1) {
        end = line + strcspn(line, "\n");
        more = *end != 0;
        text = arena_printf(c->a, "%s shardwise %s %.*s%s", text, c->command->name,
                            (int)(end - line), line, more ? ", or" : "");
    }
    return err_set(e, ERR_INPUT, err_at_name(NULL), "%s", text);
}

static bool check_operands(const struct cli *c, struct err *e)
{
    int count = args_operands(c->args), most = c->command->operands_most;
    if (count > most)
        return err_set(e, ERR_INPUT, err_at_name(NULL),
                       "'%.80s' is one argument too many for `shardwise %s`; see its --help",
                       args_operand(c->args, most), c->command->name);
    if (count < c->command->operands_least)
        return say_usage(c, e);
    return true;
}

/* An option that has to be written into the study, where --resume finds it again. */
static bool check_study(const struct command *command, int argc, char **argv, struct err *e)
{
    for (int i = 0; command->study && i < argc && strcmp(argv[i], "--") != 0; i++)
        if (args_names(command->study, argv[i]) && !args_names(command->groups, argv[i]))
            return err_set(e, ERR_INPUT, err_at_name(NULL),
                           "'%.80s' is a parameter of the study, not an option of `shardwise %s`: "
                           "write '%.*s: VALUE' in its file",
                           argv[i], command->name, (int)strcspn(argv[i] + 2, "="), argv[i] + 2);
    return true;
}

static bool run(struct cli *c, int argc, char **argv, struct err *e)
{
    if (!check_study(c->command, argc - 2, argv + 2, e))
        return false;
    c->args = args_parse(c->command->name, c->command->groups, argc - 2, argv + 2, c->a, e);
    if (!c->args || !check_operands(c, e))
        return false;
    if (args_known(c->args, "format"))
        c->format = (enum table_format)args_choice_or(c->args, "format", TABLE_TEXT);
    c->prov = prov_new(c->a, argc, argv, 0);
    return c->command->run(c, e) && cli_finish(c, e);
}

static bool run_command(int argc, char **argv, struct err *e)
{
    struct cli c = {.command = help_find(argv[1], e)};
    if (!c.command)
        return false;
    if (wants_help(argc - 2, argv + 2)) {
        help_command(c.command, stdout);
        return true;
    }
    c.a = arena_new();
    c.scratch = arena_new();
    bool ok = run(&c, argc, argv, e);
    outfile_drop(c.outfile);
    arena_free(c.scratch);
    arena_free(c.a);
    return ok;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    signal(SIGXFSZ, SIG_IGN); /* a file over the limit of its size is an error of write */
    const char *first = argc > 1 ? argv[1] : "";
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0)
        help_program(stdout);
    else if (strcmp(first, "--version") == 0)
        printf(SHARDWISE_NAME " %s\n", shardwise_version);
    else if (argc < 2)
        err_set(&e, ERR_INPUT, err_at_name(NULL), "no command; `shardwise --help` lists them");
    else
        run_command(argc, argv, &e);
    if (e.code == ERR_NONE && (fflush(stdout) != 0 || ferror(stdout)))
        err_set(&e, ERR_SYSTEM, err_at_name("standard output"), "cannot be written");
    if (e.code != ERR_NONE)
        fprintf(stderr, "shardwise: %s\n", e.text);
    return (int)e.code;
}
