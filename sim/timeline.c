#include "sim/timeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { TRACKS_MOST = 64 };

struct writer {
    struct json j;
    const struct step *s;
    const struct play_result *r;
    int gpus, arrows;
    sim_time *busy_until; /* [gpu * TRACKS_MOST + track]: exchanges */
    int *tracks;          /* [gpu]: exchange tracks used */
};

static const char *const pass_names[PASSES] = {"forward", "recompute", "backward"};

static void event(struct writer *w, const char *kind, const char *name, int gpu, int track,
                  sim_time at)
{
    json_object(&w->j, NULL);
    json_text(&w->j, "ph", kind);
    json_text(&w->j, "name", name);
    json_int(&w->j, "pid", gpu);
    json_int(&w->j, "tid", track);
    json_num(&w->j, "ts", (double)at * 1e-6);
}

static void name_track(struct writer *w, const char *what, int gpu, int track, const char *name)
{
    event(w, "M", what, gpu, track, 0);
    json_object(&w->j, "args");
    json_text(&w->j, "name", name);
    json_end(&w->j);
    json_end(&w->j);
}

static void write_names(struct writer *w, struct arena *a)
{
    for (int g = 0; g < w->gpus; g++) {
        name_track(w, "process_name", g, 0, w->s->topo->nodes[w->s->topo->gpus[g]].name);
        for (int l = 0; l < PLAY_LANES; l++)
            name_track(w, "thread_name", g, l, play_lane_names[l]);
        for (int t = 0; t < w->tracks[g]; t++)
            name_track(w, "thread_name", g, PLAY_LANES + t, arena_printf(a, "exchange %d", t));
    }
}

/* The first exchange track of the GPU that is free at `begin`; slices of a track may not overlap.
 */
static int take_track(struct writer *w, int gpu, sim_time begin, sim_time end)
{
    sim_time *until = &w->busy_until[gpu * TRACKS_MOST];
    int t = 0;
    while (t + 1 < TRACKS_MOST && until[t] > begin)
        t++;
    until[t] = end;
    if (t >= w->tracks[gpu])
        w->tracks[gpu] = t + 1;
    return PLAY_LANES + t;
}

static void write_slice(struct writer *w, int task, int track)
{
    const struct play_task *t = play_task(w->s->graph, task);
    const struct step_label *l = &w->s->labels[t->phase];
    event(w, "X", l->name, t->gpu, track, w->r->begin_at[task]);
    json_num(&w->j, "dur", (double)(w->r->end_at[task] - w->r->begin_at[task]) * 1e-6);
    json_text(&w->j, "cat", pass_names[l->pass]);
    if (t->kind == PLAY_MEMBER) {
        json_object(&w->j, "args");
        json_num(&w->j, "wait_us",
                 (double)(w->r->begin_at[w->r->gate[task]] - w->r->begin_at[task]) * 1e-6);
        json_end(&w->j);
    }
    json_end(&w->j);
}

/* From the last to come to who waited for it. */
static void write_arrow(struct writer *w, int task, const int *track)
{
    int gate = w->r->gate[task];
    const struct play_task *from = play_task(w->s->graph, gate), *to = play_task(w->s->graph, task);
    if (gate == task || from->gpu >= w->gpus || w->r->begin_at[gate] == w->r->begin_at[task])
        return;
    sim_time at = w->r->begin_at[gate];
    event(w, "s", "held up", from->gpu, track[gate], at);
    json_int(&w->j, "id", ++w->arrows);
    json_text(&w->j, "cat", "wait");
    json_end(&w->j);
    event(w, "f", "held up", to->gpu, track[task], at);
    json_int(&w->j, "id", w->arrows);
    json_text(&w->j, "cat", "wait");
    json_text(&w->j, "bp", "e");
    json_end(&w->j);
}

struct start {
    sim_time at;
    int task;
};

static int by_start(const void *x, const void *y)
{
    const struct start *a = x, *b = y;
    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    return a->task - b->task;
}

/* Tracks of all tasks, exchanges and copies in order of their begin. */
static int *tracks_of(struct writer *w, struct arena *a)
{
    int n = play_tasks(w->s->graph), count = 0, *track = ARENA_ARRAY(a, int, n);
    struct start *starts = ARENA_ARRAY(a, struct start, n);
    for (int i = 0; i < n; i++) {
        const struct play_task *t = play_task(w->s->graph, i);
        track[i] = t->lane;
        if ((t->kind == PLAY_MEMBER || t->kind == PLAY_COPY) && t->gpu < w->gpus)
            starts[count++] = (struct start){w->r->begin_at[i], i};
    }
    qsort(starts, (size_t)count, sizeof *starts, by_start);
    for (int i = 0; i < count; i++) {
        int task = starts[i].task;
        track[task] = take_track(w, play_task(w->s->graph, task)->gpu, w->r->begin_at[task],
                                 w->r->end_at[task]);
    }
    return track;
}

static void write_loads(struct writer *w, const int *watch, struct arena *a)
{
    for (int i = 0; i < w->r->sample_count; i++) {
        const struct play_sample *p = &w->r->samples[i];
        const struct topo_edge *g = &w->s->topo->edges[watch[p->watch]];
        const struct topo_node *nodes = w->s->topo->nodes;
        event(w, "C", arena_printf(a, "%s to %s", nodes[g->from].name, nodes[g->to].name), w->gpus,
              0, p->at);
        json_object(&w->j, "args");
        json_num(&w->j, "load", p->share);
        json_end(&w->j);
        json_end(&w->j);
    }
}

void timeline_write(const struct step *s, const struct play_result *r, const int *watch,
                    const struct prov *prov, int gpus, FILE *out)
{
    struct arena *a = arena_new();
    struct writer w = {
        .j = json_to(out), .s = s, .r = r, .gpus = gpus > 0 && gpus < s->gpus ? gpus : s->gpus};
    w.busy_until = ARENA_ARRAY(a, sim_time, (size_t)w.gpus * TRACKS_MOST);
    w.tracks = ARENA_ARRAY(a, int, w.gpus);
    int *track = tracks_of(&w, a);
    json_object(&w.j, NULL);
    json_text(&w.j, "displayTimeUnit", "ms");
    if (prov) {
        json_object(&w.j, "otherData");
        prov_json(prov, &w.j);
        json_end(&w.j);
    }
    json_array(&w.j, "traceEvents");
    w.j.compact = true;
    write_names(&w, a);
    for (int i = 0; i < play_tasks(s->graph); i++) {
        const struct play_task *t = play_task(s->graph, i);
        if (t->gpu >= w.gpus || t->kind == PLAY_MARK || r->begin_at[i] == r->end_at[i])
            continue;
        write_slice(&w, i, track[i]);
        if (t->kind == PLAY_MEMBER)
            write_arrow(&w, i, track);
    }
    name_track(&w, "process_name", w.gpus, 0, "links");
    write_loads(&w, watch, a);
    json_end(&w.j);
    json_end(&w.j);
    fputc('\n', out);
    arena_free(a);
}
