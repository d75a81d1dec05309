/* Any bytes as an nccl-tests log: read or refused; what is read is positive and becomes points or a
 * message. */
#include <stdint.h>
#include <stdlib.h>

#include "validate/nccl_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct nccl_log log;
    struct err e = {0};
    if (nccl_log_parse("fuzz", (const char *)data, size, a, &log, &e)) {
        struct nccl_facts facts = {.nic_bytes_per_s = 50e9};
        struct points p;
        for (int i = 0; i < log.runs; i++)
            for (int k = 0; k < log.run[i].rows; k++)
                if (!(log.run[i].row[k].bytes > 0) || !(log.run[i].row[k].time_s > 0))
                    abort();
        if (!nccl_points("fuzz", &log, &facts, "h100", a, &p, &e) && e.code != ERR_INPUT)
            abort();
    } else if (e.code != ERR_INPUT || !e.text[0]) {
        abort();
    }
    arena_free(a);
    return 0;
}
