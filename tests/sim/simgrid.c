#include "tests/sim/simgrid.h"

#include <simgrid/actor.h>
#include <simgrid/comm.h>
#include <simgrid/engine.h>
#include <simgrid/host.h>
#include <simgrid/mailbox.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void start(const char *program)
{
    /* contexts are threads: the sanitizers do not follow hand-made stacks */
    const char *args[] = {program,
                          "--cfg=network/model:CM02",
                          "--cfg=network/weight-S:0",
                          "--cfg=network/bandwidth-factor:1",
                          "--cfg=network/latency-factor:1",
                          "--cfg=network/crosstraffic:0",
                          "--cfg=network/TCP-gamma:0",
                          "--cfg=surf/precision:1e-12",
                          "--cfg=maxmin/precision:1e-6",
                          "--cfg=contexts/factory:" SG_CONTEXTS,
                          "--log=root.thresh:error"};
    int count = (int)(sizeof args / sizeof *args);
    static char text[16][64]; /* SimGrid keeps the pointers and wants them writable */
    static char *copy[17];
    for (int i = 0; i < count; i++) {
        snprintf(text[i], sizeof text[i], "%.63s", args[i]);
        copy[i] = text[i];
    }
    simgrid_init(&count, copy);
}

static FILE *platform_open(char *path)
{
    strcpy(path, "simgrid-XXXXXX.xml");
    FILE *f = fdopen(mkstemps(path, 4), "w");
    fprintf(
        f, "<?xml version='1.0'?>\n<!DOCTYPE platform SYSTEM \"https://simgrid.org/simgrid.dtd\">\n"
           "<platform version=\"4.1\">\n<zone id=\"z\" routing=\"Full\">\n");
    return f;
}

static void platform_load(FILE *f, const char *path)
{
    fprintf(f, "</zone>\n</platform>\n");
    fclose(f);
    simgrid_load_platform(path);
    unlink(path);
}

static void flow_main(int argc, char **argv)
{
    (void)argc;
    struct sg_flow *f = sg_actor_self_get_data();
    char to[32];
    snprintf(to, sizeof to, "d%s", argv[1]);
    sg_actor_sleep_until(f->start_s);
    sg_host_sendto(sg_host_self(), sg_host_by_name(to), f->bytes);
    f->end_s = simgrid_get_clock();
}

void sg_run_flows(const char *program, const double *rate, int links, struct sg_flow *flows,
                  int count)
{
    char path[32], name[16];
    start(program);
    FILE *f = platform_open(path);
    for (int i = 0; i < count; i++)
        fprintf(f, "<host id=\"s%d\" speed=\"1Gf\"/><host id=\"d%d\" speed=\"1Gf\"/>\n", i, i);
    for (int l = 0; l < links; l++)
        fprintf(f, "<link id=\"l%d\" bandwidth=\"%.17gBps\" latency=\"0s\"/>\n", l, rate[l]);
    for (int i = 0; i < count; i++) {
        fprintf(f, "<route src=\"s%d\" dst=\"d%d\" symmetrical=\"NO\">", i, i);
        for (int k = 0; k < flows[i].hops; k++)
            fprintf(f, "<link_ctn id=\"l%d\"/>", flows[i].links[k]);
        fprintf(f, "</route>\n");
    }
    platform_load(f, path);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "s%d", i);
        const char *argv[] = {"flow", name + 1};
        sg_actor_t actor = sg_actor_init("flow", sg_host_by_name(name));
        sg_actor_set_data(actor, &flows[i]);
        sg_actor_start_(actor, flow_main, 2, argv);
    }
    simgrid_run();
}

struct exchange {
    int ranks;
    double (*size)(int, int, int);
};

static void rank_main(int argc, char **argv)
{
    (void)argc;
    const struct exchange *x = sg_actor_self_get_data();
    int me = atoi(argv[1]), count = 0;
    char box[32];
    sg_comm_t *comms = malloc(2 * (size_t)x->ranks * sizeof *comms);
    void **got = malloc((size_t)x->ranks * sizeof *got);
    for (int peer = 0; peer < x->ranks; peer++) {
        if (peer == me)
            continue;
        snprintf(box, sizeof box, "%d-%d", peer, me);
        comms[count++] = sg_mailbox_get_async(sg_mailbox_by_name(box), &got[peer]);
        snprintf(box, sizeof box, "%d-%d", me, peer);
        comms[count++] =
            sg_mailbox_put_async(sg_mailbox_by_name(box), comms, (long)x->size(me, peer, x->ranks));
    }
    sg_comm_wait_all(comms, (size_t)count);
    free(comms);
    free(got);
}

double sg_run_alltoall(const char *program, int ranks, int per, double near, double far,
                       double (*size)(int, int, int), double *cpu_s)
{
    char path[32], name[16];
    struct exchange x = {ranks, size};
    start(program);
    FILE *f = platform_open(path);
    for (int i = 0; i < ranks; i++)
        fprintf(f, "<host id=\"r%d\" speed=\"1Gf\"/>\n", i);
    for (int i = 0; i < ranks; i++)
        fprintf(f,
                "<link id=\"no%d\" bandwidth=\"%.17gBps\" latency=\"0s\"/><link id=\"ni%d\" "
                "bandwidth=\"%.17gBps\" latency=\"0s\"/>"
                "<link id=\"fo%d\" bandwidth=\"%.17gBps\" latency=\"0s\"/><link id=\"fi%d\" "
                "bandwidth=\"%.17gBps\" latency=\"0s\"/>\n",
                i, near, i, near, i, far, i, far);
    for (int i = 0; i < ranks; i++)
        for (int j = 0; j < ranks; j++)
            if (i != j) {
                char c = i / per == j / per ? 'n' : 'f';
                fprintf(f,
                        "<route src=\"r%d\" dst=\"r%d\" symmetrical=\"NO\"><link_ctn "
                        "id=\"%co%d\"/><link_ctn id=\"%ci%d\"/></route>\n",
                        i, j, c, i, c, j);
            }
    platform_load(f, path);
    clock_t begin = clock();
    for (int i = 0; i < ranks; i++) {
        snprintf(name, sizeof name, "r%d", i);
        const char *argv[] = {"rank", name + 1};
        sg_actor_t actor = sg_actor_init("rank", sg_host_by_name(name));
        sg_actor_set_data(actor, &x);
        sg_actor_start_(actor, rank_main, 2, argv);
    }
    simgrid_run();
    *cpu_s = (double)(clock() - begin) / CLOCKS_PER_SEC;
    return simgrid_get_clock();
}
