/* An output that appears whole or not at all: written under a temporary name beside the target and
 * renamed by outfile_done. "-" is standard output. */
#ifndef BASE_OUTFILE_H
#define BASE_OUTFILE_H

#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"

struct outfile;

struct outfile *outfile_open(const char *path, struct arena *a, struct err *e); /* NULL on error */
FILE *outfile_stream(struct outfile *f);
bool outfile_done(struct outfile *f,
                  struct err *e);     /* flush, check, rename; on failure removes the temporary */
void outfile_drop(struct outfile *f); /* accepts NULL and files that are done */

#endif
