#include "cli/help.h"

#include <string.h>

#include "base/nearest.h"

enum { WIDTH = 100, INDENT = 30 };

const struct command *help_find(const char *name, struct err *e)
{
    const char *names[64] = {0};
    for (int i = 0; cli_commands[i] && i < 63; i++) {
        names[i] = cli_commands[i]->name;
        if (strcmp(name, names[i]) == 0)
            return cli_commands[i];
    }
    const char *near = nearest_name(name, names);
    err_set(e, ERR_INPUT, err_at_name(NULL),
            "'%.80s' is no command%s%s%s `shardwise --help` lists them", name,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : ";");
    return NULL;
}

/* ---- text for people ---- */

/* Prints `text` word by word from column `column` on, new lines indented. */
static void wrap(FILE *out, const char *text, int column, int indent)
{
    for (const char *word = text; *word;) {
        int length = (int)strcspn(word, " ");
        if (column + length > WIDTH && column > indent) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        }
        fprintf(out, "%.*s", length, word);
        column += length + 1;
        word += length;
        if (*word == ' ') {
            word++;
            if (column + (int)strcspn(word, " ") <= WIDTH)
                fputc(' ', out);
        }
    }
    fputc('\n', out);
}

/* Paragraphs stand apart in `text` by an empty line; one newline is a space in the sources only. */
static void paragraphs(FILE *out, const char *text)
{
    while (*text) {
        const char *end = strstr(text, "\n\n");
        char part[2048];
        snprintf(part, sizeof part, "%.*s", (int)(end ? end - text : (long)strlen(text)), text);
        wrap(out, part, 0, 0);
        fputc('\n', out);
        text = end ? end + 2 : text + strlen(text);
    }
}

static void lines(FILE *out, const char *text, const char *before)
{
    while (*text) {
        int length = (int)strcspn(text, "\n");
        fprintf(out, "%s%.*s\n", before, length, text);
        text += length + (text[length] == '\n');
    }
}

/* "dense, sparse" after the help of options with choices. */
static void option_words(const struct arg_option *o, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s", o->help);
    for (int i = 0; o->choices && o->choices[i] && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : ": ", o->choices[i]);
}

static void option_text(const struct arg_option *o, FILE *out)
{
    char text[1024], letter[8] = "";
    if (o->letter)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    int column = fprintf(out, "  %s--%s%s%s", letter, o->name, *o->value ? " " : "", o->value);
    int pad = column + 2 <= INDENT ? INDENT - column : 2;
    fprintf(out, "%*s", pad, "");
    option_words(o, text, sizeof text);
    wrap(out, text, column + pad, INDENT);
}

void help_command(const struct command *c, FILE *out)
{
    fprintf(out, "Example:\n");
    lines(out, c->example, "  ");
    fprintf(out, "\nUsage:\n");
    char before[64];
    snprintf(before, sizeof before, "  shardwise %s ", c->name);
    lines(out, c->usage, before);
    fputc('\n', out);
    paragraphs(out, c->about);
    for (int i = 0; c->groups[i]; i++) {
        fprintf(out, "%s:\n", c->groups[i]->title);
        for (const struct arg_option *o = c->groups[i]->options; o->name; o++)
            option_text(o, out);
        fputc('\n', out);
    }
    fprintf(out, "Numbers take units and prefixes: 128k, 64 GiB, 450 GB/s, 12.5 ms, 90%%.\n");
}

static const char *const statuses[] = {
    "0  done",
    "1  the machine said no: a file cannot be read or written",
    "2  bad input or usage",
    "3  a right question without an answer: no plan fits",
    "4  GPU, driver or a peer rank",
    "5  measured and predicted differ by more than was allowed",
};

void help_program(FILE *out)
{
    fputs("Example:\n", out);
    lines(out, cli_commands[0]->example, "  ");
    fputs("\nUsage:\n  shardwise COMMAND [options]\n\nPlans context-parallel sparse attention of "
          "video diffusion "
          "transformers.\n\nCommands:\n",
          out);
    for (int i = 0; cli_commands[i]; i++)
        fprintf(out, "  %-12s %s\n", cli_commands[i]->name, cli_commands[i]->brief);
    fprintf(out, "\n`shardwise COMMAND --help` shows the options of a command; `shardwise "
                 "--version` the version.\n"
                 "Results go to standard output, all else to standard error.\n\nExit status:\n");
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        fprintf(out, "  %s\n", statuses[i]);
}

/* ---- the man page ---- */

/* Text for roff: '-' and '\' escaped, and no line begins with a control character. */
static void roff(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++)
        if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '\n')
            fputs(text[1] == '\n'                     ? "\n.PP"
                  : text[1] == '.' || text[1] == '\'' ? "\n\\&"
                                                      : "\n",
                  out);
        else
            fputc(*text, out);
}

static void roff_option(const struct arg_option *o, FILE *out)
{
    char text[1024];
    fputs(".TP\n", out);
    if (o->letter)
        fprintf(out, "\\fB\\-%c\\fR, ", o->letter);
    fputs("\\fB\\-\\-", out);
    roff(out, o->name);
    fprintf(out, "\\fR%s\\fI", *o->value ? " " : "");
    roff(out, o->value);
    fputs("\\fR\n", out);
    option_words(o, text, sizeof text);
    roff(out, text);
    fputc('\n', out);
}

static void roff_command(const struct command *c, FILE *out)
{
    fprintf(out, ".SS %s\n.EX\n", c->name);
    for (const char *line = c->usage; *line;) {
        int length = (int)strcspn(line, "\n");
        char text[512];
        snprintf(text, sizeof text, "shardwise %s %.*s\n", c->name, length, line);
        roff(out, text);
        line += length + (line[length] == '\n');
    }
    fputs(".EE\n.PP\n", out);
    roff(out, c->about);
    fputs("\n.PP\nFor example:\n.PP\n.EX\n", out);
    roff(out, c->example);
    fputs("\n.EE\n", out);
    for (int i = 0; c->groups[i]; i++) {
        fprintf(out, ".PP\n%s:\n", c->groups[i]->title);
        for (const struct arg_option *o = c->groups[i]->options; o->name; o++)
            roff_option(o, out);
    }
}

void help_man(FILE *out)
{
    fprintf(out, ".TH SHARDWISE 1 \"\" \"shardwise %s\" \"User Commands\"\n", shardwise_version);
    fputs(".SH NAME\nshardwise \\- plan context\\-parallel sparse attention of video diffusion "
          "transformers\n"
          ".SH SYNOPSIS\n.B shardwise\n.I command\n[options]\n.SH DESCRIPTION\nOf a model, a "
          "cluster and measured sparsity it "
          "chooses, block by block, how attention is split over GPUs, predicts how long a step "
          "takes and how much memory it "
          "needs, and says why.\nResults go to standard output, all else to standard error.\n"
          "Numbers take units and prefixes: 128k, 64 GiB, 450 GB/s, 12.5 ms, 90%.\n.PP\n.EX\n",
          out);
    roff(out, cli_commands[0]->example);
    fputs("\n.EE\n.SH COMMANDS\n", out);
    for (int i = 0; cli_commands[i]; i++)
        roff_command(cli_commands[i], out);
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        fprintf(out, ".TP\n.B %c\n%s\n", statuses[i][0], statuses[i] + 3);
    fputs(".SH ENVIRONMENT\n.TP\n.B SHARDWISE_PRESETS\nA folder of presets that is looked into "
          "before the installed one.\n",
          out);
}
