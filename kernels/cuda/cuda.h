/* What the files of the CUDA backend share. The functions of struct kern_backend keep its contract
 * (kernels/kern.h); each lies in the file named above it.
 *
 * There is no state: work goes to the default stream of the calling thread, scratch comes from the
 * stream-ordered allocator and is given back in the same call, and descriptors travel as kernel
 * parameters, a batch of heads at a time. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include "kernels/kern.h"

#include "kernels/cuda/prim.cuh"

extern "C" const struct kern_backend kern_cuda;

/* backend.cu */
#define CUDA_STREAM cudaStreamPerThread

/* False and ERR_DEVICE ("forward: an illegal memory access ... (cudaErrorIllegalAddress)") unless
 * `status` is cudaSuccess; out of memory is ERR_SYSTEM, with how much is free. */
bool cuda_ok(cudaError_t status, const char *what, struct err *e);

struct cuda_device {
    int sm;                     /* compute capability x 10: 80, 90, 100 */
    int processors;             /* streaming multiprocessors */
    int shared_bytes_per_block; /* the most that a kernel may ask for */
};
bool cuda_device(struct cuda_device *d, struct err *e); /* of the current device */

/* Scratch until cuda_scratch_free, in the stream's order; both without waiting. */
bool cuda_scratch(size_t bytes, void **p, const char *what, struct err *e);
void cuda_scratch_free(void *p); /* accepts NULL */

/* False and ERR_INPUT that names `head` and `name` unless p is a multiple of `bytes`. Rows of Q, K,
 * V, O and gradients are read 16 bytes at a time. */
bool cuda_aligned(const void *p, int bytes, int head, const char *name, struct err *e);

/* The same of entry `entry` of a call of `what`, where NULL is fine. */
bool cuda_entry_aligned(const void *p, int bytes, const char *what, int entry, const char *name,
                        struct err *e);

/* LSE and the arrays of keys.list, .count and .bitmap, which are read word by word. */
bool cuda_words_aligned(const struct kern_head *h, int head, struct err *e);

/* False and ERR_INPUT if there are entries, but nowhere, or less than none. */
bool cuda_entries(const void *entries, int count, const char *what, struct err *e);

/* forward.cu, backward.cu */
bool cuda_forward(const struct kern_attention *a, struct err *e);
bool cuda_backward(const struct kern_attention *a, struct err *e);

/* The same by a named variant, for tests and bench/: "mma", "wgmma", ...; "ordered", "bulk", ...;
 * "cudnn". ERR_INPUT lists the names that this device has. NULL: what cuda_forward would take. */
bool cuda_forward_by(const char *variant, const struct kern_attention *a, struct err *e);
bool cuda_backward_by(const char *variant, const struct kern_attention *a, struct err *e);

/* cudnn.cu: dense attention by cuDNN 9.13 or later, where it can be loaded (libcudnn.so.9). Heads
 * of one shape, with bf16 O. ERR_DEVICE without cuDNN or a GPU, ERR_INPUT for what it has no engine
 * for. cuda_cudnn_new makes a plan, which takes a while, for heads of this shape and spacing in
 * memory; cuda_cudnn_run asks for one run of it. The other two do both, and wait. */
struct cuda_cudnn;
struct cuda_cudnn *cuda_cudnn_new(const struct kern_attention *a, bool backward, struct err *e);
bool cuda_cudnn_run(struct cuda_cudnn *p, const struct kern_attention *a, struct err *e);
void cuda_cudnn_free(struct cuda_cudnn *p); /* accepts NULL */
bool cuda_cudnn_forward(const struct kern_attention *a, struct err *e);
bool cuda_cudnn_backward(const struct kern_attention *a, struct err *e);

/* Does cuDNN take the operations, as far as it can tell without a GPU? */
bool cuda_cudnn_accepts(const struct kern_attention *a, bool backward, struct err *e);

/* select.cu */
bool cuda_select(const struct kern_select *s, struct err *e);

/* unite.cu */
bool cuda_unite(const struct kern_union *u, int count, struct err *e);
bool cuda_remap(const struct kern_remap *r, int count, struct err *e);

/* move.cu */
bool cuda_copy(const struct kern_copy *c, int count, struct err *e);
bool cuda_gather(const struct kern_gather *g, int count, struct err *e);
bool cuda_scatter_add(const struct kern_scatter *s, int count, struct err *e);
bool cuda_merge(const struct kern_merge *m, int count, struct err *e);
bool cuda_to_bf16(uint16_t *dst, const float *src, int64_t count, struct err *e);
bool cuda_to_fp32(float *dst, const uint16_t *src, int64_t count, struct err *e);

#endif
