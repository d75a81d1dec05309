/* Limits of GPUs and of launches. */
#include "tests/ptx/gpu.h"

#include <stdarg.h>
#include <stdio.h>

static const struct gpu gpus[] = {
    {80, "NVIDIA A100-SXM4-80GB", 108, 81050ull << 20, 40 << 20, 163 << 10, 164 << 10, 2048, 32},
    {86, "NVIDIA A10", 72, 22731ull << 20, 6 << 20, 99 << 10, 100 << 10, 1536, 16},
    {90, "NVIDIA H200", 132, 143771ull << 20, 50 << 20, 227 << 10, 228 << 10, 2048, 32},
};

const struct gpu *gpu_of(int sm)
{
    for (size_t i = 0; i < sizeof gpus / sizeof *gpus; i++)
        if (gpus[i].sm == sm)
            return &gpus[i];
    return NULL;
}

static size_t round_up(size_t x, size_t unit)
{
    return (x + unit - 1) / unit * unit;
}

static size_t block_registers(const struct gpu_kernel *k, unsigned threads)
{
    return round_up(threads, 32) / 32 * round_up((size_t)k->registers * 32, GPU_REGISTERS_UNIT);
}

static enum gpu_refusal refuse(enum gpu_refusal code, char *why, size_t room, const char *format,
                               ...) __attribute__((format(printf, 4, 5)));
static enum gpu_refusal refuse(enum gpu_refusal code, char *why, size_t room, const char *format,
                               ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, room, format, args);
    va_end(args);
    return code;
}

static enum gpu_refusal sizes(const unsigned grid[3], const unsigned block[3], char *why,
                              size_t room)
{
    static const unsigned grid_most[3] = {0x7fffffff, 0xffff, 0xffff},
                          block_most[3] = {1024, 1024, 64};
    for (int i = 0; i < 3; i++) {
        if (grid[i] == 0 || grid[i] > grid_most[i])
            return refuse(GPU_INVALID_CONFIGURATION, why, room, "grid.%c is %u, want 1 to %u",
                          "xyz"[i], grid[i], grid_most[i]);
        if (block[i] == 0 || block[i] > block_most[i])
            return refuse(GPU_INVALID_CONFIGURATION, why, room, "block.%c is %u, want 1 to %u",
                          "xyz"[i], block[i], block_most[i]);
    }
    uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    if (threads > GPU_BLOCK_THREADS)
        return refuse(GPU_INVALID_CONFIGURATION, why, room, "%llu threads a block, want up to %d",
                      (unsigned long long)threads, GPU_BLOCK_THREADS);
    return GPU_FINE;
}

enum gpu_refusal gpu_launch(const struct gpu *g, const struct gpu_kernel *k, const unsigned grid[3],
                            const unsigned block[3], size_t dynamic_shared, char *why, size_t room)
{
    enum gpu_refusal bad = sizes(grid, block, why, room);
    if (bad)
        return bad;
    unsigned threads = block[0] * block[1] * block[2];
    if (k->max_threads && threads > k->max_threads)
        return refuse(GPU_INVALID_VALUE, why, room, "%u threads a block; its launch bounds are %u",
                      threads, k->max_threads);
    if (dynamic_shared > k->dynamic_allowed || k->static_shared + dynamic_shared > g->shared_optin)
        return refuse(
            GPU_INVALID_VALUE, why, room,
            "%zu bytes of dynamic shared memory, and %zu static; its attribute allows %zu",
            dynamic_shared, k->static_shared, k->dynamic_allowed);
    if (k->param_bytes > GPU_PARAM_BYTES)
        return refuse(GPU_INVALID_VALUE, why, room, "%zu bytes of parameters, want up to %d",
                      k->param_bytes, GPU_PARAM_BYTES);
    if (block_registers(k, threads) > GPU_REGISTERS)
        return refuse(GPU_OUT_OF_RESOURCES, why, room, "%u threads of %d registers, want up to %d",
                      threads, k->registers, GPU_REGISTERS);
    return GPU_FINE;
}

long gpu_dynamic_most(const struct gpu *g, const struct gpu_kernel *k)
{
    return (long)g->shared_optin - (long)k->static_shared;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

int gpu_blocks(const struct gpu *g, const struct gpu_kernel *k, unsigned threads,
               size_t dynamic_shared)
{
    size_t shared = round_up(k->static_shared + dynamic_shared, 128) + GPU_SHARED_RESERVED;
    int blocks = least(g->blocks_processor, (int)(g->shared_processor / shared));
    blocks = least(blocks, g->threads_processor / (int)round_up(threads, 32));
    return k->registers ? least(blocks, (int)(GPU_REGISTERS / block_registers(k, threads)))
                        : blocks;
}
