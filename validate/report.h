/* The page "How far off are we": every protocol of validate/accuracy.h and DSV's runs from parts,
 * predicted against published, as Markdown and as HTML, with plots. Made again by one command on
 * any folder of tables in the same columns. */
#ifndef VALIDATE_REPORT_H
#define VALIDATE_REPORT_H

#include "base/arena.h"
#include "base/err.h"

struct report_made {
    int lines, plots; /* plots drawn; 0 without gnuplot, whose scripts are written all the same */
    bool gnuplot;
};

/* Reads `data`, loads the shipped h100 profiles for DSV's runs, writes accuracy.md, accuracy.html
 * and *.gp (and *.svg) into `folder`, which must exist. `made_by` is the command line for the page.
 */
bool report_write(const char *data, const char *folder, const char *made_by,
                  struct report_made *out, struct arena *a, struct err *e);

#endif
