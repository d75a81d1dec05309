/* max-clip: the longest clip, or the largest picture, that fits on the GPUs there are. The model's
 * legal clips form a ladder; its last rung that fits is found by doubling and halving, for each CP
 * degree, and what stops the next rung is said. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/whatif.h"
#include "planner/ladder.h"

static const struct arg_group clip_options = {
    "Model and clip",
    (const struct arg_option[]){
        OPTION_TEXT(
            "model", "NAME", "models",
            "a preset (`shardwise show models`), a YAML file like `show model NAME --file`, or a "
            "diffusers transformer's config.json"),
        OPTION_TEXT("resolution", "HxW", NULL,
                    "height and width in pixels: looks for the most frames"),
        OPTION_INT("frames", 1, DIT_SIDE_MAX, "F",
                   "a number of frames: looks for the largest picture"),
        OPTION_TEXT("aspect", "W:H", NULL, "with --frames: the picture's width to height (16:9)"),
        WORKLOAD_SAMPLES, OPTION_END}};

struct ladder_of { /* legal clips of a model, from short to long */
    const struct dit_model *model;
    int height, width; /* of all rungs, or 0: the picture grows */
    int frames;        /* of all rungs, or 0: the frames grow */
    double aspect;
    int first; /* rungs below have fewer tokens than a group of queries */
};

/* The degrees of context parallelism, each with its longest clip. */
struct degree {
    int cp, last; /* rung; 0: not even the first */
    struct plan_fit fit, next;
};

struct max_clip {
    struct cli *c;
    struct plan_request r;
    struct plan_limits limits;
    struct ladder_of clips;
    int most; /* rungs */
    int count, best;
    struct degree *degrees;
    int cp; /* of the ladder being climbed */
};

/* ---- rungs ---- */

static struct clip rung_clip(const struct ladder_of *l, int rung)
{
    const struct dit_model *m = l->model;
    int n = l->first + rung - 1;
    struct clip c = {l->height, l->width, l->frames};
    if (!l->frames) {
        c.frames = m->frames.plus_one ? 1 + (n - 1) * m->frames.chunk : n * m->frames.chunk;
        return c;
    }
    int step_w = m->vae_w * m->patch_w;
    c.height = n * m->vae_h * m->patch_h;
    c.width = (int)fmax(1, round(c.height * l->aspect / step_w)) * step_w;
    return c;
}

static const char *clip_text(struct clip c, struct arena *a)
{
    return arena_printf(a, "%dx%dx%d", c.height, c.width, c.frames);
}

/* Tokens of a rung, 0 beyond what the program takes. */
static int64_t rung_tokens(const struct ladder_of *l, int64_t rung, struct err *e)
{
    const struct dit_model *m = l->model;
    int step = l->frames ? m->vae_h * m->patch_h : m->frames.chunk;
    struct grid g;
    if ((double)(l->first + rung) * step * fmax(1, l->aspect) > DIT_SIDE_MAX ||
        !dit_grid(m, rung_clip(l, (int)rung), err_at_name(l->frames ? "--frames" : "--resolution"),
                  &g, e) ||
        grid_tokens(g) > WORKLOAD_TOKENS_MOST)
        return 0;
    return grid_tokens(g);
}

/* The first rung of at least `group` tokens becomes rung 1; how many there are from it on. */
static bool count_rungs(struct ladder_of *l, int group, int *most, struct err *e)
{
    struct err beyond = {0};
    int64_t tokens;
    l->first = 1;
    while ((tokens = rung_tokens(l, 1, e)) > 0 && tokens < group)
        l->first++;
    if (tokens == 0)
        return err_set(e, ERR_INPUT, err_at_name(l->frames ? "--frames" : "--resolution"),
                       "not even the smallest clip is within %d tokens", WORKLOAD_TOKENS_MOST);
    int low = 1, high = DIT_SIDE_MAX;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        *(rung_tokens(l, middle, &beyond) > 0 ? &low : &high) = middle;
    }
    *most = low;
    return true;
}

static bool try_rung(struct max_clip *m, int cp, int rung, struct plan_fit *f, struct err *e)
{
    struct plan_request one = m->r;
    arena_reset(m->c->scratch);
    if (!dit_grid(one.c.model, rung_clip(&m->clips, rung), err_at_name(NULL), &one.c.grid, e))
        return false;
    one.c.video_tokens = grid_tokens(one.c.grid);
    one.cp = cp;
    whatif_progress(arena_printf(m->c->scratch, "CP %d: %s", cp,
                                 clip_text(rung_clip(&m->clips, rung), m->c->scratch)));
    return plan_fit(&one, &m->limits, f, m->c->scratch, e);
}

static bool rung_holds(void *data, int rung, bool *yes, struct err *e)
{
    struct max_clip *m = data;
    struct plan_fit f;
    if (!try_rung(m, m->cp, rung, &f, e))
        return false;
    *yes = f.verdict == FIT_YES;
    return true;
}

/* ---- degrees ---- */

static bool climb(struct max_clip *m, int cp, struct err *e)
{
    struct degree *d = &m->degrees[m->count];
    struct ladder ladder = {m->most, m, rung_holds};
    *d = (struct degree){.cp = m->cp = cp};
    if (!ladder_last(&ladder, &d->last, e) ||
        (d->last > 0 && !try_rung(m, cp, d->last, &d->fit, e)) ||
        (d->last < m->most && !try_rung(m, cp, d->last + 1, &d->next, e)))
        return false;
    m->count += d->last > 0 || d->next.verdict != FIT_IMPOSSIBLE;
    return true;
}

static bool better(const struct degree *a, const struct degree *b)
{
    return a->last != b->last ? a->last > b->last
           : a->last == 0     ? fit_short(&a->next) < fit_short(&b->next)
                              : a->fit.samples_per_s > b->fit.samples_per_s * (1 + 1e-12);
}

/* As `plan` has them: what replicas can be built from. */
static bool climb_all(struct max_clip *m, struct err *e)
{
    const struct hw_cluster *k = m->r.c.cluster;
    int gpus = hw_gpus(k) / m->r.tensor, node = k->gpus_per_node / m->r.tensor, asked = m->r.cp;
    m->degrees = ARENA_ARRAY(m->c->a, struct degree, gpus + 1);
    for (int cp = 1; cp <= gpus; cp++) {
        bool possible = gpus % cp == 0 && (node % cp == 0 || cp % node == 0);
        if (asked ? cp != asked : !possible)
            continue;
        if (!climb(m, cp, e))
            return false;
    }
    whatif_progress(NULL);
    if (m->count == 0) /* the last degree's slot still says why */
        return err_set(e, ERR_INPUT, err_at_name(NULL), "%s",
                       *m->degrees[0].next.reason ? m->degrees[0].next.reason
                                                  : "--cp: does not divide the GPUs");
    for (int i = 1; i < m->count; i++)
        if (better(&m->degrees[i], &m->degrees[m->best]))
            m->best = i;
    return true;
}

/* ---- the request ---- */

static bool read_aspect(const struct args *g, double *aspect, struct err *e)
{
    const char *text = args_given(g, "aspect") ? args_text(g, "aspect") : "16:9";
    int w, h;
    char rest;
    if (sscanf(text, "%5d:%5d%c", &w, &h, &rest) != 2 || w < 1 || h < 1)
        return err_set(e, ERR_INPUT, args_at(g, "aspect"),
                       "'%.40s' is not width to height, such as 16:9", text);
    *aspect = (double)w / h;
    return true;
}

static bool read_clips(struct max_clip *m, struct err *e)
{
    static const char *const forms[] = {"resolution", "frames", NULL};
    const struct args *g = m->c->args;
    const char *form = args_one_of(g, forms, true, e);
    struct whatif_sides sides = {0};
    double aspect = 1;
    if (!form)
        return false;
    if (args_given(g, "aspect") && strcmp(form, "frames") != 0)
        return err_set(e, ERR_INPUT, args_at(g, "aspect"), "goes with --frames");
    if (strcmp(form, "frames") == 0
            ? !read_aspect(g, &aspect, e)
            : !whatif_resolution(args_text(g, "resolution"), args_at(g, "resolution"), &sides, e))
        return false;
    const struct dit_model *model = workload_model(m->c, e);
    if (!model)
        return false;
    m->clips = (struct ladder_of){.model = model,
                                  .height = sides.height,
                                  .width = sides.width,
                                  .frames = (int)args_int_or(g, "frames", 0),
                                  .aspect = aspect};
    return count_rungs(&m->clips, (int)args_int_or(g, "group", WORKLOAD_QUERY_GROUP), &m->most, e);
}

static bool read_request(struct max_clip *m, struct err *e)
{
    m->limits = whatif_limits(m->c->args);
    if (!read_clips(m, e))
        return false;
    struct arg_setting set = {"clip", clip_text(rung_clip(&m->clips, 1), m->c->a)};
    return whatif_request(m->c, &set, 1, m->c->a, &m->r, e);
}

/* ---- output ---- */

static const struct table_col columns[] = {WHATIF_COLUMNS,
                                           {"clip", "longest clip", TABLE_STR, 0},
                                           {"video_tokens", "tokens", TABLE_QTY, QTY_NUMBER},
                                           {"next_clip", "next", TABLE_STR, 0},
                                           {"stops", "what stops it", TABLE_STR, 0},
                                           {"longest", "longest", TABLE_STR, 0},
                                           WHATIF_MORE_COLUMNS};
enum { COLUMNS = sizeof columns / sizeof *columns, TEXT_COLUMNS = 13 };

static const char *stops(const struct max_clip *m, const struct degree *d)
{
    return d->last == m->most ? "the largest clip that can be planned" : d->next.reason;
}

static struct table *degrees_table(const struct max_clip *m, bool text)
{
    struct arena *a = m->c->a;
    struct table *t = table_new(a, columns, text ? TEXT_COLUMNS : COLUMNS);
    struct err none = {0};
    for (int i = 0; i < m->count; i++) {
        const struct degree *d = &m->degrees[i];
        const struct plan_fit *f = d->last ? &d->fit : &d->next;
        whatif_cells(f, t);
        table_str(t, d->last ? clip_text(rung_clip(&m->clips, d->last), a) : NULL);
        table_num(t, d->last ? (double)rung_tokens(&m->clips, d->last, &none) : NAN);
        table_str(t, d->last < m->most ? clip_text(rung_clip(&m->clips, d->last + 1), a) : NULL);
        table_str(t, stops(m, d));
        if (text)
            continue;
        table_str(t, i == m->best && d->last ? "yes" : "no");
        whatif_more_cells(f, t);
    }
    return t;
}

static void put_answer(const struct max_clip *m, FILE *out)
{
    const struct degree *d = &m->degrees[m->best];
    const struct plan_fit *f = &d->fit;
    struct arena *a = m->c->a;
    struct err none = {0};
    fprintf(out, "%s on %s", m->r.c.model->name, m->r.c.cluster->name);
    if (d->last == 0) {
        fprintf(out, ": not even %s.\n", clip_text(rung_clip(&m->clips, 1), a));
        return;
    }
    struct clip c = rung_clip(&m->clips, d->last);
    fprintf(
        out,
        ": %s is the %s (%s, %s tokens); %sCP %d, %d replica%s, a step takes %s%s, %s samples/s; "
        "%s of %s a GPU.\n",
        m->clips.frames ? arena_printf(a, "%dx%d", c.height, c.width)
                        : arena_printf(a, "%d frames", c.frames),
        m->clips.frames ? "largest picture" : "longest clip", clip_text(c, a),
        qty_text((double)rung_tokens(&m->clips, d->last, &none), QTY_NUMBER, QTY_BUF),
        whatif_tensor(&m->r, a), f->cp, f->replicas, f->replicas == 1 ? "" : "s",
        qty_text(f->step.value_s, QTY_SECONDS, QTY_BUF), whatif_range(&f->step, a),
        qty_text(f->samples_per_s, QTY_NUMBER, QTY_BUF),
        qty_text(f->memory.total, QTY_BYTES, QTY_BUF),
        qty_text(f->memory_limit, QTY_BYTES, QTY_BUF));
    whatif_limiting(f, out);
    if (d->last < m->most)
        fprintf(out, "The next, %s, does not do: %s.\n",
                clip_text(rung_clip(&m->clips, d->last + 1), a), stops(m, d));
}

static bool print_all(const struct max_clip *m, struct err *e)
{
    FILE *out = cli_out(m->c, e);
    if (!out)
        return false;
    if (m->c->format != TABLE_TEXT) {
        cli_table(m->c, degrees_table(m, false), "degrees", out);
        return cli_finish(m->c, e);
    }
    prov_comment(m->c->prov, out);
    put_answer(m, out);
    fputc('\n', out);
    table_print(degrees_table(m, true), TABLE_TEXT, out);
    return cli_finish(m->c, e);
}

static bool run(struct cli *c, struct err *e)
{
    struct max_clip m = {.c = c};
    if (!read_request(&m, e) || !climb_all(&m, e) || !print_all(&m, e))
        return false;
    const struct degree *d = &m.degrees[m.best];
    return d->last > 0 || err_set(e, ERR_INFEASIBLE, err_at_name(NULL), "not even %s will do: %s",
                                  clip_text(rung_clip(&m.clips, 1), c->a), d->next.reason);
}

const struct command cmd_max_clip = {
    .name = "max-clip",
    .brief = "find the longest clip, or the largest picture, that fits",
    .usage = "--model M --cluster C (--resolution HxW | --frames F [--aspect W:H]) "
             "[--max-step TIME | --min-rate RATE] [options]",
    .example = "shardwise max-clip --model hunyuanvideo-13b --cluster 1x8-h100 --resolution "
               "720x1280\n"
               "shardwise max-clip --model wan2.1-14b --cluster 2x8-h100 --frames 81 --max-step "
               "60s",
    .about = "Looks through the clips that the model's VAE and patches allow, for every CP degree, "
             "for the last one that fits in memory and keeps the targets, by doubling and halving. "
             "With --resolution the frames grow; with --frames the picture grows, its width the "
             "legal one nearest to height times --aspect. Each degree's row has the time of a step "
             "at its longest clip, the next clip, and what stops that one: how much is short and "
             "of which part, or the target that it misses. The answer is the longest of them. Exit "
             "status 3 when not even the smallest clip will do.",
    .groups = (const struct arg_group *const[]){&clip_options, &workload_place, &workload_sparsity,
                                                &workload_training, &whatif_eval, &whatif_target,
                                                &cli_output_options, NULL},
    .run = run,
};
