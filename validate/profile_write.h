/* Writes profiles in the form that model/prof.h reads. `made_by` is the command line; `fitted` says
 * what was fitted and how well. */
#ifndef VALIDATE_PROFILE_WRITE_H
#define VALIDATE_PROFILE_WRITE_H

#include <stdio.h>

#include "model/prof.h"

void profile_write_net(const struct prof_net *p, const char *made_by, const char *fitted,
                       FILE *out);
void profile_write_kernels(const struct prof_kernels *p, const char *made_by, const char *fitted,
                           FILE *out);

#endif
