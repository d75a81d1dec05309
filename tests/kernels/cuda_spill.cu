/* A kernel that needs more registers than it may have (cuda_resources.sh): 80 sums that live together. */
__global__ void planted_spill(float *x)
{
    float sum[80];
#pragma unroll
    for (int i = 0; i < 80; i++)
        sum[i] = x[i * 32 + threadIdx.x];
    for (int k = 0; k < 100; k++) {
#pragma unroll
        for (int i = 0; i < 80; i++)
            sum[i] = sum[i] * sum[(i + 1) % 80] + x[k];
    }
#pragma unroll
    for (int i = 0; i < 80; i++)
        x[i * 32 + threadIdx.x] = sum[i];
}

/* An array that is indexed at run time lies in local memory: a stack frame. */
__global__ void planted_stack(float *x, int n)
{
    float local[32];
    for (int i = 0; i < 32; i++)
        local[(i * n) & 31] = x[i];
    x[threadIdx.x] = local[n & 31];
}
