/* Unions of selections, and lists in terms of them.
 *
 * unite: all[w] = OR over groups of bitmap[g][w]; rows = the set bits of `all`, ascending.
 *   A thread has one word (a warp 128 bytes of a group's bitmap) and OR_GROUPS groups; parts are
 *   OR-ed in memory. Bytes: groups x keys / 8, once; at 4.8 TB/s 13 us for 4 heads of 2,000 groups
 *   and 64,000 keys. Then one block for each union makes the list, 4,096 words a step.
 *
 * remap: list[g] = positions, among the set bits of `all`, of the group's keys.
 *   A warp has a group, 32 words a step: prefix sums of both popcounts over the lanes; entries go
 *   through 4 KiB of shared memory of the warp, so that lines of the list are written whole. Bytes:
 *   4 for each entry; about 100 instructions a step of 32 words.
 *
 * Both end with a copy to the host (the row counts; whether anything was refused), which waits. */
#include "kernels/cuda/cuda.h"

enum {
    THREADS = 256,
    OR_GROUPS = 64, /* that a thread reads */
    LIST_THREADS = 1024,
    LIST_WORDS = 4, /* of a thread, in one step */
    WARPS = THREADS / 32,
    STEP_KEYS = 1024, /* of 32 words, one a lane */
    ENTRIES = 48      /* in one launch */
};

/* ---- unite ----------------------------------------------------------------------------------- */

struct unions {
    struct kern_union entry[ENTRIES];
    int64_t *rows; /* [count] how many */
};

__global__ void __launch_bounds__(THREADS) unite_clear(const __grid_constant__ struct unions all)
{
    const struct kern_union *u = &all.entry[blockIdx.y];
    int64_t w = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (w < u->bitmap_words)
        u->all[w] = 0;
}

__global__ void __launch_bounds__(THREADS) unite_or(const __grid_constant__ struct unions all)
{
    const struct kern_union *u = &all.entry[blockIdx.z];
    int64_t w = (int64_t)blockIdx.x * THREADS + threadIdx.x,
            first = (int64_t)blockIdx.y * OR_GROUPS;
    int64_t last = min(first + OR_GROUPS, u->groups);
    if (w >= (u->keys + 31) / 32)
        return;
    uint32_t bits = 0;
    const uint32_t *word = u->bitmap + w;
#pragma unroll 8
    for (int64_t g = first; g < last; g++)
        bits |= __ldg(word + g * u->bitmap_words);
    if (u->keys - w * 32 < 32) /* bits behind the last key */
        bits &= ~(~0u << (u->keys - w * 32));
    if (bits)
        atomicOr(&u->all[w], bits);
}

/* Sum over the lanes up to and with this one. */
DEV int sum_up_to(int x, int lane)
{
    for (int by = 1; by < 32; by *= 2) {
        int other = __shfl_up_sync(~0u, x, by);
        x += lane >= by ? other : 0;
    }
    return x;
}

/* This thread's entries come after how many of the block's? *total: of the block. */
DEV int sum_before(int mine, int *total)
{
    int *warps = (int *)dev_shared(); /* [32] sums of warps, in a second half sums up to them */
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    int within = sum_up_to(mine, lane);
    if (lane == 31)
        warps[warp] = within;
    __syncthreads();
    if (warp == 0)
        warps[32 + lane] = sum_up_to(warps[lane], lane);
    __syncthreads();
    *total = warps[63];
    int before = (warp > 0 ? warps[31 + warp] : 0) + within - mine;
    __syncthreads();
    return before;
}

__global__ void __launch_bounds__(LIST_THREADS)
    unite_list(const __grid_constant__ struct unions all)
{
    const struct kern_union *u = &all.entry[blockIdx.x];
    int64_t words = (u->keys + 31) / 32, before = 0;
    for (int64_t first = 0; first < words; first += LIST_THREADS * LIST_WORDS) {
        uint32_t bits[LIST_WORDS];
        int64_t w = first + (int64_t)threadIdx.x * LIST_WORDS;
        int mine = 0, total;
#pragma unroll
        for (int i = 0; i < LIST_WORDS; i++) {
            bits[i] = w + i < words ? u->all[w + i] : 0;
            mine += __popc(bits[i]);
        }
        int64_t n = before + sum_before(mine, &total);
#pragma unroll
        for (int i = 0; i < LIST_WORDS; i++)
            for (uint32_t rest = u->rows ? bits[i] : 0; rest; rest &= rest - 1)
                u->rows[n++] = (int32_t)((w + i) * 32 + __ffs((int)rest) - 1);
        before += total;
    }
    if (threadIdx.x == 0)
        all.rows[blockIdx.x] = before;
}

static unsigned blocks_of(int64_t n, int each)
{
    return (unsigned)((n + each - 1) / each);
}

static cudaError_t unite_launch(const struct unions *u, int count, int64_t words, int64_t groups)
{
    dim3 clear(blocks_of(words, THREADS), (unsigned)count),
        parts(blocks_of(words, THREADS), blocks_of(groups, OR_GROUPS), (unsigned)count);
    cudaError_t bad = cudaSuccess;
    if (words > 0)
        bad = dev_launch(unite_clear, clear, dim3(THREADS), 0, CUDA_STREAM, *u);
    if (bad == cudaSuccess && words > 0 && groups > 0)
        bad = dev_launch(unite_or, parts, dim3(THREADS), 0, CUDA_STREAM, *u);
    return bad != cudaSuccess ? bad
                              : dev_launch(unite_list, dim3((unsigned)count), dim3(LIST_THREADS),
                                           64 * sizeof(int), CUDA_STREAM, *u);
}

static bool unite_check(const struct kern_union *u, int entry, struct err *e)
{
    if (u->groups < 0 || u->keys < 0 || u->keys > INT32_MAX || u->bitmap_words > INT32_MAX ||
        u->bitmap_words < kern_words(u->keys))
        return err_set(e, ERR_INPUT, err_at_name("unite"),
                       "entry %d: %lld groups, %lld keys, %lld words: want a bit for every key",
                       entry, (long long)u->groups, (long long)u->keys, (long long)u->bitmap_words);
    if (u->groups > (int64_t)OR_GROUPS * 65535)
        return err_set(e, ERR_INPUT, err_at_name("unite"), "entry %d: %lld groups, want up to %lld",
                       entry, (long long)u->groups, (long long)OR_GROUPS * 65535);
    if (!u->row_count || (u->bitmap_words > 0 && (!u->all || (u->groups > 0 && !u->bitmap))))
        return err_set(e, ERR_INPUT, err_at_name("unite"), "entry %d: a NULL address", entry);
    return cuda_entry_aligned(u->bitmap, 4, "unite", entry, "bitmap", e) &&
           cuda_entry_aligned(u->all, 4, "unite", entry, "all", e) &&
           cuda_entry_aligned(u->rows, 4, "unite", entry, "rows", e);
}

/* Up to ENTRIES unions. */
static bool unite_batch(const struct kern_union *u, int count, struct err *e)
{
    struct unions all = {};
    int64_t words = 0, groups = 0, rows[ENTRIES];
    for (int i = 0; i < count; i++) {
        all.entry[i] = u[i];
        words = u[i].bitmap_words > words ? u[i].bitmap_words : words;
        groups = u[i].groups > groups ? u[i].groups : groups;
    }
    void *scratch = NULL;
    if (!cuda_scratch(sizeof rows, &scratch, "unite", e))
        return false;
    all.rows = (int64_t *)scratch;
    bool ok = cuda_ok(unite_launch(&all, count, words, groups), "unite", e) &&
              cuda_ok(cudaMemcpyAsync(rows, scratch, (size_t)count * sizeof *rows,
                                      cudaMemcpyDeviceToHost, CUDA_STREAM),
                      "unite", e) &&
              cuda_ok(cudaStreamSynchronize(CUDA_STREAM), "unite", e);
    cuda_scratch_free(scratch);
    for (int i = 0; ok && i < count; i++)
        *u[i].row_count = rows[i];
    return ok;
}

bool cuda_unite(const struct kern_union *u, int count, struct err *e)
{
    if (!cuda_entries(u, count, "unite", e))
        return false;
    for (int i = 0; i < count; i++)
        if (!unite_check(&u[i], i, e))
            return false;
    for (int i = 0; i < count; i += ENTRIES)
        if (!unite_batch(u + i, count - i < ENTRIES ? count - i : ENTRIES, e))
            return false;
    return true;
}

/* ---- remap ----------------------------------------------------------------------------------- */

struct remaps {
    struct kern_remap entry[ENTRIES];
    int64_t *refused; /* [count] 1 + the greatest group refused, or 0 */
};

/* This lane's word of 32: entries `wanted` of `all`, whose set bits are numbered from `before`,
 * into room[at...]. */
DEV void list_word(int32_t *room, int at, uint32_t wanted, uint32_t all, int before)
{
    for (; wanted; wanted &= wanted - 1) {
        uint32_t below = (wanted & (0u - wanted)) - 1;
        room[at++] = before + __popc(all & below);
    }
}

/* One group, by a warp; false if it is refused. */
DEV bool remap_group(const struct kern_remap *r, int64_t group, int32_t *room, int lane)
{
    const uint32_t *bits = r->bitmap + group * r->bitmap_words;
    int32_t *list = r->list + group * r->list_stride;
    int64_t n = 0;
    int before = 0;
    for (int64_t first = 0; first < r->bitmap_words; first += 32) {
        int64_t w = first + lane;
        uint32_t word = w < r->bitmap_words ? __ldg(bits + w) : 0;
        uint32_t all = w >= r->bitmap_words ? 0 : r->all ? __ldg(r->all + w) : ~0u;
        uint32_t wanted = word & all;
        int mine = __popc(wanted), upto = sum_up_to(mine, lane);
        int count = __shfl_sync(~0u, upto, 31);
        int known = __popc(all), known_upto = sum_up_to(known, lane);
        if (__any_sync(~0u, word != wanted && !r->within) || n + count > r->list_stride)
            return false;
        list_word(room, upto - mine, wanted, all, before + known_upto - known);
        __syncwarp();
        for (int i = lane; i < count; i += 32)
            list[n + i] = room[i];
        __syncwarp();
        n += count;
        before += __shfl_sync(~0u, known_upto, 31);
    }
    if (lane == 0)
        r->count[group] = (int32_t)n;
    return true;
}

__global__ void __launch_bounds__(THREADS) unite_remap(const __grid_constant__ struct remaps all)
{
    const struct kern_remap *r = &all.entry[blockIdx.y];
    int64_t group = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int32_t *room = (int32_t *)dev_shared() + threadIdx.x / 32 * STEP_KEYS;
    if (group < r->groups && !remap_group(r, group, room, (int)threadIdx.x % 32) &&
        threadIdx.x % 32 == 0)
        atomicMax((long long *)&all.refused[blockIdx.y], (long long)group + 1);
}

static bool remap_check(const struct kern_remap *r, int entry, struct err *e)
{
    if (r->groups < 0 || r->groups > INT32_MAX || r->bitmap_words < 0 ||
        r->bitmap_words > INT32_MAX / 32 || r->list_stride < 0)
        return err_set(e, ERR_INPUT, err_at_name("remap"),
                       "entry %d: %lld groups of %lld words, list_stride %lld", entry,
                       (long long)r->groups, (long long)r->bitmap_words, (long long)r->list_stride);
    if (r->groups > 0 &&
        (!r->count || (r->bitmap_words > 0 && !r->bitmap) || (r->list_stride > 0 && !r->list)))
        return err_set(e, ERR_INPUT, err_at_name("remap"), "entry %d: a NULL address", entry);
    return cuda_entry_aligned(r->bitmap, 4, "remap", entry, "bitmap", e) &&
           cuda_entry_aligned(r->all, 4, "remap", entry, "all", e) &&
           cuda_entry_aligned(r->list, 4, "remap", entry, "list", e) &&
           cuda_entry_aligned(r->count, 4, "remap", entry, "count", e);
}

/* Up to ENTRIES of them; `first` is the first one's number. */
static bool remap_batch(const struct kern_remap *r, int count, int first, struct err *e)
{
    struct remaps all = {};
    int64_t groups = 0, refused[ENTRIES];
    for (int i = 0; i < count; i++) {
        all.entry[i] = r[i];
        groups = r[i].groups > groups ? r[i].groups : groups;
    }
    void *scratch = NULL;
    if (groups == 0)
        return true;
    if (!cuda_scratch(sizeof refused, &scratch, "remap", e))
        return false;
    all.refused = (int64_t *)scratch;
    dim3 grid(blocks_of(groups, WARPS), (unsigned)count);
    bool ok = cuda_ok(cudaMemsetAsync(scratch, 0, sizeof refused, CUDA_STREAM), "remap", e) &&
              cuda_ok(dev_launch(unite_remap, grid, dim3(THREADS),
                                 WARPS * STEP_KEYS * sizeof(int32_t), CUDA_STREAM, all),
                      "remap", e) &&
              cuda_ok(cudaMemcpyAsync(refused, scratch, sizeof refused, cudaMemcpyDeviceToHost,
                                      CUDA_STREAM),
                      "remap", e) &&
              cuda_ok(cudaStreamSynchronize(CUDA_STREAM), "remap", e);
    cuda_scratch_free(scratch);
    for (int i = 0; ok && i < count; i++)
        if (refused[i])
            return err_set(e, ERR_INPUT, err_at_name("remap"),
                           "entry %d, group %lld: a key is not in the union, or more than "
                           "list_stride = %lld keys",
                           first + i, (long long)refused[i] - 1, (long long)r[i].list_stride);
    return ok;
}

bool cuda_remap(const struct kern_remap *r, int count, struct err *e)
{
    if (!cuda_entries(r, count, "remap", e))
        return false;
    for (int i = 0; i < count; i++)
        if (!remap_check(&r[i], i, e))
            return false;
    for (int i = 0; i < count; i += ENTRIES)
        if (!remap_batch(r + i, count - i < ENTRIES ? count - i : ENTRIES, i, e))
            return false;
    return true;
}
