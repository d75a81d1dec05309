/* What the writer, the reader and the checker of trace files share; not for others. */
#ifndef TRACES_TRACE_FILE_H
#define TRACES_TRACE_FILE_H

#include <hdf5.h>

#include "traces/trace.h"

enum trace_set { SET_INDEX, SET_KEEP, SET_KEEP_Q, SET_WORK, SET_UNION, SET_MASK, TRACE_SETS };

struct trace_set_law {
    const char *name;
    int level; /* least level of a file that has it */
    H5T_class_t class;
    int rank;
};
extern const struct trace_set_law trace_set_laws[TRACE_SETS];

/* Dimensions past the first (records) for this file. */
void trace_set_dims(enum trace_set set, const struct trace_info *info, const struct tiling *t,
                    hsize_t dims[4]);

hid_t trace_index_type(void); /* memory and file type of struct trace_record; H5Tclose it */

bool trace_attrs_write(hid_t file, const struct trace_info *info, const char *path, struct err *e);
bool trace_attrs_read(hid_t file, const char *path, struct trace_info *info, struct err *e);

/* "path: what: HDF5's own innermost message". Always false. */
bool trace_h5_fail(struct err *e, enum err_code code, const char *path, const char *what);

#endif
