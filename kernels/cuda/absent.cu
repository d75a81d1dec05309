/* While the backend is being built: what is not there yet refuses. Weak, so that the real functions
 * need no change here. */
#include "kernels/cuda/cuda.h"

#define ABSENT(name, ...)                                                                          \
    __attribute__((weak)) bool name(__VA_ARGS__, struct err *e)                                    \
    {                                                                                              \
        return err_set(e, ERR_DEVICE, err_at_name(#name), "this build does not have it");          \
    }

ABSENT(cuda_select, const struct kern_select *)
ABSENT(cuda_unite, const struct kern_union *, int)
ABSENT(cuda_remap, const struct kern_remap *, int)
ABSENT(cuda_copy, const struct kern_copy *, int)
ABSENT(cuda_gather, const struct kern_gather *, int)
ABSENT(cuda_scatter_add, const struct kern_scatter *, int)
ABSENT(cuda_merge, const struct kern_merge *, int)
ABSENT(cuda_to_bf16, uint16_t *, const float *, int64_t)
ABSENT(cuda_to_fp32, float *, const uint16_t *, int64_t)
