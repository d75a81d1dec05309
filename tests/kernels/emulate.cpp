/* The emulated GPU itself: tensor-core fragments against plain matrix products laid out by hand
 * from the PTX manual's figures, asynchrony, and the mistakes that it is there to find (each must
 * end the program with its message). */
#include "kernels/cuda/prim.cuh"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/check.h"

static uint16_t bf16(float x)
{
    return (uint16_t)(dev_pack(x, 0) & 0xffff);
}

/* Small whole numbers: products and sums are exact in any order. */
static float value(int i)
{
    return (float)((i * 37 + 11) % 13 - 6);
}

struct tile_args {
    uint16_t a[16 * 16], b[16 * 8]; /* row-major */
    float *c;
};

__global__ void multiply_from_memory(tile_args p)
{
    int l = (int)threadIdx.x, g = l / 4, t = l % 4;
    uint16_t *s = (uint16_t *)dev_shared();
    for (int i = l; i < 256; i += 32)
        s[i] = p.a[i];
    for (int i = l; i < 128; i += 32)
        s[256 + i] = p.b[i];
    __syncwarp();
    /* A by rows: tiles (0,0), (8,0), (0,8), (8,8) are a[0..3]; B [k][n] by rows, transposed */
    uint32_t a[4], b[4];
    dev_ldmatrix4(a, dev_smem(s + (l % 16) * 16 + (l / 16) * 8));
    dev_ldmatrix4_t(b, dev_smem(s + 256 + (l % 16) * 8));
    float c[4] = {0, 0, 0, 0};
    dev_mma(c, a, b);
    for (int j = 0; j < 4; j++)
        p.c[(g + j / 2 * 8) * 8 + 2 * t + j % 2] = c[j];
}

/* The upper left tile of the mma's C, as bf16 pairs, to rows of 16 bytes, four times. */
__global__ void store_pairs(uint16_t *to)
{
    int l = (int)threadIdx.x;
    uint32_t r[4];
    for (int t = 0; t < 4; t++)
        r[t] = dev_pack(value(64 * t + 2 * l), value(64 * t + 2 * l + 1)); /* (l / 4, 2 (l % 4)) */
    dev_stmatrix4(dev_smem(dev_shared()) + (uint32_t)(l % 8 * 64 + l / 8 * 16), r);
    __syncwarp();
    for (int i = l; i < 256; i += 32)
        to[i] = ((const uint16_t *)dev_shared())[i];
}

static void stored_tiles_have_their_rows_where_the_lanes_say(void)
{
    uint16_t got[256];
    gsl_test_int(dev_launch(store_pairs, 1, 32, 512, cudaStreamPerThread, got), 0, "starts");
    int wrong = 0;
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < 64; i++)
            wrong += got[i / 8 * 32 + t * 8 + i % 8] != bf16(value(64 * t + i));
    gsl_test_int(wrong, 0, "stmatrix: wrong elements");
}

static void a_warp_multiplies_like_the_definition(void)
{
    float c[16 * 8];
    tile_args p;
    for (int i = 0; i < 256; i++)
        p.a[i] = bf16(value(i));
    for (int i = 0; i < 128; i++)
        p.b[i] = bf16(value(i + 1000));
    p.c = c;
    gsl_test_int(dev_launch(multiply_from_memory, 1, 32, 1024, cudaStreamPerThread, p), 0,
                 "starts");
    int wrong = 0;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            float sum = 0;
            for (int k = 0; k < 16; k++)
                sum += value(i * 16 + k) * value(k * 8 + j + 1000);
            wrong += c[i * 8 + j] != sum;
        }
    gsl_test_int(wrong, 0, "mma of ldmatrix'ed tiles: wrong elements");
}

struct group_args {
    const uint16_t *a, *b, *v; /* [64][64] each */
    float *scores, *out;       /* a b^T [64][64]; bf16(a) as registers times v */
};

static __device__ void store_swizzled(unsigned char *tile, const uint16_t *rows)
{
    for (int i = (int)threadIdx.x; i < 64 * 8; i += 128) {
        int r = i / 8, chunk = i % 8;
        memcpy(tile + r * 128 + ((chunk ^ (r & 7)) << 4), rows + r * 64 + chunk * 8, 16);
    }
}

__global__ void warpgroup_products(group_args p)
{
    unsigned char *s = dev_shared();
    store_swizzled(s, p.a);
    store_swizzled(s + 8192, p.b);
    store_swizzled(s + 16384, p.v);
    dev_fence_async();
    __syncthreads();
    int i = (int)threadIdx.x, w = i / 32, g = i % 32 / 4, t = i % 4;
    uint32_t at = dev_smem(s);
    float c[32], o[32];
    uint32_t rows[4][4]; /* A again, in registers */
    for (int k = 0; k < 4; k++) {
        const uint16_t *row = p.a + (16 * w + g) * 64 + k * 16 + 2 * t;
        memcpy(&rows[k][0], row, 4);
        memcpy(&rows[k][1], row + 8 * 64, 4);
        memcpy(&rows[k][2], row + 8, 4);
        memcpy(&rows[k][3], row + 8 * 64 + 8, 4);
    }
    dev_wgmma_fence();
    for (int k = 0; k < 4; k++) {
        uint64_t b = dev_matrix(at + 8192 + (uint32_t)k * 32, 16, 1024);
        if (k % 2)
            dev_wgmma_64x64(c, dev_matrix(at + (uint32_t)k * 32, 16, 1024), b, 1);
        else
            dev_wgmma_64x64_reg_k(c, rows[k], b, k > 0);
    }
    dev_wgmma_commit();
    dev_wgmma_wait<0>();
    for (int j = 0; j < 32; j++) {
        p.scores[(16 * w + g + j / 2 % 2 * 8) * 64 + j / 4 * 8 + 2 * t + j % 2] = c[j];
        o[j] = 1;
    }
    for (int k = 0; k < 4; k++)
        dev_wgmma_64x64_reg(o, rows[k],
                            dev_matrix(at + 16384 + (uint32_t)k * 16 * 128, 8192, 1024));
    dev_wgmma_commit();
    dev_wgmma_wait<0>();
    for (int j = 0; j < 32; j++)
        p.out[(16 * w + g + j / 2 % 2 * 8) * 64 + j / 4 * 8 + 2 * t + j % 2] = o[j];
}

static void a_warpgroup_multiplies_like_the_definition(void)
{
    static uint16_t a[4096], b[4096], v[4096];
    static float scores[4096], out[4096];
    for (int i = 0; i < 4096; i++) {
        a[i] = bf16(value(i));
        b[i] = bf16(value(3 * i + 5));
        v[i] = bf16(value(7 * i + 1));
    }
    group_args p = {a, b, v, scores, out};
    dev_launch(warpgroup_products, 1, 128, 24576, cudaStreamPerThread, p);
    int wrong = 0, wrong_out = 0;
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < 64; j++) {
            float score = 0, sum = 1;
            for (int k = 0; k < 64; k++) {
                score += value(i * 64 + k) * value(3 * (j * 64 + k) + 5);
                sum += value(i * 64 + k) * value(7 * (k * 64 + j) + 1);
            }
            wrong += scores[i * 64 + j] != score;
            wrong_out += out[i * 64 + j] != sum;
        }
    gsl_test_int(wrong, 0, "A B^T from shared memory: wrong elements");
    gsl_test_int(wrong_out, 0, "c += A B with A in registers: wrong elements");
}

struct copy_args {
    const uint16_t *from;
    float *seen; /* before the wait, after it, a zero-filled piece after it */
};

__global__ void copies(copy_args p)
{
    uint16_t *s = (uint16_t *)dev_shared();
    s[0] = s[8] = bf16(5);
    dev_copy16(dev_smem(s), p.from, 16);
    dev_copy16(dev_smem(s + 8), p.from, 0);
    dev_copy_commit();
    p.seen[0] = dev_low(s[0]);
    dev_copy_wait<0>();
    p.seen[1] = dev_low(s[0]);
    p.seen[2] = dev_low(s[8]);
}

static void copies_arrive_at_the_wait_and_not_before(void)
{
    alignas(16) uint16_t from[8] = {bf16(3), 0, 0, 0, 0, 0, 0, 0};
    float seen[3];
    copy_args p = {from, seen};
    dev_launch(copies, 1, 1, 64, cudaStreamPerThread, p);
    gsl_test(seen[0] == seen[0], "a copy under way reads as NaN");
    gsl_test_abs(seen[1], 3, 0, "a copy after its wait");
    gsl_test_abs(seen[2], 0, 0, "a copy of nothing is zeros");
}

__global__ void handshake(float *out) /* warp 0 makes, warp 1 takes, three times over one slot */
{
    float *s = (float *)dev_shared();
    uint32_t full = dev_smem(s + 2), empty = dev_smem(s + 4);
    if (threadIdx.x == 0) {
        dev_barrier_init(full, 32);
        dev_barrier_init(empty, 32);
    }
    __syncthreads();
    for (int i = 0; i < 3; i++)
        if (threadIdx.x < 32) {
            dev_barrier_wait(empty, (i + 1) & 1);
            if (threadIdx.x == 0)
                s[0] = (float)(10 * i);
            dev_barrier_arrive(full);
        } else {
            dev_barrier_wait(full, i & 1);
            if (threadIdx.x == 32)
                out[i] = s[0];
            dev_barrier_arrive(empty);
        }
}

static void warps_hand_over_through_mbarriers(void)
{
    float out[3];
    dev_launch(handshake, 1, 64, 64, cudaStreamPerThread, out);
    for (int i = 0; i < 3; i++)
        gsl_test_abs(out[i], 10 * i, 0, "item %d of the producer", i);
}

__global__ void lanes(int *out)
{
    int l = (int)threadIdx.x;
    int sum = l;
    for (int d = 16; d; d /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, d);
    int before = __shfl_up_sync(0xffffffffu, l, 1);
    unsigned odd = __ballot_sync(0xffffffffu, l & 1);
    out[l * 3] = sum;
    out[l * 3 + 1] = before;
    out[l * 3 + 2] = odd == 0xaaaaaaaau;
}

static void lanes_exchange_values(void)
{
    int out[96], wrong = 0;
    dev_launch(lanes, 1, 32, 0, cudaStreamPerThread, out);
    for (int l = 0; l < 32; l++)
        wrong += out[l * 3] != 496 || out[l * 3 + 1] != (l ? l - 1 : 0) || !out[l * 3 + 2];
    gsl_test_int(wrong, 0, "shuffles and ballots: wrong lanes");
}

/* ---- mistakes ---- */

__global__ void diverge(float *)
{
    if (threadIdx.x < 16)
        __shfl_xor_sync(0xffffffffu, 1, 1);
    else
        __syncwarp();
}

__global__ void wait_for_nobody(float *)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        dev_named_barrier(1, 64);
}

__global__ void outside(float *)
{
    uint32_t r[4];
    dev_ldmatrix4(r, (uint32_t)threadIdx.x * 16);
}

__global__ void odd_address(float *p)
{
    dev_copy16(8, p, 16);
}

__global__ void bulk_unread(float *p)
{
    dev_bulk_add(p, 0, 16);
    dev_bulk_commit();
}

__global__ void wait_for_no_arrival(float *)
{
    if (threadIdx.x == 0)
        dev_barrier_init(0, 1);
    __syncthreads();
    dev_barrier_wait(0, 0);
}

static void ends_with(void (*kernel)(float *), const char *want)
{
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        alignas(16) static float p[64];
        dev_launch(kernel, 1, 64, 256, cudaStreamPerThread, p);
        _exit(0);
    }
    close(ends[1]);
    char text[4096];
    size_t used = 0;
    for (ssize_t n; (n = read(ends[0], text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)n;
    text[used] = 0;
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    gsl_test(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the mistake is found: %s", want);
    gsl_test(!strstr(text, want), "'%s' names '%s'", text, want);
}

static void mistakes_end_the_program(void)
{
    ends_with(diverge, "while other lanes of the warp are in");
    ends_with(wait_for_nobody, "all 64 threads wait");
    ends_with(outside, "the launch asked for 256");
    ends_with(odd_address, "want a multiple of 16");
    ends_with(bulk_unread, "bulk reductions may still read");
    ends_with(wait_for_no_arrival, "an mbarrier");
}

static void device_memory_can_be_kept_from_the_host(void)
{
    setenv("SHARDWISE_EMULATE_APART", "1", 1);
    void *p = nullptr;
    float here = 7, back = 0;
    gsl_test_int(cudaMalloc(&p, 4), 0, "device memory");
    cudaMemcpyAsync(p, &here, 4, cudaMemcpyHostToDevice, cudaStreamPerThread);
    cudaMemcpyAsync(&back, p, 4, cudaMemcpyDeviceToHost, cudaStreamPerThread);
    gsl_test_abs(back, 7, 0, "there and back");
    gsl_test_int(cudaMemcpyAsync(p, p, 4, cudaMemcpyDeviceToHost, cudaStreamPerThread),
                 cudaErrorInvalidValue, "a copy that names the wrong side");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        _exit(*(volatile float *)p == 7 ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    gsl_test(!WIFSIGNALED(status), "the host cannot read it");
    cudaFree(p);
    unsetenv("SHARDWISE_EMULATE_APART");
}

int main(void)
{
    device_memory_can_be_kept_from_the_host();
    a_warp_multiplies_like_the_definition();
    stored_tiles_have_their_rows_where_the_lanes_say();
    a_warpgroup_multiplies_like_the_definition();
    copies_arrive_at_the_wait_and_not_before();
    warps_hand_over_through_mbarriers();
    lanes_exchange_values();
    mistakes_end_the_program();
    return gsl_test_summary();
}
