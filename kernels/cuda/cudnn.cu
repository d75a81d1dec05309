/* Dense attention by cuDNN 9: the baseline that sparse kernels have to beat. Through the C backend
 * API and loaded at run time, so that neither the build nor the machine has to have it.
 *
 * forward: one operation, O = softmax(scale Q K^T) V, Stats = ln sum exp(scale Q K^T), [S][1].
 * backward: the graph that cuDNN knows as attention backward, spelled out, as its own node for
 * it is not accepted before 9.21:
 *   sum = rowsum(dO o O)
 *   P = exp(scale Q K^T - Stats)          dV = P^T dO
 *   dS = scale P o (dO V^T - sum)         dQ = dS K, dK = dS^T Q
 *
 * Heads are equally spaced in memory, then all go in one call, or they go one by one. cuDNN's
 * gradients are bf16 and set, ours are fp32 and added to; its Stats are in natural units, ours in
 * log2. The conversions are part of a call.
 *
 * Numbers are those of cudnn_graph.h, fixed within cuDNN 9 (checked below where the header is). */
#include "kernels/cuda/cuda.h"

#include <dlfcn.h>
#include <stdlib.h>

enum descriptor {
    POINTWISE = 0,
    CONFIGURATION = 3,
    HEURISTIC = 4,
    PLAN = 5,
    POINTWISE_OP = 13,
    GRAPH = 15,
    PACK = 16,
    TENSOR = 17,
    MATMUL = 18,
    MATMUL_OP = 19,
    REDUCTION = 21,
    REDUCTION_OP = 22,
    RESHAPE_OP = 31,
    SDPA_OP = 41
};

enum type {
    T_HANDLE = 0,
    T_DATA = 1,
    T_BOOL = 2,
    T_INT64 = 3,
    T_POINTER = 6,
    T_HEURISTIC = 8,
    T_POINTWISE = 14,
    T_DESCRIPTOR = 15,
    T_REDUCTION = 18,
    T_REORDER = 20
};

enum attribute {
    POINTWISE_MODE = 0,
    POINTWISE_PRECISION = 1,
    HEURISTIC_MODE = 200,
    HEURISTIC_GRAPH = 201,
    HEURISTIC_RESULTS = 202,
    PLAN_HANDLE = 400,
    PLAN_CONFIGURATION = 401,
    PLAN_WORKSPACE = 402,
    POINTWISE_OP_DESCRIPTOR = 750,
    POINTWISE_OP_X = 751,
    POINTWISE_OP_B = 752,
    POINTWISE_OP_Y = 753,
    GRAPH_HANDLE = 800,
    GRAPH_OPS = 801,
    TENSOR_ALIGNMENT = 900,
    TENSOR_TYPE = 901,
    TENSOR_DIMENSIONS = 902,
    TENSOR_STRIDES = 903,
    TENSOR_ID = 906,
    TENSOR_VIRTUAL = 907,
    TENSOR_BY_VALUE = 908,
    TENSOR_REORDER = 909,
    PACK_IDS = 1000,
    PACK_POINTERS = 1001,
    PACK_WORKSPACE = 1003,
    MATMUL_PRECISION = 1500,
    MATMUL_OP_A = 1520,
    MATMUL_OP_B = 1521,
    MATMUL_OP_C = 1522,
    MATMUL_OP_DESCRIPTOR = 1523,
    REDUCTION_OPERATOR = 1600,
    REDUCTION_PRECISION = 1601,
    REDUCTION_OP_X = 1610,
    REDUCTION_OP_Y = 1611,
    REDUCTION_OP_DESCRIPTOR = 1612,
    RESHAPE_OP_X = 2200,
    RESHAPE_OP_Y = 2201,
    SDPA_Q = 2800,
    SDPA_K = 2801,
    SDPA_V = 2802,
    SDPA_O = 2803,
    SDPA_STATS = 2804,
    SDPA_SCALE = 2805
};

enum { FP32 = 0, BF16 = 9, MUL = 1, SUB = 9, EXP = 13, IDENTITY = 21, ADD = 0, BY_16X16 = 2 };
enum { HEURISTIC_A = 3, HEURISTIC_FALLBACK = 2, LEAST_VERSION = 91300 };

#if defined(__CUDACC__) && __has_include(<cudnn_graph.h>)
#include <cudnn_graph.h>
#if CUDNN_GRAPH_MAJOR == 9 && CUDNN_GRAPH_MINOR >= 13
static_assert(CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR == (int)SDPA_OP &&
                  CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC == (int)SDPA_SCALE &&
                  CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR == (int)RESHAPE_OP &&
                  CUDNN_ATTR_OPERATION_RESHAPE_YDESC == (int)RESHAPE_OP_Y &&
                  CUDNN_ATTR_OPERATION_REDUCTION_DESC == (int)REDUCTION_OP_DESCRIPTOR &&
                  CUDNN_ATTR_OPERATION_MATMUL_DESC == (int)MATMUL_OP_DESCRIPTOR &&
                  CUDNN_ATTR_TENSOR_REORDERING_MODE == (int)TENSOR_REORDER &&
                  CUDNN_ATTR_VARIANT_PACK_WORKSPACE == (int)PACK_WORKSPACE &&
                  CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE == (int)PLAN_WORKSPACE &&
                  CUDNN_ATTR_ENGINEHEUR_RESULTS == (int)HEURISTIC_RESULTS &&
                  CUDNN_TYPE_TENSOR_REORDERING_MODE == (int)T_REORDER &&
                  CUDNN_TYPE_REDUCTION_OPERATOR_TYPE == (int)T_REDUCTION &&
                  CUDNN_TYPE_POINTWISE_MODE == (int)T_POINTWISE &&
                  CUDNN_TYPE_HEUR_MODE == (int)T_HEURISTIC &&
                  CUDNN_TYPE_VOID_PTR == (int)T_POINTER && CUDNN_DATA_BFLOAT16 == (int)BF16 &&
                  CUDNN_POINTWISE_SUB == (int)SUB && CUDNN_POINTWISE_EXP == (int)EXP &&
                  CUDNN_POINTWISE_IDENTITY == (int)IDENTITY &&
                  CUDNN_TENSOR_REORDERING_F16x16 == (int)BY_16X16 &&
                  CUDNN_HEUR_MODE_A == (int)HEURISTIC_A,
              "cudnn_graph.h has other numbers");
#endif
#endif

/* ---- the library ----------------------------------------------------------------------------- */

typedef void *desc; /* cudnnBackendDescriptor_t */
struct api {
    size_t (*version)(void);
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, cudaStream_t stream);
    const char *(*error)(int status);
    void (*last_error)(char *text, size_t room);
    int (*make)(int type, desc *d);
    int (*drop)(desc d);
    int (*set)(desc d, int name, int type, int64_t count, const void *values);
    int (*get)(desc d, int name, int type, int64_t room, int64_t *count, void *values);
    int (*finish)(desc d);
    int (*execute)(void *handle, desc plan, desc pack);
};

enum tensor_id {
    ID_Q = 1,
    ID_K,
    ID_V,
    ID_O,
    ID_STATS,
    ID_SCALE,
    ID_DO,
    ID_ONE,
    ID_DQ,
    ID_DK,
    ID_DV,
    ID_SUM,
    ID_VIRTUAL = 100
};
enum { DESCRIPTORS = 512, ARRAYS = 5 };

struct shape {
    int64_t heads, q_rows, kv_rows, dim;
    int64_t stride[ARRAYS]; /* elements from head to head of q, k, v, o, d_o */
    bool backward;
};

struct cuda_cudnn {
    struct api api;
    void *handle;
    struct shape shape;
    desc made[DESCRIPTORS];
    int made_count;
    int64_t next_id;
    bool whole_ds; /* of the two spellings of dS that versions know: fp32, or rounded to bf16 */
    desc plan;
    int64_t workspace;
    struct err *e; /* of the call under way */
};

static const char *const where = "cuDNN";

static bool api_open(struct api *a, struct err *e)
{
#ifdef __CUDACC__
    void *library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_GLOBAL);
    if (!library)
        return err_set(e, ERR_DEVICE, err_at_name(where), "not on this machine (%s)", dlerror());
    const struct {
        const char *name;
        void **to;
    } names[] = {{"cudnnGetVersion", (void **)&a->version},
                 {"cudnnCreate", (void **)&a->create},
                 {"cudnnDestroy", (void **)&a->destroy},
                 {"cudnnSetStream", (void **)&a->set_stream},
                 {"cudnnGetErrorString", (void **)&a->error},
                 {"cudnnGetLastErrorString", (void **)&a->last_error},
                 {"cudnnBackendCreateDescriptor", (void **)&a->make},
                 {"cudnnBackendDestroyDescriptor", (void **)&a->drop},
                 {"cudnnBackendSetAttribute", (void **)&a->set},
                 {"cudnnBackendGetAttribute", (void **)&a->get},
                 {"cudnnBackendFinalize", (void **)&a->finish},
                 {"cudnnBackendExecute", (void **)&a->execute}};
    for (const auto &n : names)
        if (!(*n.to = dlsym(library, n.name)))
            return err_set(e, ERR_DEVICE, err_at_name(where), "the library has no %s", n.name);
    size_t v = a->version();
    if (v < LEAST_VERSION)
        return err_set(e, ERR_DEVICE, err_at_name(where),
                       "version %zu.%zu.%zu, want at least 9.13 for attention as one operation",
                       v / 10000, v / 100 % 100, v % 100);
    return true;
#else
    (void)a;
    return err_set(e, ERR_DEVICE, err_at_name(where), "not on an emulated GPU");
#endif
}

static bool ok(struct cuda_cudnn *p, int status, const char *what)
{
    char text[512] = "";
    if (status == 0)
        return true;
    p->api.last_error(text, sizeof text);
    return err_set(p->e, ERR_DEVICE, err_at_name(where), "%s: %s%s%s", what, p->api.error(status),
                   *text ? ": " : "", text);
}

/* ---- descriptors: after a first error the rest does nothing -------------------------- */

static desc make(struct cuda_cudnn *p, int type)
{
    desc d = NULL;
    if (p->e->code != ERR_NONE)
        return NULL;
    if (p->made_count == DESCRIPTORS)
        return err_set(p->e, ERR_DEVICE, err_at_name(where), "too many descriptors"), (desc)NULL;
    if (!ok(p, p->api.make(type, &d), "a descriptor"))
        return NULL;
    return p->made[p->made_count++] = d;
}

static void set(struct cuda_cudnn *p, desc d, int name, int type, int64_t count, const void *values)
{
    if (p->e->code == ERR_NONE)
        ok(p, p->api.set(d, name, type, count, values), "an attribute");
}

static void set_number(struct cuda_cudnn *p, desc d, int name, int type, int value)
{
    set(p, d, name, type, 1, &value); /* cuDNN's enums are ints */
}

static void set_desc(struct cuda_cudnn *p, desc d, int name, desc value)
{
    set(p, d, name, T_DESCRIPTOR, 1, &value);
}

static desc finish(struct cuda_cudnn *p, desc d, const char *what)
{
    return p->e->code == ERR_NONE && ok(p, p->api.finish(d), what) ? d : NULL;
}

struct layout { /* of one head; heads lie head_stride apart */
    int64_t rows, columns, head_stride, row_stride, column_stride;
};

static desc tensor(struct cuda_cudnn *p, int64_t id, int type, struct layout l)
{
    int64_t heads = p->shape.heads, alignment = 16;
    int64_t dims[] = {1, heads, l.rows, l.columns};
    int64_t strides[] = {heads * l.head_stride, l.head_stride, l.row_stride, l.column_stride};
    desc d = make(p, TENSOR);
    set_number(p, d, TENSOR_TYPE, T_DATA, type);
    set(p, d, TENSOR_DIMENSIONS, T_INT64, 4, dims);
    set(p, d, TENSOR_STRIDES, T_INT64, 4, strides);
    set(p, d, TENSOR_ID, T_INT64, 1, &id);
    set(p, d, TENSOR_ALIGNMENT, T_INT64, 1, &alignment);
    if (id >= ID_VIRTUAL) {
        bool yes = true;
        set(p, d, TENSOR_VIRTUAL, T_BOOL, 1, &yes);
    }
    if (id == ID_SUM)
        set_number(p, d, TENSOR_REORDER, T_REORDER, BY_16X16);
    return finish(p, d, "a tensor");
}

static desc scalar(struct cuda_cudnn *p, int64_t id) /* a number that the call passes */
{
    int64_t ones[] = {1, 1, 1, 1}, alignment = 16;
    bool yes = true;
    desc d = make(p, TENSOR);
    set_number(p, d, TENSOR_TYPE, T_DATA, FP32);
    set(p, d, TENSOR_DIMENSIONS, T_INT64, 4, ones);
    set(p, d, TENSOR_STRIDES, T_INT64, 4, ones);
    set(p, d, TENSOR_ID, T_INT64, 1, &id);
    set(p, d, TENSOR_ALIGNMENT, T_INT64, 1, &alignment);
    set(p, d, TENSOR_BY_VALUE, T_BOOL, 1, &yes);
    return finish(p, d, "a number");
}

static struct layout rows_of(int64_t rows, int64_t columns, int64_t head_stride)
{
    return {rows, columns, head_stride, columns, 1};
}

static struct layout transposed(struct layout l)
{
    return {l.columns, l.rows, l.head_stride, l.column_stride, l.row_stride};
}

static desc between(struct cuda_cudnn *p, int type, struct layout l) /* never in memory */
{
    return tensor(p, ID_VIRTUAL + p->next_id++, type, l);
}

static desc matmul(struct cuda_cudnn *p, desc a, desc b, desc c)
{
    desc how = make(p, MATMUL), op;
    set_number(p, how, MATMUL_PRECISION, T_DATA, FP32);
    finish(p, how, "a product");
    op = make(p, MATMUL_OP);
    set_desc(p, op, MATMUL_OP_DESCRIPTOR, how);
    set_desc(p, op, MATMUL_OP_A, a);
    set_desc(p, op, MATMUL_OP_B, b);
    set_desc(p, op, MATMUL_OP_C, c);
    return finish(p, op, "a product");
}

static desc pointwise(struct cuda_cudnn *p, int mode, desc x, desc b, desc y)
{
    desc how = make(p, POINTWISE), op;
    set_number(p, how, POINTWISE_MODE, T_POINTWISE, mode);
    set_number(p, how, POINTWISE_PRECISION, T_DATA, FP32);
    finish(p, how, "an elementwise operation");
    op = make(p, POINTWISE_OP);
    set_desc(p, op, POINTWISE_OP_DESCRIPTOR, how);
    set_desc(p, op, POINTWISE_OP_X, x);
    if (b)
        set_desc(p, op, POINTWISE_OP_B, b);
    set_desc(p, op, POINTWISE_OP_Y, y);
    return finish(p, op, "an elementwise operation");
}

static desc row_sum(struct cuda_cudnn *p, desc x, desc y)
{
    desc how = make(p, REDUCTION), op;
    set_number(p, how, REDUCTION_OPERATOR, T_REDUCTION, ADD);
    set_number(p, how, REDUCTION_PRECISION, T_DATA, FP32);
    finish(p, how, "a sum");
    op = make(p, REDUCTION_OP);
    set_desc(p, op, REDUCTION_OP_DESCRIPTOR, how);
    set_desc(p, op, REDUCTION_OP_X, x);
    set_desc(p, op, REDUCTION_OP_Y, y);
    return finish(p, op, "a sum");
}

static desc reshape(struct cuda_cudnn *p, desc x, desc y)
{
    desc op = make(p, RESHAPE_OP);
    set_desc(p, op, RESHAPE_OP_X, x);
    set_desc(p, op, RESHAPE_OP_Y, y);
    return finish(p, op, "a transpose");
}

/* ---- the two graphs ------------------------------------------------------------------ */

enum { OPS_MAX = 24 };
struct ops {
    desc op[OPS_MAX];
    int count;
};

static void add(struct ops *o, desc op)
{
    if (o->count < OPS_MAX)
        o->op[o->count++] = op;
}

static void forward_ops(struct cuda_cudnn *p, struct ops *o)
{
    const struct shape *s = &p->shape;
    desc op = make(p, SDPA_OP);
    set_desc(p, op, SDPA_Q, tensor(p, ID_Q, BF16, rows_of(s->q_rows, s->dim, s->stride[0])));
    set_desc(p, op, SDPA_K, tensor(p, ID_K, BF16, rows_of(s->kv_rows, s->dim, s->stride[1])));
    set_desc(p, op, SDPA_V, tensor(p, ID_V, BF16, rows_of(s->kv_rows, s->dim, s->stride[2])));
    set_desc(p, op, SDPA_O, tensor(p, ID_O, BF16, rows_of(s->q_rows, s->dim, s->stride[3])));
    set_desc(p, op, SDPA_STATS, tensor(p, ID_STATS, FP32, rows_of(s->q_rows, 1, s->q_rows)));
    set_desc(p, op, SDPA_SCALE, scalar(p, ID_SCALE));
    add(o, finish(p, op, "attention"));
}

static void backward_ops(struct cuda_cudnn *p, struct ops *o)
{
    const struct shape *s = &p->shape;
    int64_t scores = s->q_rows * s->kv_rows, q_size = s->q_rows * s->dim,
            kv_size = s->kv_rows * s->dim;
    struct layout q_rows = rows_of(s->q_rows, s->dim, q_size),
                  kv_rows = rows_of(s->kv_rows, s->dim, kv_size);
    struct layout column = rows_of(s->q_rows, 1, s->q_rows),
                  square = rows_of(s->q_rows, s->kv_rows, scores);
    struct layout k_rows = rows_of(s->kv_rows, s->dim, s->stride[1]);
    desc q = tensor(p, ID_Q, BF16, rows_of(s->q_rows, s->dim, s->stride[0]));
    desc kt = tensor(p, ID_K, BF16, transposed(k_rows));
    desc vt = tensor(p, ID_V, BF16, transposed(rows_of(s->kv_rows, s->dim, s->stride[2])));
    desc out = tensor(p, ID_O, BF16, rows_of(s->q_rows, s->dim, s->stride[3]));
    desc d_o = tensor(p, ID_DO, BF16, rows_of(s->q_rows, s->dim, s->stride[4]));
    desc stats = tensor(p, ID_STATS, FP32, column), scale = scalar(p, ID_SCALE),
         one = scalar(p, ID_ONE);

    /* rowsum(dO o O); the product with one is where dropout would be */
    desc products = between(p, FP32, q_rows), sum = between(p, FP32, column),
         kept = between(p, FP32, column);
    add(o, pointwise(p, MUL, d_o, out, products));
    add(o, row_sum(p, products, sum));
    add(o, pointwise(p, MUL, sum, one, kept));

    desc logits = between(p, FP32, square), scaled = between(p, FP32, square);
    desc shifted = between(p, FP32, square), weights = between(p, FP32, square);
    desc weights_t = between(p, BF16, transposed(square));
    add(o, matmul(p, q, kt, logits));
    add(o, pointwise(p, MUL, logits, scale, scaled));
    add(o, pointwise(p, SUB, scaled, stats, shifted));
    add(o, pointwise(p, EXP, shifted, NULL, weights));
    add(o, reshape(p, weights, weights_t));
    add(o, matmul(p, weights_t, d_o, tensor(p, ID_DV, BF16, kv_rows)));

    desc d_weights = between(p, FP32, square), masked = between(p, FP32, square);
    desc centred = between(p, FP32, square), d_logits = between(p, FP32, square);
    desc ds = between(p, p->whole_ds ? FP32 : BF16, square),
         ds_t = between(p, BF16, transposed(square));
    add(o, matmul(p, d_o, vt, d_weights));
    add(o, pointwise(p, MUL, d_weights, one, masked));
    add(o, pointwise(p, SUB, masked, kept, centred));
    add(o, pointwise(p, MUL, centred, weights, d_logits));
    add(o, pointwise(p, MUL, d_logits, scale, ds));
    add(o, reshape(p, ds, ds_t));
    add(o, matmul(p, ds_t, q, tensor(p, ID_DK, BF16, kv_rows)));

    /* dQ is summed in fp32 memory, in cuDNN's own order of elements, then rounded */
    desc k = between(p, BF16, k_rows), whole = tensor(p, ID_SUM, FP32, q_rows);
    add(o, reshape(p, kt, k));
    add(o, matmul(p, ds, k, whole));
    add(o, pointwise(p, IDENTITY, whole, NULL, tensor(p, ID_DQ, BF16, q_rows)));
}

static desc graph_of(struct cuda_cudnn *p)
{
    struct ops o = {};
    (p->shape.backward ? backward_ops : forward_ops)(p, &o);
    desc graph = make(p, GRAPH);
    if (p->handle)
        set(p, graph, GRAPH_HANDLE, T_HANDLE, 1, &p->handle);
    set(p, graph, GRAPH_OPS, T_DESCRIPTOR, o.count, o.op);
    return finish(p, graph, "the graph");
}

/* ---- a plan: the first of the engines that cuDNN suggests and that takes the graph ---- */

static bool plan_of_configuration(struct cuda_cudnn *p, desc configuration)
{
    desc plan = make(p, PLAN);
    set(p, plan, PLAN_HANDLE, T_HANDLE, 1, &p->handle);
    set_desc(p, plan, PLAN_CONFIGURATION, configuration);
    int64_t count = 0;
    if (p->e->code != ERR_NONE || p->api.finish(plan) != 0 ||
        p->api.get(plan, PLAN_WORKSPACE, T_INT64, 1, &count, &p->workspace) != 0)
        return false;
    p->plan = plan;
    return true;
}

static bool plan_by(struct cuda_cudnn *p, desc graph, int mode)
{
    enum { MOST = 16 };
    desc found[MOST], heuristic = make(p, HEURISTIC);
    int64_t count = 0;
    set_desc(p, heuristic, HEURISTIC_GRAPH, graph);
    set_number(p, heuristic, HEURISTIC_MODE, T_HEURISTIC, mode);
    finish(p, heuristic, "the choice of an engine");
    for (int i = 0; i < MOST; i++)
        found[i] = make(p, CONFIGURATION);
    if (p->e->code != ERR_NONE ||
        p->api.get(heuristic, HEURISTIC_RESULTS, T_DESCRIPTOR, MOST, &count, found) != 0)
        return false;
    for (int64_t i = 0; i < count && i < MOST; i++)
        if (plan_of_configuration(p, found[i]))
            return true;
    return false;
}

static bool plan_find(struct cuda_cudnn *p)
{
    struct err *told = p->e, last = {};
    p->e = &last;
    for (int whole = 1; whole >= (p->shape.backward ? 0 : 1) && !p->plan; whole--) {
        last = {};
        p->whole_ds = whole;
        desc graph = graph_of(p);
        if (last.code == ERR_NONE && !plan_by(p, graph, HEURISTIC_A))
            plan_by(p, graph, HEURISTIC_FALLBACK);
    }
    p->e = told;
    const struct shape *s = &p->shape;
    return p->plan ||
           err_set(told, last.code == ERR_NONE ? ERR_INPUT : last.code, err_at_name(where),
                   "no engine for %s of %lld heads, %lld queries, %lld keys, dimension %lld%s%s",
                   s->backward ? "backward" : "forward", (long long)s->heads, (long long)s->q_rows,
                   (long long)s->kv_rows, (long long)s->dim, last.code == ERR_NONE ? "" : ": ",
                   last.text);
}

/* ---- heads ----------------------------------------------------------------------------------- */

/* Arrays are told to be aligned to 16 bytes (tensor); LSE, O32 and gradients are ours only. */
static bool head_aligned(const struct kern_head *h, int i, bool backward, struct err *e)
{
    return cuda_aligned(h->q, 16, i, "q", e) && cuda_aligned(h->k, 16, i, "k", e) &&
           cuda_aligned(h->v, 16, i, "v", e) && cuda_aligned(h->o, 16, i, "o", e) &&
           cuda_words_aligned(h, i, e) && (!h->o32 || cuda_aligned(h->o32, 4, i, "o32", e)) &&
           (!backward ||
            (cuda_aligned(h->d_o, 16, i, "d_o", e) && cuda_aligned(h->dq, 4, i, "dq", e) &&
             cuda_aligned(h->dk, 4, i, "dk", e) && cuda_aligned(h->dv, 4, i, "dv", e)));
}

static bool heads_dense(const struct kern_attention *a, bool backward, struct err *e)
{
    for (int i = 0; i < a->head_count; i++) {
        const struct kern_head *h = &a->heads[i], *first = &a->heads[0];
        if (h->keys.list || h->keys.bitmap)
            return err_set(e, ERR_INPUT, err_at_name(where),
                           "head %d keeps some keys, want dense heads", i);
        if (h->q_rows != first->q_rows || h->kv_rows != first->kv_rows || h->q_rows == 0 ||
            h->kv_rows == 0)
            return err_set(e, ERR_INPUT, err_at_name(where),
                           "head %d: %lld queries, %lld keys; want as many as head 0, and some", i,
                           (long long)h->q_rows, (long long)h->kv_rows);
        if (!h->o)
            return err_set(e, ERR_INPUT, err_at_name(where), "head %d has no bf16 O", i);
        if (!head_aligned(h, i, backward, e))
            return false;
    }
    return a->head_count > 0 || err_set(e, ERR_INPUT, err_at_name(where), "no heads");
}

static const uint16_t *array_of(const struct kern_head *h, int i)
{
    const uint16_t *arrays[ARRAYS] = {h->q, h->k, h->v, h->o, h->d_o};
    return arrays[i];
}

/* Elements between heads if they are equally spaced and apart, else 0. */
static int64_t spacing(const struct kern_attention *a, int i, int64_t elements)
{
    int64_t step = elements;
    for (int h = 1; h < a->head_count; h++) {
        int64_t bytes = (int64_t)((intptr_t)array_of(&a->heads[h], i) -
                                  (intptr_t)array_of(&a->heads[h - 1], i));
        if (h == 1)
            step = bytes / 2;
        if (bytes != step * 2 || step < elements || step % 8 != 0)
            return 0;
    }
    return step;
}

static struct shape shape_of(const struct kern_attention *a, bool backward)
{
    const struct kern_head *h = &a->heads[0];
    struct shape s = {a->head_count, h->q_rows, h->kv_rows, a->dim, {}, backward};
    bool together = true;
    for (int i = 0; i < ARRAYS; i++) {
        int64_t elements = (i == 1 || i == 2 ? s.kv_rows : s.q_rows) * s.dim;
        s.stride[i] = i == 4 && !backward ? elements : spacing(a, i, elements);
        together = together && s.stride[i] > 0;
    }
    if (!together) {
        s.heads = 1;
        for (int i = 0; i < ARRAYS; i++)
            s.stride[i] = (i == 1 || i == 2 ? s.kv_rows : s.q_rows) * s.dim;
    }
    return s;
}

/* ---- from and to our units ----------------------------------------------------------- */

__global__ void cudnn_scale(float *to, const float *from, int64_t count, float factor)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        to[i] = from[i] * factor;
}

__global__ void cudnn_add(float *to, const uint16_t *from, int64_t pairs)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < pairs; i += step) {
        uint32_t pair = ((const uint32_t *)from)[i];
        to[2 * i] += dev_low(pair);
        to[2 * i + 1] += dev_high(pair);
    }
}

static dim3 blocks_for(int64_t count)
{
    return dim3((unsigned)(count / 256 < 8192 ? count / 256 + 1 : 8192));
}

static bool scaled_to(float *to, const float *from, int64_t count, float factor, struct err *e)
{
    return cuda_ok(dev_launch(cudnn_scale, blocks_for(count), dim3(256), 0, CUDA_STREAM, to, from,
                              count, factor),
                   where, e);
}

static bool added_to(float *to, const uint16_t *from, int64_t count, struct err *e)
{
    return cuda_ok(dev_launch(cudnn_add, blocks_for(count / 2), dim3(256), 0, CUDA_STREAM, to, from,
                              count / 2),
                   where, e);
}

/* ---- a run ----------------------------------------------------------------------------------- */

/* One piece of scratch; byte offsets. Stats and gradients lie head after head. */
struct room {
    int64_t stats, dq, dk, dv, sum, workspace, bytes;
};

static int64_t take(int64_t *at, int64_t bytes)
{
    int64_t here = *at;
    *at += (bytes + 1023) / 1024 * 1024;
    return here;
}

static struct room room_of(const struct cuda_cudnn *p)
{
    const struct shape *s = &p->shape;
    int64_t q = s->backward ? s->heads * s->q_rows * s->dim : 0,
            kv = s->backward ? s->heads * s->kv_rows * s->dim : 0;
    struct room r = {};
    r.stats = take(&r.bytes, s->heads * s->q_rows * 4);
    r.dq = take(&r.bytes, q * 2);
    r.dk = take(&r.bytes, kv * 2);
    r.dv = take(&r.bytes, kv * 2);
    r.sum = take(&r.bytes, q * 4);
    r.workspace = take(&r.bytes, p->workspace);
    return r;
}

static bool execute(struct cuda_cudnn *p, const struct kern_head *h, float scale,
                    const struct room *r, char *room)
{
    float one = 1;
    const int64_t ids[] = {ID_Q,  ID_K,   ID_V,  ID_O,  ID_STATS, ID_SCALE,
                           ID_DO, ID_ONE, ID_DQ, ID_DK, ID_DV,    ID_SUM};
    const void *pointers[] = {h->q,         h->k,         h->v, h->o,         room + r->stats,
                              &scale,       h->d_o,       &one, room + r->dq, room + r->dk,
                              room + r->dv, room + r->sum};
    void *workspace = room + r->workspace;
    int made = p->made_count;
    desc pack = make(p, PACK);
    int64_t count = p->shape.backward ? 12 : 6;
    set(p, pack, PACK_IDS, T_INT64, count, ids);
    set(p, pack, PACK_POINTERS, T_POINTER, count, pointers);
    set(p, pack, PACK_WORKSPACE, T_POINTER, 1, &workspace);
    finish(p, pack, "the arrays");
    bool good =
        p->e->code == ERR_NONE && ok(p, p->api.execute(p->handle, p->plan, pack), "attention");
    while (p->made_count > made)
        p->api.drop(p->made[--p->made_count]);
    return good;
}

/* heads h[0 .. shape.heads - 1] */
static bool run_forward(struct cuda_cudnn *p, const struct kern_head *h, float scale,
                        const struct room *r, char *room)
{
    const struct shape *s = &p->shape;
    bool good = execute(p, h, scale, r, room);
    for (int i = 0; good && i < s->heads; i++) {
        const float *stats = (const float *)(room + r->stats) + i * s->q_rows;
        good = scaled_to(h[i].lse, stats, s->q_rows, 1.44269504f, p->e) &&
               (!h[i].o32 || cuda_to_fp32(h[i].o32, h[i].o, s->q_rows * s->dim, p->e));
    }
    return good;
}

static bool run_backward(struct cuda_cudnn *p, const struct kern_head *h, float scale,
                         const struct room *r, char *room)
{
    const struct shape *s = &p->shape;
    int64_t q = s->q_rows * s->dim, kv = s->kv_rows * s->dim;
    bool good = cuda_ok(cudaMemsetAsync(room + r->sum, 0, (size_t)(s->heads * q * 4), CUDA_STREAM),
                        where, p->e);
    for (int i = 0; good && i < s->heads; i++)
        good = scaled_to((float *)(room + r->stats) + i * s->q_rows, h[i].lse, s->q_rows,
                         0.693147181f, p->e);
    good = good && execute(p, h, scale, r, room);
    for (int i = 0; good && i < s->heads; i++)
        good = added_to(h[i].dq, (const uint16_t *)(room + r->dq) + i * q, q, p->e) &&
               added_to(h[i].dk, (const uint16_t *)(room + r->dk) + i * kv, kv, p->e) &&
               added_to(h[i].dv, (const uint16_t *)(room + r->dv) + i * kv, kv, p->e);
    return good;
}

static bool same_shape(const struct shape *a, const struct shape *b)
{
    bool same = a->heads == b->heads && a->q_rows == b->q_rows && a->kv_rows == b->kv_rows &&
                a->dim == b->dim;
    for (int i = 0; i < ARRAYS; i++)
        same = same && a->stride[i] == b->stride[i];
    return same;
}

/* ---- what others see ------------------------------------------------------------------------- */

static struct cuda_cudnn *open_for(const struct kern_attention *a, bool backward, struct err *e)
{
    if (!kern_attention_check(a, backward, e) || !heads_dense(a, backward, e))
        return NULL;
    struct cuda_cudnn *p = (struct cuda_cudnn *)calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ERR_SYSTEM, err_at_name(where), "out of memory"),
               (struct cuda_cudnn *)NULL;
    p->e = e;
    p->shape = shape_of(a, backward);
    if (api_open(&p->api, e))
        return p;
    free(p);
    return NULL;
}

struct cuda_cudnn *cuda_cudnn_new(const struct kern_attention *a, bool backward, struct err *e)
{
    struct cuda_cudnn *p = open_for(a, backward, e);
    if (p && ok(p, p->api.create(&p->handle), "start") &&
        ok(p, p->api.set_stream(p->handle, CUDA_STREAM), "stream") && plan_find(p))
        return p;
    cuda_cudnn_free(p);
    return NULL;
}

void cuda_cudnn_free(struct cuda_cudnn *p)
{
    if (!p)
        return;
    while (p->made_count > 0)
        p->api.drop(p->made[--p->made_count]);
    if (p->handle)
        p->api.destroy(p->handle);
    free(p);
}

bool cuda_cudnn_run(struct cuda_cudnn *p, const struct kern_attention *a, struct err *e)
{
    bool backward = p->shape.backward;
    if (!kern_attention_check(a, backward, e) || !heads_dense(a, backward, e))
        return false;
    struct shape now = shape_of(a, backward);
    if (!same_shape(&now, &p->shape))
        return err_set(e, ERR_INPUT, err_at_name(where),
                       "heads of another shape or spacing than the plan's");
    struct room r = room_of(p);
    void *room = NULL;
    if (!cuda_scratch((size_t)r.bytes, &room, where, e))
        return false;
    p->e = e;
    bool good = true;
    for (int i = 0; good && i < a->head_count; i += (int)p->shape.heads)
        good = (backward ? run_backward : run_forward)(p, &a->heads[i], kern_scale(a), &r,
                                                       (char *)room);
    cuda_scratch_free(room);
    return good;
}

bool cuda_cudnn_accepts(const struct kern_attention *a, bool backward, struct err *e)
{
    struct cuda_cudnn *p = open_for(a, backward, e);
    bool good = p && graph_of(p) != NULL;
    cuda_cudnn_free(p);
    return good;
}

static bool once(const struct kern_attention *a, bool backward, struct err *e)
{
    struct cuda_cudnn *p = cuda_cudnn_new(a, backward, e);
    bool good =
        p && cuda_cudnn_run(p, a, e) && cuda_ok(cudaStreamSynchronize(CUDA_STREAM), where, e);
    cuda_cudnn_free(p);
    return good;
}

bool cuda_cudnn_forward(const struct kern_attention *a, struct err *e)
{
    return once(a, false, e);
}

bool cuda_cudnn_backward(const struct kern_attention *a, struct err *e)
{
    return once(a, true, e);
}
