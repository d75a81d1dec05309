/* What a command of the program is, and what it gets. A new command is a cmd_NAME.c with one
 * `struct command` and a line in commands.c: parsing, --help, the man page and completion follow
 * from its tables.
 *
 * Results go to cli_out, all else to stderr, and only main prints errors: a command returns false
 * with an err, whose code is the exit status. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdio.h>

#include "base/outfile.h"
#include "base/prov.h"
#include "base/table.h"
#include "cli/args.h"

struct command;

struct cli { /* one run of one command */
    const struct command *command;
    const struct args *args;
    struct arena *a, *scratch; /* results; what a call may reset */
    struct prov *prov;
    enum table_format format;
    struct outfile *outfile;
};

struct command {
    const char *name;
    const char *brief;   /* one line of the list of commands */
    const char *usage;   /* what follows the name; several forms are lines */
    const char *example; /* opens --help: commands that run as they stand, one a line */
    const char *about;   /* paragraphs, with an empty line between */
    const struct arg_group *const *groups; /* NULL-terminated */
    const struct arg_group *const *study;  /* options that its study file has instead; NULL: none */
    int operands_least, operands_most;
    const char *const *operands; /* what completion offers as the first operand; NULL: files */
    bool (*run)(struct cli *c, struct err *e);
};

extern const struct command *const cli_commands[]; /* NULL-terminated, in the order of --help */

/* Options of all commands with results: --format, and -o for the file that gets them. */
extern const struct arg_group cli_output_options;

/* Where results go: the file of -o, which appears whole when the command succeeds, or standard
 * output. */
FILE *cli_out(struct cli *c, struct err *e);

/* Makes the results so far appear even though the command goes on to fail: "it does not fit" is an
 * answer with a table. */
bool cli_finish(struct cli *c, struct err *e);

/* Notes an input in the provenance: presets by kind and name, as paths differ from machine to
 * machine; other files as the user wrote them. */
bool cli_input(struct cli *c, const char *kind, const char *name, struct err *e);

/* Prints `t` in the asked format, with the provenance before it (inside it, as JSON). `key` names
 * the rows in JSON. */
void cli_table(const struct cli *c, const struct table *t, const char *key, FILE *out);

/* An answer of several tables. Text is the words, then each table that has rows, under its title;
 * JSON the facts and all tables by key; CSV, which holds one table, `rows`. */
struct cli_answer {
    void (*words)(const void *data, FILE *out);
    const void *data;
    const struct cli_fact { /* ends with a NULL key; NaN is null */
        const char *key;
        double value;
    } * facts;
    const struct cli_part {      /* ends with a NULL key */
        const char *key, *title; /* title: a line in text, or NULL */
        const struct table *table;
    } * parts;
    const struct table *rows;
};
bool cli_answer(struct cli *c, const struct cli_answer *answer, struct err *e);

#endif
