/* shardwise-run: executes a plan with real kernels and real messages. A program of its own: it
 * links neither GSL nor the planner, so that it can link MPI, CUDA and NCCL. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/launcher.h"
#include "base/qty.h"
#include "base/table.h"
#include "validate/bench.h"
#include "validate/compare.h"
#include "validate/measured.h"
#include "validate/run.h"

static const char help[] =
    "Example: mpirun -np 4 shardwise-run plan.json -o measured.tsv --verify\n"
    "         shardwise-run plan.json --comm loopback --blocks 0,4-7\n"
    "         shardwise-run compare plan.json measured.tsv\n"
    "         shardwise-run bench attention -o attention.csv\n"
    "\n"
    "usage: shardwise-run PLAN [options]      runs the plan's blocks on as many ranks as its "
    "context-parallel degree\n"
    "       shardwise-run compare PLAN ROWS     predicted against measured, phase by phase\n"
    "       shardwise-run calibrate PLAN ROWS [PLAN ROWS ..]  fits kernels and links to measured "
    "rows; -o PREFIX "
    "writes them\n"
    "       shardwise-run bench KIND [options]  measures attention, sparse, copy, collective, or "
    "the machine\n"
    "\n"
    "  -o FILE          measured rows (TSV), each repeat written when it is done; '-' is standard "
    "output\n"
    "  --comm NAME      loopback: virtual ranks in one process; mpi: started by mpirun or srun "
    "--mpi=pmix;\n"
    "                   nccl: a GPU a process, started by mpirun, srun or torchrun, with "
    "NCCL_COMM_ID=host:port\n"
    "                   (default: as it was started; docs/cluster.md)\n"
    "  --backend NAME   cuda (in builds that have it), cpu, reference (default: the first that "
    "this "
    "machine can run)\n"
    "  --blocks LIST    0,4-7: blocks of the plan (default: the first of each configuration)\n"
    "  --warmup N       runs before measuring (default 1)\n"
    "  --repeats N      measured runs (default 5)\n"
    "  --seed N         of the inputs (default 1)\n"
    "  --verify         outputs and gradients must equal attention on one rank\n"
    "  --clock NAME     wall; cpu: each rank's time is the CPU time that it used, as if it had a "
    "core of its own (busy\n"
    "                   machines, more ranks than cores; all ranks on one machine)\n"
    "  --timeout S      seconds that a rank waits for the others in one exchange (default 20)\n"
    "  --format F       text, csv or json: the summary on standard output\n"
    "  --tolerance T    compare: how far a whole block may be off (25%; default: any)\n"
    "  --ranks N        bench collective, machine: virtual ranks (default 2); under mpirun its "
    "number\n"
    "\n"
    "exit status: 0 ok, 1 system, 2 bad input, 4 a rank or device failed, 5 verification failed or "
    "outside tolerance\n";

enum {
    OPT_COMM = 256,
    OPT_BACKEND,
    OPT_BLOCKS,
    OPT_WARMUP,
    OPT_REPEATS,
    OPT_SEED,
    OPT_VERIFY,
    OPT_TIMEOUT,
    OPT_FORMAT,
    OPT_CLOCK,
    OPT_RANKS,
    OPT_TOLERANCE
};

struct args {
    const char *plan, *out, *comm, *backend, *blocks, *bench, *rows;
    char **pairs; /* calibrate: plan and rows in turn */
    int pair_count;
    double tolerance;
    int64_t warmup, repeats, seed, timeout, ranks;
    bool verify, cpu_clock;
    enum table_format format;
};

static bool number(const char *option, const char *text, int64_t least, int64_t most, int64_t *out,
                   struct err *e)
{
    return qty_parse_int(text, least, most, option, err_at_name(NULL), out, e);
}

static bool take_option(struct args *a, int option, const char *text, struct err *e)
{
    switch (option) {
    case 'o':
        a->out = text;
        return true;
    case OPT_COMM:
        a->comm = text;
        return true;
    case OPT_BACKEND:
        a->backend = text;
        return true;
    case OPT_BLOCKS:
        a->blocks = text;
        return true;
    case OPT_VERIFY:
        a->verify = true;
        return true;
    case OPT_CLOCK:
        a->cpu_clock = strcmp(text, "cpu") == 0;
        return a->cpu_clock || strcmp(text, "wall") == 0 ||
               err_set(e, ERR_INPUT, err_at_name("--clock"), "'%s', want wall or cpu", text);
    case OPT_WARMUP:
        return number("--warmup", text, 0, 1000, &a->warmup, e);
    case OPT_REPEATS:
        return number("--repeats", text, 1, 100000, &a->repeats, e);
    case OPT_SEED:
        return number("--seed", text, 0, INT64_MAX, &a->seed, e);
    case OPT_TIMEOUT:
        return number("--timeout", text, 1, 86400, &a->timeout, e);
    case OPT_RANKS:
        return number("--ranks", text, 1, 256, &a->ranks, e);
    case OPT_TOLERANCE:
        return qty_parse(text, QTY_RATIO, "--tolerance", err_at_name(NULL), &a->tolerance, e);
    case OPT_FORMAT:
        return table_format_parse(text, &a->format, e);
    default:
        return err_set(e, ERR_INPUT, err_at_name("usage"), "see shardwise-run --help");
    }
}

/* `word` is where getopt_long stopped: at '?' an unknown option, at ':' one without its value. */
static bool bad_option(int found, const char *word, struct err *e)
{
    char letter[] = {'-', (char)optopt, 0};
    if (found == ':')
        return err_set(e, ERR_INPUT, err_at_name(word), "a value is missing");
    return err_set(e, ERR_INPUT, err_at_name(NULL),
                   "'%s' is no option of shardwise-run; its --help lists them, and what a plan "
                   "holds is chosen by `shardwise plan`",
                   optopt ? letter : word);
}

static bool parse(int argc, char **argv, struct args *a, bool *helped, struct err *e)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"comm", required_argument, NULL, OPT_COMM},
                                            {"backend", required_argument, NULL, OPT_BACKEND},
                                            {"blocks", required_argument, NULL, OPT_BLOCKS},
                                            {"warmup", required_argument, NULL, OPT_WARMUP},
                                            {"repeats", required_argument, NULL, OPT_REPEATS},
                                            {"seed", required_argument, NULL, OPT_SEED},
                                            {"verify", no_argument, NULL, OPT_VERIFY},
                                            {"clock", required_argument, NULL, OPT_CLOCK},
                                            {"timeout", required_argument, NULL, OPT_TIMEOUT},
                                            {"format", required_argument, NULL, OPT_FORMAT},
                                            {"ranks", required_argument, NULL, OPT_RANKS},
                                            {"tolerance", required_argument, NULL, OPT_TOLERANCE},
                                            {0}};
    *a = (struct args){.warmup = 1,
                       .repeats = 5,
                       .seed = 1,
                       .timeout = 20,
                       .ranks = 2,
                       .tolerance = (double)INFINITY};
    for (int o; (o = getopt_long(argc, argv, ":o:h", options, NULL)) != -1;) {
        if (o == '?' || o == ':')
            return bad_option(o, argv[optind - 1], e);
        if (o == 'h') {
            fputs(help, stdout);
            *helped = true;
            return true;
        }
        if (!take_option(a, o, optarg, e))
            return false;
    }
    a->plan = optind < argc ? argv[optind++] : NULL;
    if (a->plan && strcmp(a->plan, "bench") == 0) {
        a->bench = optind < argc ? argv[optind++] : "";
    } else if (a->plan && strcmp(a->plan, "calibrate") == 0) {
        a->pairs = argv + optind, a->pair_count = (argc - optind) / 2;
        if (a->pair_count < 1 || (argc - optind) % 2 != 0)
            return err_set(e, ERR_INPUT, err_at_name("calibrate"),
                           "want plans and rows in turn: PLAN ROWS [PLAN ROWS ..]");
        optind = argc;
    } else if (a->plan && strcmp(a->plan, "compare") == 0) {
        a->plan = optind < argc ? argv[optind++] : NULL;
        a->rows = optind < argc ? argv[optind++] : "";
    }
    if (!a->plan || optind < argc)
        return err_set(e, ERR_INPUT, err_at_name("usage"),
                       "want one plan file; see shardwise-run --help");
    return true;
}

/* ---- which blocks ---- */

static bool same_conf(const struct cp_conf *a, const struct cp_conf *b)
{
    bool same = a->strategy == b->strategy && a->head_groups == b->head_groups &&
                a->seq_groups == b->seq_groups && a->heads_inside == b->heads_inside &&
                a->sparse == b->sparse && a->query_group == b->query_group &&
                a->piece_count == b->piece_count;
    for (int i = 0; same && i < a->piece_count; i++)
        same = a->pieces[i].head == b->pieces[i].head &&
               a->pieces[i].head_rank == b->pieces[i].head_rank &&
               !(a->pieces[i].begin < b->pieces[i].begin) &&
               !(a->pieces[i].begin > b->pieces[i].begin);
    return same;
}

static int first_of_each(const struct plan *p, int *blocks)
{
    int n = 0;
    for (int b = 0; b < p->block_count; b++) {
        bool seen = false;
        for (int i = 0; i < n && !seen; i++)
            seen = same_conf(&p->blocks[b].conf, &p->blocks[blocks[i]].conf);
        if (!seen)
            blocks[n++] = b;
    }
    return n;
}

/* "0,4-7" */
static bool parse_blocks(const char *text, const struct plan *p, int *blocks, int *count,
                         struct err *e)
{
    const char *at = text;
    *count = 0;
    while (*at) {
        char *end;
        long first = strtol(at, &end, 10), last = first;
        bool digits = end != at;
        if (digits && *end == '-') {
            at = end + 1;
            last = strtol(at, &end, 10);
            digits = end != at;
        }
        bool fits = digits && first >= 0 && first <= last && last < p->block_count;
        if (!fits || (*end && *end != ',') || (*count && first <= blocks[*count - 1]))
            return err_set(e, ERR_INPUT, err_at_name("--blocks"),
                           "'%s', want rising blocks of 0 to %d such as '0,4-7'", text,
                           p->block_count - 1);
        for (long b = first; b <= last; b++)
            blocks[(*count)++] = (int)b;
        at = *end ? end + 1 : end;
    }
    return *count > 0 || err_set(e, ERR_INPUT, err_at_name("--blocks"), "want at least one block");
}

/* ---- summary ---- */

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

/* Of one block and phase, per repeat: the largest over ranks. `phase` NULL: the whole, largest over
 * ranks of the sum with its waits. */
static int largest_per_repeat(const struct run_result *r, const struct run_row *like,
                              const char *phase, int repeats, double *out, struct arena *a)
{
    int ranks = 0;
    for (int i = 0; i < r->row_count; i++)
        ranks = r->rows[i].rank >= ranks ? r->rows[i].rank + 1 : ranks;
    double *sum = ARENA_ARRAY(a, double, repeats *ranks);
    for (int i = 0; i < r->row_count; i++) {
        const struct run_row *x = &r->rows[i];
        if (x->block != like->block ||
            (phase && (x->pass != like->pass || strcmp(x->phase, phase) != 0)))
            continue;
        sum[x->repeat * ranks + x->rank] += x->seconds + (phase ? 0 : x->wait_s);
    }
    for (int k = 0; k < repeats; k++)
        for (int i = 0; i < ranks; i++)
            out[k] = sum[k * ranks + i] > out[k] ? sum[k * ranks + i] : out[k];
    return repeats;
}

static void add_line(struct table *t, const struct run_result *r, const struct run_row *row,
                     const char *phase, int repeats, struct arena *a)
{
    static const char *const passes[] = {"forward", "recompute", "backward"};
    double *v = ARENA_ARRAY(a, double, repeats);
    int n = largest_per_repeat(r, row, phase, repeats, v, a);
    qsort(v, (size_t)n, sizeof *v, by_value);
    table_int(t, row->block);
    table_str(t, phase ? passes[row->pass] : "all");
    table_str(t, phase ? phase : "whole block");
    table_num(t, v[n / 2]);
    table_num(t, v[0]);
    table_num(t, v[n - 1]);
}

static void print_summary(const struct run_result *r, const struct run_options *o,
                          enum table_format format, struct arena *a)
{
    static const struct table_col cols[] = {
        {"block", "block", TABLE_INT, QTY_NUMBER},
        {"pass", "pass", TABLE_STR, QTY_NUMBER},
        {"phase", "phase", TABLE_STR, QTY_NUMBER},
        {"median_s", "median of repeats", TABLE_QTY, QTY_SECONDS},
        {"least_s", "least", TABLE_QTY, QTY_SECONDS},
        {"most_s", "most", TABLE_QTY, QTY_SECONDS}};
    struct table *t = table_new(a, cols, 6);
    for (int i = 0; i < r->row_count; i++) {
        const struct run_row *x = &r->rows[i];
        bool seen = x->repeat != 0 || x->rank != 0;
        for (int k = i - 1; k >= 0 && !seen && r->rows[k].block == x->block; k--)
            seen = r->rows[k].pass == x->pass && strcmp(r->rows[k].phase, x->phase) == 0;
        if (!seen)
            add_line(t, r, x, x->phase, o->repeats, a);
        if (i + 1 == r->row_count || r->rows[i + 1].block != x->block)
            add_line(t, r, x, NULL, o->repeats, a);
    }
    table_print(t, format, stdout);
    if (format != TABLE_TEXT)
        return;
    puts("Each time is the largest over ranks; a whole block counts waits too.");
    for (int i = 0; i < r->blocks; i++)
        if (r->union_share[i] < 1)
            printf("Block %d: a rank's selections touch %.1f%% of the keys.\n", o->blocks[i],
                   100 * r->union_share[i]);
    if (r->verified)
        printf("Verified against one rank: O within %.2g, gradients within %.2g (relative L2).\n",
               r->far_o, r->far_gradient);
}

/* ---- ended from outside ---- */

/* When a rank dies, mpirun ends the others with SIGTERM: each says where it was. */
static void *watch_for_end(void *arg)
{
    const char *const *phase = arg;
    sigset_t set;
    int signal_number = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigwait(&set, &signal_number);
    fprintf(stderr,
            "shardwise-run: rank %d, %s: ended by signal %d: another rank is gone, or the launcher "
            "was told to stop\n",
            launcher_of_process().rank, *phase ? *phase : "start", signal_number);
    _exit(ERR_DEVICE);
}

static void start_watch(const char **phase)
{
    sigset_t set;
    pthread_t thread;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before other threads start: they inherit it */
    if (pthread_create(&thread, NULL, watch_for_end, phase) == 0)
        pthread_detach(thread);
}

/* ---- main ---- */

static FILE *open_rows(const char *path, struct err *e)
{
    FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");
    if (!f)
        err_set(e, ERR_SYSTEM, err_at_name(path), "%s", strerror(errno));
    return f;
}

static bool set_up(const struct args *g, const struct plan *p, struct run_options *o,
                   struct arena *a, struct err *e)
{
    int *blocks = ARENA_ARRAY(a, int, p->block_count + 1);
    o->timeout_s = (double)g->timeout, o->warmup = (int)g->warmup, o->repeats = (int)g->repeats;
    o->seed = (uint64_t)g->seed, o->verify = g->verify, o->blocks = blocks;
    o->cpu_clock = g->cpu_clock;
    if (g->blocks)
        return parse_blocks(g->blocks, p, blocks, &o->block_count, e);
    o->block_count = first_of_each(p, blocks);
    return true;
}

/* What the model prices and the simulator plays, but no ranks here carry out. */
static bool can_run(const struct plan *p, const struct run_options *o, struct err_at at,
                    struct err *e)
{
    if (p->tensor > 1)
        return err_set(e, ERR_INPUT, at,
                       "tensor parallelism of degree %d: only context parallelism can be run; plan "
                       "without --tp",
                       p->tensor);
    for (int i = 0; i < o->block_count; i++) {
        const struct cp_strategy_info *s = &cp_strategies[p->blocks[o->blocks[i]].conf.strategy];
        if (s->permutes)
            return err_set(e, ERR_INPUT, at,
                           "block %d: %s moves blocks of queries between ranks, which cannot be "
                           "run; choose others with --blocks, or plan without that strategy",
                           o->blocks[i], s->name);
    }
    return true;
}

static bool execute(const struct args *g, struct prov *prov, const char **phase, struct arena *a,
                    struct err *e)
{
    struct run_options o = {.backend = kern_backend_of(g->backend, e),
                            .comm = comm_backend_of(g->comm, e)};
    struct run_result r;
    bool root = false;
    if (!o.backend || !o.comm || !prov_input(prov, g->plan, e))
        return false;
    *phase = "read the plan";
    const struct plan *p = plan_read(g->plan, a, e);
    if (!p || !set_up(g, p, &o, a, e) || !can_run(p, &o, err_at_name(g->plan), e))
        return false;
    bool mine = launcher_of_process().rank == 0; /* the process that has rank 0 writes */
    FILE *out = g->out && mine ? open_rows(g->out, e) : NULL;
    if (g->out && mine && !out)
        return false;
    if (out) {
        prov_comment(prov, out);
        run_write_header(out, plan_signature(p), p->cp, &o);
    }
    o.phase = phase;
    bool ok = run_plan(p, &o, out, g->out, a, &r, &root, e);
    if (out && out != stdout && fclose(out) != 0 && ok)
        ok = err_set(e, ERR_SYSTEM, err_at_name(g->out), "%s", strerror(errno));
    if (ok && root && !(g->out && strcmp(g->out, "-") == 0))
        print_summary(&r, &o, g->format, a);
    return ok;
}

static bool compare(const struct args *g, struct arena *a, struct err *e)
{
    struct comparison c;
    return compare_files(g->plan, g->rows, a, &c, e) &&
           compare_print(&c, g->tolerance, g->format, stdout, a, e);
}

static bool calibrate(const struct args *g, struct arena *a, struct err *e)
{
    struct measured *m = measured_new(a);
    struct measured_fit fit;
    for (int i = 0; i < g->pair_count; i++)
        if (!measured_add(m, g->pairs[2 * i], g->pairs[2 * i + 1], e))
            return false;
    if (!measured_solve(m, &fit, e) || (g->out && !measured_write(&fit, g->out, a, e)))
        return false;
    measured_print(&fit, g->format, stdout, a);
    fflush(stdout); /* as in shardwise calibrate */
    measured_warn(&fit, stderr);
    return true;
}

int main(int argc, char **argv)
{
    struct args g;
    struct err e = {0};
    const char *phase = NULL;
    bool helped = false;
    struct arena *a = arena_new();
    signal(SIGXFSZ,
           SIG_IGN); /* a file over the limit of its size is an error of write, as a full disk is */
    start_watch(&phase);
    if (parse(argc, argv, &g, &helped, &e) && !helped) {
        struct prov *prov = prov_new(a, argc, argv, (uint64_t)g.seed);
        if (g.bench)
            bench_run(&(struct bench_options){g.bench, g.out ? g.out : "-", g.comm, g.backend,
                                              (int)g.ranks, (int)g.repeats, (double)g.timeout,
                                              g.cpu_clock},
                      prov, a, &e);
        else if (g.rows)
            compare(&g, a, &e);
        else if (g.pairs)
            calibrate(&g, a, &e);
        else
            execute(&g, prov, &phase, a, &e);
    }
    arena_free(a);
    if (fflush(stdout) != 0 && e.code == ERR_NONE)
        err_set(&e, ERR_SYSTEM, err_at_name("standard output"), "%s", strerror(errno));
    if (e.code != ERR_NONE)
        fprintf(stderr, "shardwise-run: %s\n", e.text);
    return (int)e.code;
}
