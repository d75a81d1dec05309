/* All that is printed about the program itself, from the tables of commands and options. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include <stdio.h>

#include "cli/cli.h"

void help_program(FILE *out);                          /* shardwise --help */
void help_command(const struct command *c, FILE *out); /* shardwise plan --help */
void help_man(FILE *out);                              /* shardwise.1, for man(7) macros */
bool help_complete(const char *shell, FILE *out, struct err *e); /* a script for bash or zsh */

/* NULL and ERR_INPUT with the nearest name. */
const struct command *help_find(const char *name, struct err *e);

#endif
