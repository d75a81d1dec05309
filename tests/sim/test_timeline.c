/* The timeline file: it parses, slices of a track do not overlap, arrows have two ends, loads are
 * shares. The reader is libyaml's (base/cfg.h), not our writer. */
#include <gsl/gsl_sort.h>
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cfg.h"
#include "sim/ring.h"
#include "sim/timeline.h"

static struct step_label labels[] = {{"attention", PASS_FORWARD, CLASS_ATTENTION_DENSE, false},
                                     {"attention hops", PASS_FORWARD, CLASS_P2P, true}};

/* A ring of four, one rank slow to begin. */
static struct step ring_step(struct arena *a, struct err *e)
{
    struct hw_cluster c = {
        .name = "t", .nodes = 1, .gpus_per_node = 4, .gpus_per_nic = 1, .nvlink = {1e-6, 100e9, 1}};
    struct step s = {.graph = play_graph_new(a),
                     .topo = topo_of_cluster(&c, NULL, a, err_at_name("t"), e),
                     .label_count = 2,
                     .labels = labels,
                     .gpus = 4,
                     .folded = 1};
    int gpus[] = {0, 1, 2, 3}, begin[4], end[4];
    double compute[16], hops[] = {1e6, 1e6, 1e6, 0, 0};
    for (int i = 0; i < 16; i++)
        compute[i] = 1e-6 * (5 + i % 7);
    struct ring r = {
        .n = 4, .gpus = gpus, .compute_s = compute, .hop_bytes = hops, .calls = 1, .hop_phase = 1};
    int late = play_work(s.graph, 2, PLAY_HOST, 40e-6, 0);
    ring_add(s.graph, &r, begin, end, a);
    play_after(s.graph, begin[2], late);
    play_graph_finish(s.graph);
    return s;
}

struct slice {
    double begin, end;
    int pid, tid;
};

static int by_track(const void *x, const void *y)
{
    const struct slice *a = x, *b = y;
    double d = a->pid != b->pid   ? a->pid - b->pid
               : a->tid != b->tid ? a->tid - b->tid
                                  : a->begin - b->begin;
    return (d > 0) - (d < 0);
}

static double field(const struct cfg *event, const char *key)
{
    const struct cfg *v = cfg_get(event, key);
    return v ? atof(v->text) : NAN;
}

static void check_events(const struct cfg *events)
{
    struct slice slices[256];
    int count = 0, starts = 0, ends = 0, loads = 0, named = 0;
    for (int i = 0; i < events->count; i++) {
        const struct cfg *ev = events->items[i];
        const char *kind = cfg_get(ev, "ph")->text;
        if (strcmp(kind, "X") == 0 && count < 256) {
            double at = field(ev, "ts");
            slices[count++] = (struct slice){at, at + field(ev, "dur"), (int)field(ev, "pid"),
                                             (int)field(ev, "tid")};
        }
        starts += strcmp(kind, "s") == 0, ends += strcmp(kind, "f") == 0,
            named += strcmp(kind, "M") == 0;
        if (strcmp(kind, "C") == 0) {
            double load = field(cfg_get(ev, "args"), "load");
            gsl_test(!(load >= 0 && load <= 1 + 1e-9), "a load is a share");
            loads++;
        }
    }
    qsort(slices, (size_t)count, sizeof *slices, by_track);
    int overlaps = 0;
    for (int i = 1; i < count; i++)
        overlaps += slices[i].pid == slices[i - 1].pid && slices[i].tid == slices[i - 1].tid &&
                    slices[i].begin < slices[i - 1].end - 1e-9;
    gsl_test_int(count, 1 + 16 + 12, "a slice for each work and each rank's part in three hops");
    gsl_test_int(overlaps, 0, "slices of a track follow each other");
    gsl_test(starts == 0 || starts != ends, "%d arrows for those who waited", starts);
    gsl_test(loads < 2, "the watched link was used and freed");
    gsl_test(named < 4 * 5, "processes and tracks have names");
}

static void a_timeline_is_json_that_holds_together(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct step s = ring_step(a, &e);
    struct play_result r;
    const int watch[] = {0};
    struct play_what what = {.watch = watch, .watch_count = 1};
    gsl_test(!play_run(s.graph, s.topo, &what, &r, a, err_at_name("t"), &e), "it runs %s", e.text);
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    timeline_write(&s, &r, watch, NULL, 0, out);
    fclose(out);
    const struct cfg *doc = cfg_read_text("timeline", text, length, a, &e);
    gsl_test(!doc, "it parses %s", e.text);
    if (doc)
        check_events(cfg_get(doc, "traceEvents"));
    free(text);
    arena_free(a);
}

int main(void)
{
    a_timeline_is_json_that_holds_together();
    return gsl_test_summary();
}
