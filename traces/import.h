/* Other programs' sparsity as vdit-trace/1 files.
 *
 *   .npy .npz safetensors   keep or sparsity [layer][head] or [step][layer][head] -> level 0; block masks [group][block],
 *                           with head, layer and step in front -> level 2
 *   .json                   windows per head (sliding tile attention): "step_layer_head": [t, h, w] in tiles, or a
 *                           pattern text in place of the three numbers -> level 2
 *   .csv                    step, block, head, keep -> level 0
 * Torch objects (DSV's .pt, db-SP, SpargeAttn, BlockMask, VSA) go through traces/capture/import_torch.py. */
#ifndef TRACES_IMPORT_H
#define TRACES_IMPORT_H

#include "traces/trace.h"

enum import_as { IMPORT_AUTO, IMPORT_KEEP, IMPORT_SPARSITY, IMPORT_MASK, IMPORT_KINDS };
extern const char *const import_as_names[IMPORT_KINDS + 1];

struct import_job {
    enum import_as as;
    const char *array;      /* name in the file; NULL: the only one that fits */
    const char *model;      /* stored in the file; may be NULL */
    struct grid grid;       /* t == 0: unknown, blocks are runs of block[2] tokens */
    int group[3], block[3]; /* cubes; with an unknown grid only block[2] counts */
    int64_t step, stride;   /* numbers of the steps in the arrays */
    uint64_t seed;          /* for pattern texts */
};
struct import_job import_default(void);

/* Writes `to` from `from`; nothing is left at `to` on an error. */
bool import_file(const char *from, const struct import_job *job, const char *to, struct err *e);

#endif
