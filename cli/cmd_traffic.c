/* traffic: what each rank of a plan sends each other, as nccl-tests reads it. */
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "model/calib.h"
#include "model/cost.h"
#include "model/plan.h"

enum { ALIGN = 16 }; /* alltoallv_perf rounds each message up to this */

static const struct arg_group options = {
    "Traffic",
    (const struct arg_option[]){
        OPTION_INT("block", 0, 1 << 20, "B", "the transformer block (0)"),
        OPTION_TEXT("phase", "NAME", NULL,
                    "write this exchange's matrix instead of the table: \"qkv all-to-all\""),
        OPTION_END}};

static const char *const pass_names[] = {"forward", "recompute", "backward"};

/* One exchange: bytes between all pairs, and what the tool's buffers must hold. */
struct exchange {
    const struct cp_phase *phase;
    int ranks;
    double *bytes; /* [from][to] */
    double sent, received, all, buffer;
};

static struct exchange exchange_of(const struct cp_program *p, int phase,
                                   const struct cp_conf *conf, int per_node, struct arena *a)
{
    size_t n = (size_t)p->ranks;
    struct exchange x = {&p->phases[phase], p->ranks, ARENA_ARRAY(a, double, n *n), 0, 0, 0, 0};
    cost_phase_matrix(x.phase, conf, per_node, x.bytes);
    for (size_t r = 0; r < n; r++) {
        double out = 0, in = 0, room_out = 0, room_in = 0;
        for (size_t k = 0; k < n; k++) {
            double to = x.bytes[r * n + k], from = x.bytes[k * n + r];
            out += to;
            in += from;
            room_out += ceil(to / ALIGN) * ALIGN;
            room_in += ceil(from / ALIGN) * ALIGN;
        }
        x.sent = fmax(x.sent, out);
        x.received = fmax(x.received, in);
        x.all += out;
        x.buffer = fmax(x.buffer, fmax(room_out, room_in));
    }
    return x;
}

static void put_matrix(const struct exchange *x, FILE *out)
{
    for (int i = 0; i < x->ranks; i++)
        for (int j = 0; j < x->ranks; j++)
            fprintf(out, "%.0f%c", x->bytes[(size_t)i * (size_t)x->ranks + (size_t)j],
                    j + 1 < x->ranks ? ' ' : '\n');
}

static void add_row(struct table *t, const struct exchange *x)
{
    table_str(t, x->phase->name);
    table_str(t, pass_names[x->phase->pass]);
    table_int(t, x->phase->calls);
    table_num(t, x->sent);
    table_num(t, x->received);
    table_num(t, x->all);
    table_int(t, (int64_t)x->buffer);
}

static struct table *new_table(struct arena *a)
{
    static const struct table_col cols[] = {{"phase", "phase", TABLE_STR, 0},
                                            {"pass", "pass", TABLE_STR, 0},
                                            {"calls", "calls", TABLE_INT, 0},
                                            {"sent_bytes", "a rank sends", TABLE_QTY, QTY_BYTES},
                                            {"received_bytes", "receives", TABLE_QTY, QTY_BYTES},
                                            {"all_bytes", "all ranks", TABLE_QTY, QTY_BYTES},
                                            {"buffer_bytes", "-b and -e", TABLE_INT, 0}};
    return table_new(a, cols, sizeof cols / sizeof *cols);
}

static bool read_program(struct cli *c, struct plan **plan, int *block, struct cp_program *out,
                         struct err *e)
{
    const char *path = args_operand(c->args, 0);
    struct plan *p = plan_read(path, c->a, e);
    if (!p || !prov_input(c->prov, path, e))
        return false;
    *block = (int)args_int_or(c->args, "block", 0);
    if (*block >= p->block_count)
        return err_set(e, ERR_INPUT, args_at(c->args, "block"), "%d; the plan has blocks 0 to %d",
                       *block, p->block_count - 1);
    struct hw_cluster *own = ARENA_NEW(c->a, struct hw_cluster);
    *own = *p->c.cluster;
    p->c.cluster = own;
    if (!calib_cluster(own, c->a, e) ||
        !(p->c.kernels = calib_kernels(p->c.kernels, own, err_at_name(path), c->a, e)))
        return false;
    *out = cp_program_of(&p->c, *block, &p->blocks[*block].conf, c->a);
    *plan = p;
    return true;
}

static bool run(struct cli *c, struct err *e)
{
    struct plan *plan = NULL;
    struct cp_program p = {0};
    int block = 0;
    const char *name = args_text(c->args, "phase");
    struct table *t = new_table(c->a);
    if (!read_program(c, &plan, &block, &p, e))
        return false;
    const struct cp_conf *conf = &plan->blocks[block].conf;
    char text[512] = "";
    for (int i = 0; i < p.phase_count; i++) {
        struct exchange x = exchange_of(&p, i, conf, plan->c.cluster->gpus_per_node, c->a);
        if (!(x.all > 0))
            continue;
        add_row(t, &x);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text ? ", " : "",
                 x.phase->name);
        if (!name || strcmp(name, x.phase->name) != 0)
            continue;
        FILE *out = cli_out(c, e);
        if (out)
            put_matrix(&x, out);
        return out != NULL;
    }
    if (name)
        return err_set(e, ERR_INPUT, args_at(c->args, "phase"),
                       "block %d has no exchange '%s'; it has %s", block, name,
                       *text ? text : "none");
    FILE *out = cli_out(c, e);
    if (out)
        cli_table(c, t, "exchanges", out);
    return out != NULL;
}

const struct command cmd_traffic = {
    .name = "traffic",
    .brief = "list a plan's exchanges, or write one as a matrix for nccl-tests",
    .usage = "PLAN [--block B] [--phase NAME] [-o FILE]",
    .example = "shardwise plan --model dsv-2.7b --cluster 1x8-h100 --cp 8 --tokens 128k --trace "
               "webvid-2.7b-28k --kernels dsv-triton -o plan.json\n"
               "shardwise traffic plan.json --block 8 --phase \"qkv all-to-all\" -o matrix.txt",
    .about =
        "The exchanges of one block between the ranks of one replica: what the fullest rank sends "
        "and receives, and what all send. With --phase, the bytes that rank i (line) sends rank j "
        "(column), in the format of alltoallv_perf of nccl-tests:\n\n"
        "    NCCL_TESTS_ALLTOALLV_MATRIX_FILE=matrix.txt mpirun -np 8 alltoallv_perf -b B -e B -a "
        "3\n\n"
        "B is the table's last column, the fullest rank's bytes in messages rounded up to 16; -a 3 "
        "reports the slowest rank. The plan's time holds all calls of a phase (Q, K and V are "
        "three), the matrix their bytes together. All-gathers and rings are rings: each rank sends "
        "its successor all that passes it.",
    .groups = (const struct arg_group *const[]){&options, &cli_output_options, NULL},
    .operands_least = 1,
    .operands_most = 1,
    .run = run,
};
