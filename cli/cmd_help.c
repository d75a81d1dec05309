/* help, help --man, help COMMAND, completion SHELL: what the program prints about itself. */
#include "cli/help.h"

static const struct arg_group help_options = {
    "Options",
    (const struct arg_option[]){OPTION_FLAG("man", "the man page, as roff"), OPTION_END}};

static bool run_help(struct cli *c, struct err *e)
{
    if (args_given(c->args, "man")) {
        help_man(stdout);
        return true;
    }
    const struct command *about =
        args_operands(c->args) ? help_find(args_operand(c->args, 0), e) : NULL;
    if (about)
        help_command(about, stdout);
    else if (e->code == ERR_NONE)
        help_program(stdout);
    return e->code == ERR_NONE;
}

static bool run_completion(struct cli *c, struct err *e)
{
    return help_complete(args_operand(c->args, 0), stdout, e);
}

static const char *const shells[] = {"bash", "zsh", NULL};

const struct command cmd_completion = {
    .name = "completion",
    .brief = "print the completion script of a shell",
    .usage = "bash|zsh",
    .example = "source <(shardwise completion bash)",
    .about = "The script completes commands, options, their values and the names of presets. An "
             "installed shardwise has it in "
             "place already.",
    .groups = (const struct arg_group *const[]){NULL},
    .operands_least = 1,
    .operands_most = 1,
    .operands = shells,
    .run = run_completion,
};

const struct command cmd_help = {
    .name = "help",
    .brief = "explain the program or a command",
    .usage = "[COMMAND]\n--man",
    .example = "shardwise help plan\nshardwise help --man | man -l -",
    .about = "The same as `shardwise COMMAND --help`. The man page is made from the same tables.",
    .groups = (const struct arg_group *const[]){&help_options, NULL},
    .operands_most = 1,
    .run = run_help,
};
