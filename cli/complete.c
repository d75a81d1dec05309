/* Completion scripts, from the same tables as --help. What needs a look at the disk (names of
 * presets) the scripts ask of the program itself: shardwise show KIND --names. */
#include <string.h>

#include "cli/help.h"

static void put_words(FILE *out, const char *const *words)
{
    for (int i = 0; words && words[i]; i++)
        fprintf(out, "%s%s", i ? " " : "", words[i]);
}

static void put_commands(FILE *out)
{
    for (int i = 0; cli_commands[i]; i++)
        fprintf(out, "%s%s", i ? " " : "", cli_commands[i]->name);
}

/* ---- bash ---- */

/* What follows an option, as the body of a case: nothing for values that only the user knows. */
static void bash_value(const struct arg_option *o, FILE *out)
{
    if (o->kind == ARG_FLAG)
        return;
    fprintf(out, "    %s:--%s", "*", o->name);
    if (o->letter)
        fprintf(out, " | *:-%c", o->letter);
    fprintf(out, ") ");
    if (o->choices) {
        fprintf(out, "words=\"");
        put_words(out, o->choices);
        fprintf(out, "\"");
    } else if (o->complete && strcmp(o->complete, "file") == 0)
        fprintf(out, "files=1");
    else if (o->complete)
        fprintf(out, "words=$(shardwise show %s --names 2>/dev/null); files=1", o->complete);
    else
        fprintf(out, ":");
    fprintf(out, " ;;\n");
}

/* Options of one name mean the same in all commands but for their choices, so the cases go by
 * command. */
static void bash_command(const struct command *c, FILE *out)
{
    fprintf(out, "  %s)\n    case $command:$before in\n", c->name);
    for (int i = 0; c->groups[i]; i++)
        for (const struct arg_option *o = c->groups[i]->options; o->name; o++)
            bash_value(o, out);
    fprintf(out, "    *) words=\"--help");
    for (int i = 0; c->groups[i]; i++)
        for (const struct arg_option *o = c->groups[i]->options; o->name; o++)
            fprintf(out, " --%s", o->name);
    fprintf(out, "\"\n       [[ $current == -* ]] || { words=\"");
    put_words(out, c->operands);
    fprintf(out, "\"; files=%d; } ;;\n    esac ;;\n", c->operands_most > 0 && !c->operands);
}

static void complete_bash(FILE *out)
{
    fputs("# bash completion of shardwise; made by `shardwise completion bash`\n"
          "_shardwise()\n{\n"
          "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} "
          "command=${COMP_WORDS[1]} words= files=0\n"
          "  if [[ $current == = ]]; then current=; fi\n"
          "  if [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
          "  if ((COMP_CWORD == 1)); then command=; fi\n"
          "  case $command in\n  '') words=\"",
          out);
    put_commands(out);
    fputs(" --help --version\" ;;\n", out);
    for (int i = 0; cli_commands[i]; i++)
        bash_command(cli_commands[i], out);
    fputs("  esac\n"
          "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
          "  if ((files)); then COMPREPLY+=($(compgen -f -- \"$current\")); fi\n"
          "}\ncomplete -o filenames -F _shardwise shardwise\n",
          out);
}

/* ---- zsh ---- */

/* Text inside '...' in an _arguments specification. */
static void zsh_text(FILE *out, const char *text)
{
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", out);
        else {
            if (strchr("[]:\\", *text))
                fputc('\\', out);
            fputc(*text, out);
        }
}

static void zsh_option(const struct arg_option *o, FILE *out)
{
    fprintf(out, "      '--%s%s[", o->name, o->kind == ARG_FLAG ? "" : "=");
    zsh_text(out, o->help);
    fputs("]", out);
    if (o->kind != ARG_FLAG) {
        fputs(":", out);
        zsh_text(out, o->value);
        fputs(":", out);
        if (o->choices) {
            fputs(o->kind == ARG_CHOICES ? "_sequence compadd - " : "(", out);
            put_words(out, o->choices);
            fputs(o->kind == ARG_CHOICES ? "" : ")", out);
        } else if (o->complete && strcmp(o->complete, "file") == 0)
            fputs("_files", out);
        else if (o->complete)
            fprintf(out, "_shardwise_presets %s", o->complete);
    }
    fputs("' \\\n", out);
}

static void zsh_command(const struct command *c, FILE *out)
{
    fprintf(out, "  %s)\n    _arguments \\\n", c->name);
    for (int i = 0; c->groups[i]; i++)
        for (const struct arg_option *o = c->groups[i]->options; o->name; o++)
            zsh_option(o, out);
    fputs("      '--help[show the options]' \\\n      '1: :(", out);
    fputs(c->name, out);
    fputs(")' \\\n      '*: :", out);
    if (c->operands) {
        fputs("(", out);
        put_words(out, c->operands);
        fputs(")", out);
    } else if (c->operands_most > 0)
        fputs("_files", out);
    fputs("' ;;\n", out);
}

static void complete_zsh(FILE *out)
{
    fputs("#compdef shardwise\n# zsh completion of shardwise; made by `shardwise completion zsh`\n"
          "_shardwise_presets()\n{\n  compadd - $(shardwise show $1 --names 2>/dev/null)\n  "
          "_files\n}\n"
          "_shardwise()\n{\n  if ((CURRENT == 2)); then\n    local -a commands=(\n",
          out);
    for (int i = 0; cli_commands[i]; i++) {
        fprintf(out, "      '%s:", cli_commands[i]->name);
        zsh_text(out, cli_commands[i]->brief);
        fputs("'\n", out);
    }
    fputs("    )\n    _describe command commands\n    return\n  fi\n  case $words[2] in\n", out);
    for (int i = 0; cli_commands[i]; i++)
        zsh_command(cli_commands[i], out);
    fputs("  esac\n}\n_shardwise \"$@\"\n", out);
}

bool help_complete(const char *shell, FILE *out, struct err *e)
{
    static const struct {
        const char *name;
        void (*write)(FILE *out);
    } shells[] = {{"bash", complete_bash}, {"zsh", complete_zsh}};
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (strcmp(shell, shells[i].name) == 0) {
            shells[i].write(out);
            return true;
        }
    return err_set(e, ERR_INPUT, err_at_name(NULL),
                   "no completion for '%.80s'; there is bash and zsh", shell);
}
