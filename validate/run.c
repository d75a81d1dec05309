#include "validate/run.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/launcher.h"
#include "validate/verify.h"

/* What all ranks of a process share. */
struct job {
    const struct plan *plan;
    const struct run_options *o;
    FILE *out;
    const char *out_name;
    struct arena *a;
    struct run_result *r;
    struct run_row *rows; /* rank 0: all so far */
    int room;
    bool root;
    double *union_share;
    /* What one rank computes for all ranks of this process: the answers of the block at hand. */
    pthread_mutex_t truth_lock;
    struct truth *truth;
    int truth_index; /* of the block among those that are run; -1: none yet */
};

/* As model/program.c prices them. */
static double linear_flop(const struct plan *p, int block)
{
    const struct dit_model *m = p->c.model;
    if (!p->c.linear)
        return 0;
    return dit_linear_flop(m, p->c.video_tokens) / dit_blocks(m) +
           dit_cross_flop(m, block, p->c.video_tokens);
}

struct exec_case run_case(const struct plan *p, int block, uint64_t seed)
{
    const struct dit_model *m = p->c.model;
    struct exec_case c =
        (struct exec_case){.heads = m->heads,
                           .kv_heads = m->kv_heads,
                           .head_dim = m->head_dim,
                           .tokens = dit_attention_tokens(m, block, p->c.video_tokens),
                           .block = block,
                           .conf = p->blocks[block].conf,
                           .keep = &p->c.sparsity->keep[(size_t)block * (size_t)m->heads],
                           .options = p->c.options,
                           .linear_flop = linear_flop(p, block),
                           .width = m->width,
                           .seed = seed};
    if (!(p->c.cluster->pcie_bytes_per_s > 0)) /* as model/program.c has it */
        c.options.offload = OFFLOAD_NONE;
    return c;
}

/* What the launcher says, or that all ranks are here. */
static int ranks_here(int ranks)
{
    int said = launcher_of_process().local_size;
    return said > 0 ? said : ranks;
}

/* Cores that this process may use. Launchers bind ranks to cores of their own where there are
 * enough, so a part of the machine is taken for this rank's own share. */
static int cores_here(int ranks)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
#ifdef _OPENMP
    int mine = omp_get_num_procs();
    return (long)mine * ranks <= online ? mine * ranks : mine;
#else
    (void)ranks;
    return (int)online;
#endif
}

struct run_place run_place_of(int ranks)
{
    struct run_place p = {.ranks = ranks_here(ranks), .threads = 1};
    p.cores = cores_here(p.ranks);
#ifdef _OPENMP
    int share = p.cores / p.ranks;
    p.threads = getenv("OMP_NUM_THREADS") ? omp_get_max_threads() : share > 1 ? share : 1;
#endif
    return p;
}

bool run_takes_turns(int ranks)
{
    struct run_place p = run_place_of(ranks);
    return p.ranks * p.threads > p.cores;
}

void run_share_cores(const struct comm *world)
{
#ifdef _OPENMP
    omp_set_num_threads(run_place_of(world->size).threads);
#else
    (void)world;
#endif
}

/* ---- rows to rank 0 and to the file ---- */

void run_write_header(FILE *out, uint64_t signature, int ranks, const struct run_options *o)
{
    struct run_place p = run_place_of(ranks);
    fprintf(out, "# schema: %s\n# plan signature: %016" PRIx64 "\n# ranks: %d\n", ROWS_SCHEMA,
            signature, ranks);
    fprintf(out, ROWS_PLACE "\n", p.cores, p.ranks, p.threads);
    fprintf(out, ROWS_CLOCK "%s\n", o->cpu_clock ? "cpu" : "wall");
    fprintf(out, "# backend: %s, comm: %s, warm-up: %d, repeats: %d\n%s\n", o->backend->name,
            o->comm->name, o->warmup, o->repeats, rows_columns);
}

static bool write_rows(const struct job *j, struct comm *world, const struct run_row *rows,
                       int count, struct err *e)
{
    if (!j->out)
        return true;
    comm_phase(world, "write rows");
    for (int i = 0; i < count; i++)
        rows_write(j->out, &rows[i]);
    if (fflush(j->out) == 0 && !ferror(j->out))
        return true;
    int code = errno;
    comm_fail(world, e, "%s: %s", j->out_name, strerror(code));
    e->code = ERR_SYSTEM;
    return false;
}

static struct run_row *room_for(struct job *j, int more)
{
    if (j->r->row_count + more > j->room) {
        int room = 2 * (j->r->row_count + more);
        struct run_row *bigger = ARENA_ARRAY(j->a, struct run_row, room);
        if (j->r->row_count)
            memcpy(bigger, j->rows, (size_t)j->r->row_count * sizeof *bigger);
        j->rows = bigger, j->room = room;
    }
    return j->rows + j->r->row_count;
}

static int take_rows(const struct exec *x, int block, int repeat, int rank, struct run_row *out)
{
    const struct exec_row *rows;
    int n = exec_rows(x, &rows);
    for (int i = 0; i < n; i++) {
        out[i] = (struct run_row){
            block,           repeat,         rank,         (int)rows[i].pass, (int)rows[i].cost, "",
            rows[i].seconds, rows[i].wait_s, rows[i].sent, rows[i].received,  rows[i].work};
        snprintf(out[i].phase, sizeof out[i].phase, "%s", rows[i].phase);
    }
    return n;
}

enum { ROWS_MOST = 64 };

/* Every rank's rows of one repeat come to rank 0, which keeps and writes them. */
static bool collect(struct job *j, struct comm *world, const struct exec *x, int block, int repeat,
                    struct err *e)
{
    struct run_row mine[ROWS_MOST] = {0};
    int64_t size = world->size, *parts = calloc(4 * (size_t)size, sizeof *parts);
    char *all = malloc((size_t)size * sizeof mine);
    bool ok = parts && all;
    int n = take_rows(x, block, repeat, world->rank, mine);
    comm_phase(world, "collect rows");
    if (ok) {
        parts[0] = n * (int64_t)sizeof *mine; /* to rank 0 only; all ranks have as many phases */
        for (int r = 0; r < size && world->rank == 0; r++)
            parts[2 * size + r] = parts[0], parts[3 * size + r] = r * parts[0];
        ok = comm_alltoallv(world, (struct comm_parts){mine, parts, parts + size},
                            (struct comm_parts){all, parts + 2 * size, parts + 3 * size}, e);
    } else {
        comm_fail(world, e, "out of memory");
    }
    if (ok && world->rank == 0) {
        struct run_row *to = room_for(j, n * (int)size);
        memcpy(to, all, (size_t)n * (size_t)size * sizeof *to);
        j->r->row_count += n * (int)size;
        ok = write_rows(j, world, to, n * (int)size, e);
    }
    free(parts);
    free(all);
    return ok;
}

/* ---- the largest or the mean over ranks, on all of them ---- */

static bool over_ranks(struct comm *world, double x, double *most, double *mean, struct err *e)
{
    int64_t size = world->size, *parts = malloc(2 * (size_t)size * sizeof *parts);
    double *all = malloc((size_t)size * sizeof *all);
    bool ok = parts && all;
    for (int r = 0; ok && r < size; r++)
        parts[r] = sizeof *all, parts[size + r] = r * (int64_t)sizeof *all;
    ok = ok ? comm_allgatherv(world, &x, sizeof x, (struct comm_parts){all, parts, parts + size}, e)
            : comm_fail(world, e, "out of memory");
    *most = -1, *mean = 0;
    for (int r = 0; ok && r < size; r++) {
        *most = *most != *most || all[r] <= *most ? *most : all[r]; /* NaN stays */
        *mean += all[r] / (double)size;
    }
    free(parts);
    free(all);
    return ok;
}

/* The first rank that comes computes them; each further one would take as long, on the same cores.
 * A rank that fails ends the run, so that no other waits for long. */
static const struct truth *truth_of(struct job *j, int index, const struct exec_case *c,
                                    struct err *e)
{
    pthread_mutex_lock(&j->truth_lock);
    if (j->truth_index != index) {
        truth_free(j->truth);
        j->truth = truth_new(c, j->o->backend, e);
        j->truth_index = index;
    } else if (!j->truth) {
        err_set(e, ERR_DEVICE, err_at_name("verify"), "another rank could not compute the answers");
    }
    const struct truth *t = j->truth;
    pthread_mutex_unlock(&j->truth_lock);
    return t;
}

static bool verify_block(struct job *j, struct comm *world, int index, const struct exec_case *c,
                         struct exec *x, struct err *e)
{
    struct exec_result result = {0};
    struct verify_distance d = {0};
    double o, grad, mean, worst = 0;
    comm_phase(world, "verify");
    const struct truth *t = truth_of(j, index, c, e);
    bool ok = t && exec_result(x, &result, e);
    if (ok) {
        d = truth_distance(t, &result);
        worst = d.dq >= d.dk ? d.dq : d.dk; /* NaN in d.dk is caught by verify_close below */
        worst = worst >= d.dv ? worst : d.dv;
        ok = verify_close(d) || comm_fail(world, e,
                                          "block %d differs from one rank: O by %.3g, dQ %.3g, dK "
                                          "%.3g, dV %.3g (relative; allowed %.3g and %.3g)",
                                          c->block, d.o, d.dq, d.dk, d.dv, VERIFY_O_PPM * 1e-6,
                                          VERIFY_GRADIENT_PPM * 1e-6);
        if (!ok)
            e->code = ERR_TOLERANCE;
    }
    ok = ok && over_ranks(world, d.o, &o, &mean, e) && over_ranks(world, worst, &grad, &mean, e);
    if (ok && world->rank == 0) {
        j->r->far_o = o > j->r->far_o ? o : j->r->far_o;
        j->r->far_gradient = grad > j->r->far_gradient ? grad : j->r->far_gradient;
    }
    exec_result_free(&result);
    return ok;
}

static bool run_block(struct job *j, struct comm *world, int index, struct err *e)
{
    int block = j->o->blocks[index];
    struct exec_case c = run_case(j->plan, block, j->o->seed);
    c.cpu_clock = j->o->cpu_clock;
    struct exec *x = exec_new(&c, j->o->backend, world, e);
    bool ok = x != NULL;
    double most, mean = 1;
    for (int i = -j->o->warmup; ok && i < j->o->repeats; i++) {
        comm_phase(world, "start of a repeat");
        ok = comm_barrier(world, e) && exec_once(x, e) &&
             (i < 0 || collect(j, world, x, block, i, e));
    }
    ok = ok && over_ranks(world, exec_union(x), &most, &mean, e);
    if (ok && world->rank == 0)
        j->union_share[index] = mean;
    ok = ok && (!j->o->verify || verify_block(j, world, index, &c, x, e));
    exec_free(x);
    if (!ok && e->code != ERR_NONE && !strstr(e->text, "rank "))
        err_prefix(e, "rank %d, block %d, %s", world->world_rank, block,
                   *world->phase ? *world->phase : "start");
    return ok;
}

static bool rank_main(struct comm *world, void *arg, struct err *e)
{
    struct job *j = arg;
    run_share_cores(world);
    if (world->rank == 0)
        j->root = true;
    bool process_first = world->rank == 0 || world->backend->processes;
    if (j->o->phase && process_first) /* communicators split from this one share the pointer */
        world->phase = j->o->phase;
    for (int i = 0; i < j->o->block_count; i++)
        if (!run_block(j, world, i, e))
            return false;
    comm_phase(world, "end");
    return comm_barrier(world, e);
}

bool run_plan(const struct plan *p, const struct run_options *o, FILE *out, const char *out_name,
              struct arena *a, struct run_result *r, bool *root, struct err *e)
{
    *r = (struct run_result){.blocks = o->block_count, .verified = o->verify};
    struct job j = {.plan = p,
                    .o = o,
                    .out = out,
                    .out_name = out_name,
                    .a = a,
                    .r = r,
                    .truth_lock = PTHREAD_MUTEX_INITIALIZER,
                    .truth_index = -1};
    j.union_share = ARENA_ARRAY(a, double, o->block_count + 1);
    struct comm_options c = {.ranks = p->cp,
                             .timeout_s = o->timeout_s,
                             .sleeps = o->cpu_clock || run_takes_turns(p->cp)};
    bool ok = o->comm->run(&c, rank_main, &j, e);
    truth_free(j.truth);
    pthread_mutex_destroy(&j.truth_lock);
    r->rows = j.rows, r->union_share = j.union_share;
    *root = j.root;
    return ok;
}
