/* Checks trace files named on the command line with the C reader: what Python wrote must be what C reads. */
#include <stdio.h>

#include "traces/trace.h"

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct err e = {0};
        if (!trace_check(argv[i], &e)) {
            fprintf(stderr, "%s\n", e.text);
            return e.code;
        }
        struct trace_reader *r = trace_open(argv[i], &e);
        printf("%d records: good\n", trace_records(r));
        trace_close(r);
    }
    return argc > 1 ? 0 : 2;
}
