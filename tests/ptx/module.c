/* A module's life, and the names of things. */
#include "tests/ptx/machine.h"

#include <string.h>

const char *const ptx_class_name[PTX_CLASSES] = {
    [PTX_INTEGER] = "integer",
    [PTX_FLOAT] = "float",
    [PTX_SPECIAL] = "special",
    [PTX_CONVERT] = "convert",
    [PTX_MOVE] = "move",
    [PTX_COMPARE] = "compare",
    [PTX_BRANCH] = "branch",
    [PTX_SHUFFLE] = "shuffle",
    [PTX_BARRIER] = "barrier",
    [PTX_LD_SHARED] = "load shared",
    [PTX_ST_SHARED] = "store shared",
    [PTX_LD_GLOBAL] = "load global",
    [PTX_ST_GLOBAL] = "store global",
    [PTX_LOCAL] = "local",
    [PTX_ATOMIC] = "atomic",
    [PTX_COPY] = "copy",
    [PTX_MATRIX] = "matrix load",
    [PTX_TENSOR] = "tensor core",
};

bool ptx_load(const char *file, const char *text, size_t bytes, struct ptx_module **m,
              struct err *e)
{
    struct arena *a = arena_new();
    struct ptx_module *n = ARENA_NEW(a, struct ptx_module);
    n->arena = a;
    n->file = arena_strdup(a, file);
    bool ok = parse_module(n, text, bytes, e);
    for (int i = 0; ok && i < n->kernels; i++)
        ok = decode_kernel(n, &n->kernel[i], e);
    if (!ok) {
        arena_free(a);
        return false;
    }
    *m = n;
    return true;
}

void ptx_free(struct ptx_module *m)
{
    if (m)
        arena_free(m->arena);
}

int ptx_kernels(const struct ptx_module *m)
{
    return m->kernels;
}

const struct ptx_kernel *ptx_kernel_at(const struct ptx_module *m, int i)
{
    return &m->kernel[i].is;
}

const struct ptx_kernel *ptx_find(const struct ptx_module *m, const char *name)
{
    for (int i = 0; i < m->kernels; i++)
        if (strcmp(m->kernel[i].is.name, name) == 0)
            return &m->kernel[i].is;
    return NULL;
}
