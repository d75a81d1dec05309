/* Any bytes as .npy, .npz or safetensors: no crash, no value outside the bytes, no unbounded memory. */
#include "traces/array.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct err e = {0};
    unsigned char *exact =
        malloc(size ? size : 1); /* no byte behind it, for the sanitizer to see */
    memcpy(exact, data, size);
    struct array_file *f = array_parse("fuzz", exact, size, &e);
    if ((f != NULL) != (e.code == ERR_NONE))
        abort();
    for (int i = 0; f && i < array_count(f); i++) {
        struct array a;
        struct err none = {0};
        if (!array_get(f, i, &a, &none))
            continue;
        int64_t n = array_elements(&a), last = 0;
        for (int k = 0; k < a.rank; k++)
            last += (a.dims[k] - 1) * a.strides[k];
        if (n > 0)
            array_value(&a, 0), array_value(&a, last);
    }
    array_close(f);
    free(exact);
    return 0;
}
