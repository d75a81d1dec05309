/* simulate: plays a plan on a network, event by event, and says where the time goes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "model/calib.h"
#include "sim/fault.h"
#include "sim/step.h"
#include "sim/timeline.h"
#include "sim/xml.h"

enum { RUNS_MOST = 1000000, STEPS_MOST = 10000, COUNT_MOST = 1 << 20 };

static const struct arg_group network = {
    "Network (the plan's cluster, its switches ideal)",
    (const struct arg_option[]){
        OPTION_TEXT("topology", "FILE", "file",
                    "a server's wires from NCCL_TOPO_DUMP_FILE instead of the cluster's"),
        OPTION_INT("leaf-nodes", 0, COUNT_MOST, "N", "servers under one leaf switch (all)"),
        OPTION_INT("spines", 0, 4096, "N", "uplinks of a leaf, chosen by destination (1)"),
        OPTION_QTY("oversubscription", QTY_NUMBER, "X",
                   "NIC bandwidth below a leaf over its uplinks (1)"),
        OPTION_FLAG("rails", "NIC k of every server on leaf k"),
        OPTION_FLAG("pxn", "reach other rails over NVLink first, as NCCL's PXN"),
        OPTION_QTY("hop", QTY_SECONDS, "TIME", "latency of a hop between switches (0 s)"),
        OPTION_TEXT("net", "NAME", NULL,
                    "a calibrated profile of collectives (that of the GPU, if there is one)"),
        OPTION_FLAG(
            "two-level",
            "all-gathers, rings and gathers of rows between servers in two levels; rows that "
            "several GPUs of a server want travel there once"),
        OPTION_FLAG("nccl", "latency and protocol by NCCL's own model instead of a profile"),
        OPTION_END}};

static const struct arg_group machine = {
    "GPUs",
    (const struct arg_option[]){
        OPTION_QTY("sm-share", QTY_RATIO, "S", "SMs that a running collective takes (8 of 132)"),
        OPTION_FLAG("comm-waits", "kernels fill the GPU: collectives begin between them"),
        OPTION_QTY("sync", QTY_SECONDS, "TIME", "host wait after an index exchange (15 us)"),
        OPTION_QTY("launch", QTY_SECONDS, "TIME",
                   "host time to issue a phase or a collective call; it runs ahead (0 s)"),
        OPTION_INT("steps", 1, STEPS_MOST, "N", "denoising steps of an inference plan (1)"),
        OPTION_FLAG(
            "links",
            "every link that carried anything, not the fullest of each kind (csv: instead of "
            "phases)"),
        OPTION_QTY("merge", QTY_RATIO, "S",
                   "end flows together that end within this share of their time (0: exact)"),
        OPTION_END}};

static const struct arg_group whatif = {
    "What if",
    (const struct arg_option[]){
        OPTION_TEXT("fault", "LIST", NULL,
                    "gpu5=0.8, nic3=0.5, nvlink2=0.25, nic3=0@10ms-12ms, nic3=0@10ms-12ms/50ms "
                    "(every 50 ms), "
                    "separated by commas"),
        OPTION_QTY("jitter", QTY_RATIO, "S",
                   "every kernel takes exp(S x normal) times as long (0)"),
        OPTION_INT("runs", 1, RUNS_MOST, "N", "runs with jitter, whose quantiles are shown (100)"),
        OPTION_INT("seed", 0, INT64_MAX, "N", "of the jitter (1)"), OPTION_END}};

static const struct arg_group timeline = {
    "Timeline",
    (const struct arg_option[]){
        OPTION_TEXT("timeline", "FILE", "file", "write a trace-event file for ui.perfetto.dev"),
        OPTION_INT("timeline-gpus", 1, COUNT_MOST, "N", "GPUs in it (8)"), OPTION_END}};

static const char *const pass_names[PASSES] = {"forward", "recompute", "backward"};

struct job { /* what is asked, and what came out */
    struct plan *plan;
    struct sim_options o;
    struct play_what what;
    struct step step;
    struct play_result result;
    struct step_report report;
    int steps; /* of an inference run; 1 of a training plan */
    int runs;
    double *seconds;    /* [runs], sorted */
    const char *covers; /* what a time is of: "A step takes" */
};

/* ---- options ---- */

static bool read_options(struct cli *c, struct job *j, struct err *e)
{
    const struct args *g = c->args;
    j->o = sim_options_default();
    j->o.fabric = (struct topo_fabric){.leaf_nodes = (int)args_int_or(g, "leaf-nodes", 0),
                                       .rails = args_given(g, "rails"),
                                       .pxn = args_given(g, "pxn"),
                                       .spines = (int)args_int_or(g, "spines", 0),
                                       .oversubscription = args_qty_or(g, "oversubscription", 0),
                                       .hop_s = args_qty_or(g, "hop", 0)};
    j->o.sm_share = args_qty_or(g, "sm-share", j->o.sm_share);
    j->o.comm_waits = args_given(g, "comm-waits");
    j->o.launch_s = args_qty_or(g, "launch", 0);
    j->o.sync_s = args_qty_or(g, "sync", j->o.sync_s);
    j->o.merge = args_qty_or(g, "merge", 0);
    j->o.nccl = args_given(g, "nccl");
    j->o.two_level = args_given(g, "two-level");
    if (!(j->o.sm_share < 1))
        return err_set(e, ERR_INPUT, args_at(g, "sm-share"), "'%s': want less than 1",
                       args_text(g, "sm-share"));
    if (j->o.fabric.oversubscription < 1 && args_given(g, "oversubscription"))
        return err_set(e, ERR_INPUT, args_at(g, "oversubscription"),
                       "'%s': want 1 (full bisection) or more", args_text(g, "oversubscription"));
    if (!(j->o.merge < 1))
        return err_set(e, ERR_INPUT, args_at(g, "merge"), "'%s': want less than 1",
                       args_text(g, "merge"));
    const char *net = args_text(g, "net");
    if (net && j->o.nccl)
        return err_set(e, ERR_INPUT, args_at(g, "nccl"), "--net says it too; give one of them");
    if (net)
        j->o.net = prof_net_load(net, args_at(g, "net"), c->a, e);
    j->runs = args_given(g, "jitter") ? (int)args_int_or(g, "runs", 100) : 0;
    j->what = (struct play_what){.sm_share = j->o.sm_share,
                                 .comm_waits = j->o.comm_waits,
                                 .merge = j->o.merge,
                                 .jitter = args_qty_or(g, "jitter", 0),
                                 .seed = (uint64_t)args_int_or(g, "seed", 1)};
    if (args_given(g, "runs") && !args_given(g, "jitter"))
        return err_set(e, ERR_INPUT, args_at(g, "runs"), "all runs are alike without --jitter");
    return (!net || (j->o.net && cli_input(c, "net", net, e))) && e->code == ERR_NONE;
}

/* NULL without --topology; *ok tells errors apart. */
static const struct topo *read_topology(struct cli *c, const struct plan *p, bool *ok,
                                        struct err *e)
{
    const char *path = args_text(c->args, "topology");
    *ok = true;
    if (!path)
        return NULL;
    struct xml_options o = {.servers = p->c.cluster->nodes,
                            .nvlink_latency_s = p->c.cluster->nvlink.latency_s};
    const struct topo *t = topo_of_nccl_file(path, &o, c->a, e);
    *ok = t && prov_input(c->prov, path, e);
    return t;
}

/* The plan file holds the cluster; its GPU's calibrated profiles are found by name, as for `plan`.
 */
static bool calibrate(struct cli *c, struct plan *p, struct err *e)
{
    struct hw_cluster *own = ARENA_NEW(c->a, struct hw_cluster);
    *own = *p->c.cluster;
    p->c.cluster = own;
    if (!calib_cluster(own, c->a, e))
        return false;
    p->c.kernels = calib_kernels(p->c.kernels, own, err_at_name(args_operand(c->args, 0)), c->a, e);
    return p->c.kernels != NULL;
}

/* A plan of attention or of blocks has no optimizer and no sharded weights around it. */
static void without_step(struct plan *p)
{
    if (p->phase == PLAN_STEP)
        return;
    p->memory.shard_ranks = 1;
    p->memory.sharding = SHARD_DDP;
    p->optimizer_s = 0;
}

static bool build(struct cli *c, struct job *j, struct err *e)
{
    const char *faults = args_text(c->args, "fault");
    struct fault *f = NULL;
    int count = 0;
    bool ok;
    if (faults && !fault_parse(faults, args_at(c->args, "fault"), c->a, &f, &count, e))
        return false;
    const struct topo *t = read_topology(c, j->plan, &ok, e);
    if (!ok)
        return false;
    if (args_given(c->args, "steps") && !j->plan->c.options.inference)
        return err_set(e, ERR_INPUT, args_at(c->args, "steps"),
                       "denoising steps are of an inference plan; this plan trains");
    without_step(j->plan);
    bool all = faults || j->what.jitter > 0; /* replicas are no longer alike */
    struct err_at at = err_at_name(t ? args_text(c->args, "topology") : args_operand(c->args, 0));
    j->steps = (int)args_int_or(c->args, "steps", 1);
    if (!step_of_plan(j->plan, &j->o, j->steps, all, t, &j->step, c->a, at, e))
        return false;
    return !faults ||
           fault_apply(f, count, j->step.topo, &j->what, c->a, args_at(c->args, "fault"), e);
}

/* ---- playing ---- */

static int ascending(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static bool play(struct cli *c, struct job *j, struct err *e)
{
    struct err_at at = args_given(c->args, "fault") ? args_at(c->args, "fault")
                                                    : err_at_name(args_operand(c->args, 0));
    struct play_what still = j->what;
    still.jitter = 0;
    if (!play_run(j->step.graph, j->step.topo, &still, &j->result, c->a, at, e))
        return false;
    j->report = step_report(&j->step, &j->result, c->a);
    if (j->runs == 0)
        return true;
    j->seconds = ARENA_ARRAY(c->a, double, j->runs);
    if (!step_runs(&j->step, &j->what, j->runs, j->seconds, at, e))
        return false;
    qsort(j->seconds, (size_t)j->runs, sizeof *j->seconds, ascending);
    return true;
}

/* Plays once more with an eye on the fullest links. */
static bool write_timeline(struct cli *c, struct job *j, struct err *e)
{
    const char *path = args_text(c->args, "timeline");
    if (!path)
        return true;
    struct play_what what = j->what;
    struct play_result r;
    int *watch = ARENA_ARRAY(c->a, int, j->report.link_count + 1);
    for (int i = 0; i < j->report.link_count; i++)
        watch[i] = j->report.links[i].edge;
    what.jitter = 0;
    what.watch = watch;
    what.watch_count = j->report.link_count;
    struct outfile *f = outfile_open(path, c->a, e);
    if (!f)
        return false;
    if (!play_run(j->step.graph, j->step.topo, &what, &r, c->a, err_at_name(path), e)) {
        outfile_drop(f);
        return false;
    }
    timeline_write(&j->step, &r, watch, c->prov, (int)args_int_or(c->args, "timeline-gpus", 8),
                   outfile_stream(f));
    return outfile_done(f, e);
}

/* ---- printing ---- */

static struct table *phases_table(struct cli *c, const struct job *j)
{
    static const struct table_col cols[] = {
        {"phase", "phase", TABLE_STR, 0},
        {"pass", "pass", TABLE_STR, 0},
        {"busy_mean_s", "busy, mean", TABLE_QTY, QTY_SECONDS},
        {"busy_max_s", "busy, most", TABLE_QTY, QTY_SECONDS},
        {"wait_max_s", "waits, most", TABLE_QTY, QTY_SECONDS},
        {"critical_s", "on critical path", TABLE_QTY, QTY_SECONDS},
        {"critical_share", "share", TABLE_BAR, 0}};
    struct table *t = table_new(c->a, cols, sizeof cols / sizeof *cols);
    for (int i = 0; i < j->step.label_count; i++) {
        const struct step_row *r = &j->report.rows[i];
        table_str(t, j->step.labels[i].name);
        table_str(t, pass_names[j->step.labels[i].pass]);
        table_num(t, r->busy_mean_s);
        table_num(t, r->busy_max_s);
        table_num(t, r->wait_max_s);
        table_num(t, r->critical_s);
        table_num(t, r->critical_s / j->report.total_s);
    }
    return t;
}

#define LINK_COLS(from)                                                                            \
    {                                                                                              \
        {"from", from, TABLE_STR, 0}, {"to", "to", TABLE_STR, 0},                                  \
            {"rate_bytes_per_s", "rate", TABLE_QTY, QTY_BYTES_PER_S},                              \
            {"bytes", "carried", TABLE_QTY, QTY_BYTES},                                            \
        {                                                                                          \
            "busy_share", "in use", TABLE_QTY, QTY_RATIO                                           \
        }                                                                                          \
    }

static struct table *links_table(struct cli *c, const struct job *j)
{
    enum { COLS = 5 };
    static const struct table_col fullest[COLS] = LINK_COLS("fullest link of its kind"),
                                  every[COLS] = LINK_COLS("link from");
    bool all = args_given(c->args, "links");
    struct table *t = table_new(c->a, all ? every : fullest, COLS);
    int count = j->report.link_count;
    const struct step_link *links =
        all ? step_links(&j->step, &j->result, &count, c->a) : j->report.links;
    for (int i = 0; i < count; i++) {
        const struct topo_edge *g = &j->step.topo->edges[links[i].edge];
        table_str(t, j->step.topo->nodes[g->from].name);
        table_str(t, j->step.topo->nodes[g->to].name);
        table_num(t, g->bytes_per_s);
        table_num(t, links[i].bytes);
        table_num(t, links[i].busy_share);
    }
    return t;
}

static struct table *runs_table(struct cli *c, const struct job *j)
{
    static const struct table_col cols[] = {{"quantile", "quantile", TABLE_QTY, QTY_NUMBER},
                                            {"step_s", "step", TABLE_QTY, QTY_SECONDS}};
    static const double quantiles[] = {0, 0.1, 0.5, 0.9, 0.99, 1};
    struct table *t = table_new(c->a, cols, 2);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        table_num(t, quantiles[i]);
        table_num(t, step_quantile(j->seconds, j->runs, quantiles[i]));
    }
    return t;
}

#define TIME(s) qty_text((s), QTY_SECONDS, QTY_BUF)

/* Of all denoising steps of an inference run. */
static double planned_s(const struct job *j)
{
    const struct plan *p = j->plan;
    return j->steps * (p->phase == PLAN_STEP ? p->step_s : p->blocks_s);
}

/* What the times cover. */
static const char *covered(const struct cli *c, const struct job *j)
{
    if (j->plan->c.options.inference)
        return j->steps == 1 ? "A denoising step takes"
                             : arena_printf(c->a, "A run of %d denoising steps takes", j->steps);
    return j->plan->phase == PLAN_STEP ? "A step takes" : "All blocks take";
}

static void put_words(const void *data, FILE *out)
{
    const struct job *j = data;
    const struct step_report *r = &j->report;
    const struct plan *p = j->plan;
    fprintf(out, "%s %s in simulation; the plan said %s (%s).\n", j->covers, TIME(r->total_s),
            TIME(planned_s(j)), p->evaluator);
    fprintf(
        out,
        "On the critical path: work %s, exchanges that nothing hides %s; most of all %s (%s).\n",
        TIME(r->compute_critical_s), TIME(r->exposed_s), j->step.labels[r->bottleneck].name,
        pass_names[j->step.labels[r->bottleneck].pass]);
    fprintf(out, "%d of %d GPUs simulated", j->step.gpus, p->gpus);
    fprintf(out, j->step.folded > 1 ? ", each for %d alike.\n" : ".\n", j->step.folded);
}

static bool answer(struct cli *c, struct job *j, struct err *e)
{
    const struct step_report *r = &j->report;
    const struct table *phases = phases_table(c, j), *links = links_table(c, j);
    const struct cli_fact facts[] = {{"total_s", r->total_s},
                                     {"planned_s", planned_s(j)},
                                     {"work_critical_s", r->compute_critical_s},
                                     {"exposed_exchange_s", r->exposed_s},
                                     {"gpus", j->plan->gpus},
                                     {"gpus_simulated", j->step.gpus},
                                     {"flow_events", (double)j->result.flow_events},
                                     {0}};
    struct cli_part parts[4] = {{"phases", NULL, phases}, {"links", NULL, links}};
    if (j->runs)
        parts[2] = (struct cli_part){"runs", arena_printf(c->a, "%d runs with jitter", j->runs),
                                     runs_table(c, j)};
    j->covers = covered(c, j);
    return cli_answer(c,
                      &(struct cli_answer){put_words, j, facts, parts,
                                           args_given(c->args, "links") ? links : phases},
                      e);
}

static bool run(struct cli *c, struct err *e)
{
    struct job j = {0};
    const char *path = args_operand(c->args, 0);
    j.plan = plan_read(path, c->a, e);
    return j.plan && prov_input(c->prov, path, e) && calibrate(c, j.plan, e) &&
           read_options(c, &j, e) && build(c, &j, e) && play(c, &j, e) &&
           write_timeline(c, &j, e) && answer(c, &j, e);
}

static const struct arg_group *const groups[] = {
    &network, &machine, &whatif, &timeline, &cli_output_options, NULL};

const struct command cmd_simulate = {
    .name = "simulate",
    .brief = "play a plan event by event on a network",
    .usage = "PLAN [options]",
    .example = "shardwise plan --model dsv-2.7b --cluster 2x8-h100-400g --tokens 64k --keep 0.1 -o "
               "plan.json\n"
               "shardwise simulate plan.json --timeline step.json",
    .about = "Plays one training step of a plan (or an inference run) on the wires of its cluster: "
             "links are shared max-min "
             "fairly, ranks wait for whom they exchange with, weights travel beside the rest. "
             "Replicas that are alike are "
             "simulated once. Says what is on the critical path, what waits, and how full the "
             "links are.\n"
             "\n"
             "With --jitter or --fault every GPU is simulated.",
    .groups = groups,
    .operands_least = 1,
    .operands_most = 1,
    .run = run,
};
