/* The dense baseline against the double-precision reference, where there are a GPU and cuDNN; and
 * what of it shows without: cuDNN takes the operations, what it cannot do is refused, and an absent
 * GPU is an error with a reason. */
#include "kernels/cuda/cuda.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

extern "C" {
#include "tests/kernels/problem.h"
}

#include "tests/check.h"

static const struct problem_shape shapes[] = {
    {.dim = 128,
     .heads = 2,
     .q_rows = 256,
     .kv_rows = 256,
     .group = 1,
     .keep = {-1, -1},
     .logit_std = 1,
     .logit_mean = 0,
     .dense_as_list = 0,
     .seed = 1},
    {.dim = 64,
     .heads = 2,
     .q_rows = 512,
     .kv_rows = 384,
     .group = 1,
     .keep = {-1, -1},
     .logit_std = 3,
     .logit_mean = 0,
     .dense_as_list = 0,
     .seed = 2},
    {.dim = 128,
     .heads = 1,
     .q_rows = 200,
     .kv_rows = 1000,
     .group = 1,
     .keep = {-1},
     .logit_std = 1,
     .logit_mean = 0,
     .dense_as_list = 0,
     .seed = 3},
};

static void cudnn_equals_the_reference(const struct problem_shape *s)
{
    struct problem p, r;
    struct err e = {};
    struct kern_backend cudnn = kern_cuda;
    cudnn.forward = cuda_cudnn_forward, cudnn.backward = cuda_cudnn_backward;
    const struct kern_backend *reference = kern_backend_of("reference", &e);
    problem_new(&p, s);
    problem_twin(&r, &p);
    bool made = reference->forward(&r.a, &e) && reference->backward(&r.a, &e);
    bool ran = made && problem_run(&p, &cudnn, &e);
    gsl_test(!ran, "dimension %d, %lld x %lld: %s", s->dim, (long long)s->q_rows,
             (long long)s->kv_rows, ran ? "runs" : e.text);
    if (ran) { /* bounds for bf16 in, fp32 sums; dQ, dK and dV are rounded to bf16 here
                */
        struct distance d = problem_distance(&p, &r);
        gsl_test(!(d.o <= 5e-3 && d.lse <= 1e-3), "dimension %d: O is %.2g off, LSE %.2g", s->dim,
                 d.o, d.lse);
        gsl_test(!(d.dq <= 1e-2 && d.dk <= 1e-2 && d.dv <= 1e-2),
                 "dimension %d: gradients are %.2g, %.2g, %.2g off", s->dim, d.dq, d.dk, d.dv);
    }
    problem_free(&p);
    problem_free(&r);
}

static void the_library_takes_the_operations(const struct problem_shape *s)
{
    struct problem p;
    problem_new(&p, s);
    for (int backward = 0; backward < 2; backward++) {
        struct err e = {};
        bool takes = cuda_cudnn_accepts(&p.a, backward, &e);
        gsl_test(!takes, "%s, dimension %d: %s", backward ? "backward" : "forward", s->dim,
                 takes ? "taken" : e.text);
    }
    problem_free(&p);
}

static void what_it_cannot_do_is_refused(void)
{
    struct problem p;
    struct problem_shape s = shapes[0];
    s.keep[1] = 7;
    problem_new(&p, &s);
    struct err some = {}, uneven = {}, none = {};
    gsl_test(cuda_cudnn_forward(&p.a, &some) || some.code != ERR_INPUT, "sparse heads: %s",
             some.text);
    p.head[1].keys = p.head[0].keys;
    p.head[1].q_rows--;
    gsl_test(cuda_cudnn_forward(&p.a, &uneven) || uneven.code != ERR_INPUT, "uneven heads: %s",
             uneven.text);
    p.head[1].q_rows++;
    const struct {
        const char *name;
        size_t at;
    } arrays[] = {
        {"q", offsetof(struct kern_head, q)},     {"k", offsetof(struct kern_head, k)},
        {"v", offsetof(struct kern_head, v)},     {"o", offsetof(struct kern_head, o)},
        {"d_o", offsetof(struct kern_head, d_o)}, {"lse", offsetof(struct kern_head, lse)},
        {"dq", offsetof(struct kern_head, dq)},   {"dk", offsetof(struct kern_head, dk)},
        {"dv", offsetof(struct kern_head, dv)},
    };
    for (const auto &array : arrays) {
        struct kern_head right = p.head[1];
        struct err beside = {};
        *(char **)((char *)&p.head[1] + array.at) += 2;
        gsl_test(cuda_cudnn_backward(&p.a, &beside) || beside.code != ERR_INPUT ||
                     !strstr(beside.text, array.name),
                 "%s beside its place: %s", array.name, beside.text);
        p.head[1] = right;
    }
    struct cuda_cudnn *plan = kern_cuda.available() ? NULL : cuda_cudnn_new(&p.a, false, &none);
    gsl_test(!kern_cuda.available() && (plan || none.code != ERR_DEVICE), "without a GPU: %s",
             none.text);
    cuda_cudnn_free(NULL);
    problem_free(&p);
}

int main(void)
{
    struct problem p;
    struct err e = {};
    what_it_cannot_do_is_refused();
    problem_new(&p, &shapes[0]);
    bool here = cuda_cudnn_accepts(&p.a, false, &e);
    problem_free(&p);
    if (!here) {
        printf("skipped: %s\n", e.text);
        return gsl_test_summary() ? 1 : 77;
    }
    for (const struct problem_shape &s : shapes) {
        the_library_takes_the_operations(&s);
        if (kern_cuda.available())
            cudnn_equals_the_reference(&s);
    }
    if (!kern_cuda.available())
        printf("not run: there is no GPU\n");
    return gsl_test_summary();
}
