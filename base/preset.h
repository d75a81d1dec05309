/* Finds data files by short name: "h100" of kind "gpu" is presets/gpu/h100.yaml, "webvid-2.7b-28k"
 * of kind "sparsity" is presets/sparsity/webvid-2.7b-28k.csv. Each of these folders that exists is
 * looked into, and the first that has the name wins: $SHARDWISE_PRESETS, ../share/shardwise/presets
 * beside the program (so that an installed tree may be moved), the source tree that the program was
 * built from, the data folder it was configured for. A name with a '/' or ending in .yaml, .yml,
 * .json, .csv, .h5 or .hdf5 is a path of the user's own. */
#ifndef BASE_PRESET_H
#define BASE_PRESET_H

#include "base/arena.h"
#include "base/err.h"

/* The path, in `a`, or NULL with ERR_INPUT at `at`: "no model 'hunyan'; did you mean
 * 'hunyuanvideo-13b'? `shardwise show models` lists them". Names are matched without case. */
const char *preset_find(const char *kind, const char *name, struct err_at at, struct arena *a,
                        struct err *e);

/* `name` as the file `file` means it, in `a`: a path that is not absolute begins in that file's
 * folder if it leads to something there, else in the working folder. Other names stay. */
const char *preset_beside(const char *name, const char *file, struct arena *a);

/* All names of a kind, sorted, NULL-terminated; NULL when a folder cannot be listed. */
const char **preset_list(const char *kind, struct arena *a, struct err *e);

#endif
