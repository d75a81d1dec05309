/* libFuzzer target of the NCCL topology reader: any bytes give wires or one message, within bounded
 * time and memory. What reads as a topology must also route. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "sim/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct xml_options o = {.servers = 1 + (int)(size % 3), .nvlink_latency_s = 1e-6};
    const struct topo *t = topo_of_nccl_text("fuzz", (const char *)data, size, &o, a, &e);
    if (!t && e.code == ERR_NONE)
        abort(); /* a refusal says why */
    if (t && t->gpu_count > 1 && t->gpu_count < 64) {
        struct wire *w = wire_new(t);
        wire_route(w, 0, t->gpu_count - 1, NULL);
        wire_free(w);
    }
    arena_free(a);
    return 0;
}
