/* The stand-in CUDA runtime, by what the CUDA Runtime API's manual says of each call. A kernel's
 * error stays for the rest of a process, so each test is a process of its own. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(yes)                                                                                 \
    do {                                                                                           \
        if (!(yes)) {                                                                              \
            printf("FAIL: %s:%d: %s\n", __func__, __LINE__, #yes);                                 \
            failed = true;                                                                         \
        }                                                                                          \
    } while (0)

static bool failed;
static const cudaStream_t own = cudaStreamPerThread;

__global__ void put(int *p, int at, int value)
{
    p[at] = value;
}

__global__ void __launch_bounds__(64) bounded(int *p)
{
    p[threadIdx.x] = 1;
}

__global__ void turn(int *p)
{
    extern __shared__ int s[];
    s[threadIdx.x] = (int)threadIdx.x;
    __syncthreads();
    p[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}

static int *memory(int count)
{
    int *p = NULL;
    CHECK(cudaMalloc((void **)&p, (size_t)count * 4) == cudaSuccess);
    return p;
}

static int value_of(const int *p, cudaStream_t stream)
{
    int x = 0;
    CHECK(cudaMemcpyAsync(&x, p, 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
    return x;
}

static void host_memory_that_stays_in_place_is_host_memory(void)
{
    int *p = memory(4), *host = NULL;
    CHECK(cudaHostAlloc((void **)&host, 16, cudaHostAllocDefault) == cudaSuccess && host);
    host[1] = 7;
    CHECK(cudaMemcpyAsync(p, host, 16, cudaMemcpyHostToDevice, own) == cudaSuccess);
    CHECK(value_of(p + 1, own) == 7);
    CHECK(cudaMemcpyAsync(host, p, 16, cudaMemcpyDeviceToDevice, own) == cudaErrorInvalidValue);
    CHECK(cudaFreeHost(host) == cudaSuccess && cudaFreeHost(NULL) == cudaSuccess);
    CHECK(cudaHostAlloc((void **)&host, 16, 64) == cudaErrorInvalidValue);
}

static void a_kernel_runs(void)
{
    int *p = memory(64);
    turn<<<1, 64, 256, own>>>(p);
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(value_of(p, own) == 63 && value_of(p + 63, own) == 0 && value_of(p + 5, own) == 58);
    CHECK(cudaFree(p) == cudaSuccess && cudaFree(NULL) == cudaSuccess);
}

static void a_launch_beyond_a_limit_fails_at_once_and_once(void)
{
    int *p = memory(1024);
    put<<<1, 1025, 0, own>>>(p, 0, 1);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    CHECK(cudaGetLastError() == cudaSuccess);
    put<<<0, 32, 0, own>>>(p, 0, 1);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    bounded<<<1, 96, 0, own>>>(p);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    turn<<<1, 32, 49153, own>>>(p);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    int most = 0;
    cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    cudaFuncAttribute name = cudaFuncAttributeMaxDynamicSharedMemorySize;
    CHECK(cudaFuncSetAttribute((const void *)turn, name, most + 1) == cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    CHECK(cudaFuncSetAttribute((const void *)turn, name, most) == cudaSuccess);
    turn<<<1, 32, (size_t)most, own>>>(p);
    CHECK(cudaGetLastError() == cudaSuccess && value_of(p, own) == 31);
}

static void work_waits_until_something_waits_for_it(void)
{
    cudaStream_t other = NULL;
    int *p = memory(1);
    CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) == cudaSuccess);
    put<<<1, 1, 0, own>>>(p, 0, 7);
    CHECK(value_of(p, other) == -1); /* another stream waits for nothing here */
    CHECK(cudaStreamSynchronize(other) == cudaSuccess && value_of(p, other) == -1);
    CHECK(cudaStreamQuery(own) == cudaErrorNotReady && cudaStreamQuery(own) == cudaSuccess);
    CHECK(value_of(p, other) == 7);
    CHECK(cudaStreamDestroy(other) == cudaSuccess);
}

static void a_stream_keeps_its_order(void)
{
    int *p = NULL, five = 5;
    CHECK(cudaMallocAsync((void **)&p, 12, own) == cudaSuccess);
    put<<<1, 1, 0, own>>>(p, 0, 7);
    CHECK(cudaMemcpyAsync(p + 1, p, 4, cudaMemcpyDeviceToDevice, own) == cudaSuccess);
    CHECK(cudaMemsetAsync(p, 0, 4, own) == cudaSuccess);
    CHECK(cudaMemcpyAsync(p + 2, &five, 4, cudaMemcpyHostToDevice, own) == cudaSuccess);
    five = 6; /* pageable memory is read at once */
    int x[3] = {};
    CHECK(cudaMemcpyAsync(x, p, 12, cudaMemcpyDeviceToHost, own) == cudaSuccess);
    CHECK(x[0] == 0 && x[1] == 7 && x[2] == 5);
    CHECK(cudaFreeAsync(p, own) == cudaSuccess && cudaStreamSynchronize(own) == cudaSuccess);
}

static void what_a_kernel_does_wrong_comes_later_and_stays(void)
{
    int *p = memory(4);
    put<<<1, 1, 0, own>>>(p, 4, 1);
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(cudaStreamSynchronize(own) == cudaErrorIllegalAddress);
    CHECK(cudaMalloc((void **)&p, 4) == cudaErrorIllegalAddress);
    CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
    CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
}

/* cudaFree "may" wait, says the manual. */
static void memory_that_is_freed_before_its_kernel_ran_is_found(void)
{
    int *p = memory(4);
    put<<<1, 1, 0, own>>>(p, 0, 1);
    CHECK(cudaFree(p) == cudaSuccess);
    CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
}

static void memory_of_one_stream_is_not_there_for_another(void)
{
    cudaStream_t other = NULL;
    int *p = NULL;
    CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(cudaMallocAsync((void **)&p, 4, own) == cudaSuccess);
    put<<<1, 1, 0, other>>>(p, 0, 1);
    CHECK(cudaStreamSynchronize(other) == cudaErrorIllegalAddress);
}

static void wrong_arguments_are_refused_at_once(void)
{
    int *p = memory(4), x[5] = {};
    CHECK(cudaMemcpyAsync(p, x, 20, cudaMemcpyHostToDevice, own) == cudaErrorInvalidValue);
    CHECK(cudaMemcpyAsync(x, x, 4, cudaMemcpyDeviceToHost, own) == cudaErrorInvalidValue);
    CHECK(cudaMemsetAsync(p + 4, 0, 1, own) == cudaErrorInvalidValue);
    CHECK(cudaFree(p + 1) == cudaErrorInvalidValue);
    CHECK(cudaFree(p) == cudaSuccess && cudaFree(p) == cudaErrorInvalidValue);
    CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
    CHECK(cudaMalloc((void **)&p, (size_t)1 << 40) == cudaErrorMemoryAllocation);
    CHECK(strcmp(cudaGetErrorName(cudaGetLastError()), "cudaErrorMemoryAllocation") == 0);
}

static void events_tell_whether_they_are_over(void)
{
    cudaEvent_t begin = NULL, end = NULL;
    int *p = memory(1);
    float ms = 0;
    CHECK(cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess);
    CHECK(cudaEventElapsedTime(&ms, begin, end) == cudaErrorInvalidResourceHandle);
    CHECK(cudaEventRecord(begin, own) == cudaSuccess);
    put<<<1, 1, 0, own>>>(p, 0, 1);
    CHECK(cudaEventRecord(end, own) == cudaSuccess);
    CHECK(cudaEventElapsedTime(&ms, begin, end) == cudaErrorNotReady);
    CHECK(cudaEventSynchronize(end) == cudaSuccess);
    CHECK(cudaEventElapsedTime(&ms, begin, end) == cudaSuccess && ms > 0);
    CHECK(cudaEventDestroy(begin) == cudaSuccess && cudaEventDestroy(end) == cudaSuccess);
}

/* Ends the process if device memory can be read. */
static void the_host_cannot_read_device_memory(void)
{
    const volatile int *p = memory(1);
    printf("FAIL: the host reads %d\n", *p);
    failed = true;
}

static int in_a_process(void (*test)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        test();
        fflush(NULL);
        _exit(failed);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int main(void)
{
    static void (*const tests[])(void) = {a_kernel_runs,
                                          host_memory_that_stays_in_place_is_host_memory,
                                          a_launch_beyond_a_limit_fails_at_once_and_once,
                                          work_waits_until_something_waits_for_it,
                                          a_stream_keeps_its_order,
                                          what_a_kernel_does_wrong_comes_later_and_stays,
                                          memory_that_is_freed_before_its_kernel_ran_is_found,
                                          memory_of_one_stream_is_not_there_for_another,
                                          wrong_arguments_are_refused_at_once,
                                          events_tell_whether_they_are_over};
    int bad = in_a_process(the_host_cannot_read_device_memory) != -SIGSEGV;
    for (void (*test)(void) : tests)
        bad |= in_a_process(test) != 0;
    return bad;
}
