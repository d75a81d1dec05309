/* Published runs: what their table may hold, and the arithmetic between a step's seconds and what
 * was published. */
#include <gsl/gsl_test.h>
#include <math.h>
#include <string.h>

#include "tests/base/folder.h"
#include "validate/published_anchor.h"

static const char header[] =
    "id,project,source,kind,model,clip,grid,samples,cluster,gpus,tp,cp,strategy,kernels,sharding,"
    "checkpointing,pointwise,passes,unit,published,beyond,assumed,one_gpu,activations\n";
static const char good[] = "a,p,s,training,wan2.1-14b,,24x52x30,1,8x8-h100,64,2,4,ring,fa3+dsv,"
                           "zero1,none,,1,tokens/s/GPU,1866.47,,,,\n";

static const struct published_ask every = {PUBLISHED_KINDS, NULL, false},
                                  single = {KIND_ONE_GPU, NULL, false};

static struct published_run *read_text(const char *text, int *count, struct arena *a, struct err *e)
{
    struct published_run *runs = NULL;
    const char *folder = folder_new(a);
    const char *path = folder_file(folder, "r.csv", text, a);
    bool ok = published_read(path, &runs, count, a, e);
    folder_remove(folder, a);
    return ok ? runs : NULL;
}

/* `good` with its first `old` replaced. */
static const char *changed(const char *old, const char *new, struct arena *a)
{
    const char *at = strstr(good, old);
    return arena_printf(a, "%s%s%.*s%s%s", header, good, (int)(at - good), good, new,
                        at + strlen(old));
}

static void a_bad_row_is_refused_with_its_line(struct arena *a)
{
    static const struct {
        const char *old, *new, *says;
    } bad[] = {
        {"wan2.1-14b", "wan2.1-41b", "did you mean 'wan2.1-14b'"},
        {"training", "serving", "kind: 'serving' is none of inference, training"},
        {"training", "inference", "unit: 'tokens/s/GPU' is for training"},
        {",24x52x30", "480x832x81,24x52x30", "either a clip or a grid"},
        {"1866.47", "-1", "published: -1 is not positive"},
        {"1866.47", "fast", "published: 'fast' is not a finite number"},
        {"tokens/s/GPU", "tokens", "unit: 'tokens' is none of s, TFLOP/s/GPU"},
        {"64,2,4", "64,3,4", "tp 3 x cp 4 does not divide the 64 GPUs"},
        {"64,2,4", "7,1,1", "7 GPUs are neither whole nodes"},
        {"ring", "rings", "strategy: 'rings' is none of single, ulysses"},
        {"ring", "ring;ring;ring;ring;ring", "strategy: more than 4 choices"},
        {"ring,", ",", "strategy: nothing given"},
        {"fa3+dsv", "fa9", "no kernel 'fa9'"},
        {"none,", "some,", "checkpointing: 'some' is none of none"},
        {",,1,", ",0.5,1,", "pointwise: 0.5 is not from 1"},
        {"zero1", "zero9", "sharding: 'zero9' is none of ddp"},
        {"a,p,s", "a,p,", "id, project and source must be given"},
        {"1866.47,,,,", "1866.47,,,,half", "activations: 'half' is none of plain, fused"},
        {"1866.47,,,", "1866.47,,,b", "one_gpu: no row has the id 'b'"},
        {"1866.47,,,", "1866.47,,,a", "one_gpu: 'a' is not the same inference run on one GPU"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        int count;
        read_text(changed(bad[i].old, bad[i].new, a), &count, a, &e);
        gsl_test(e.code != ERR_INPUT || !strstr(e.text, bad[i].says) || !strstr(e.text, "r.csv:3"),
                 "%s for %s: %s", bad[i].new, bad[i].old, e.text);
    }
}

/* AdaSpa (arXiv 2502.21079): HunyuanVideo at 720p, 129 frames and 50 steps takes 600 PFLOP. NeMo
 * DFM publishes one GB200 run twice, 4747.17 tokens/s and 787.59 TFLOP/s a GPU, that is 165.9 GFLOP
 * a token in a step of three forwards. */
static void flops_are_those_that_others_count(struct arena *a)
{
    struct err e = {0};
    const struct dit_model *hunyuan = dit_load("hunyuanvideo-13b", err_at_name("test"), a, &e);
    const struct dit_model *wan = dit_load("wan2.1-14b", err_at_name("test"), a, &e);
    gsl_test_rel(50 * published_forward_flop(hunyuan, 33 * 45 * 80), 600e15, 0.01, "AdaSpa");
    gsl_test_rel(3 * published_forward_flop(wan, 37440) / 37440, 787.59e12 / 4747.17, 0.01,
                 "FLOP a token in a training step");
}

static struct published_answer answer_of(const char *text, struct arena *a)
{
    struct err e = {0};
    int count = 0;
    struct published_answer out = {0};
    struct published_run *r = read_text(text, &count, a, &e);
    gsl_test(!r || count < 1 || !published_answer(&r[count - 1], &out, a, &e), "%s", e.text);
    return out;
}

/* 64 GPUs of TP 2 x CP 4 are 8 replicas: 8 samples of 37,440 tokens in a step of t seconds are
 * 8 x 37,440 / 64 / t tokens a second of each GPU. */
static void rates_and_seconds_are_one_answer(struct arena *a)
{
    struct published_answer tokens = answer_of(changed("a,p", "b,p", a), a),
                            seconds = answer_of(changed("tokens/s/GPU", "s", a), a),
                            twice = answer_of(changed("1,tokens/s/GPU", "2,s", a), a),
                            flops = answer_of(changed("tokens/s/GPU", "TFLOP/s/GPU", a), a);
    gsl_test_rel(tokens.least * seconds.most, 8 * 37440.0 / 64, 1e-12, "tokens/s/GPU");
    gsl_test_rel(twice.least, 2 * seconds.least, 1e-12, "two steps");
    struct err e = {0};
    const struct dit_model *wan = dit_load("wan2.1-14b", err_at_name("test"), a, &e);
    gsl_test_rel(flops.least * 1e12 / tokens.least, 3 * published_forward_flop(wan, 37440) / 37440,
                 1e-12, "FLOP of a token");
    gsl_test(!(tokens.low < tokens.least && tokens.least < tokens.high), "inside its interval");
    gsl_test_rel(tokens.off, tokens.least / 1866.47 - 1, 1e-12, "off");
}

static void what_is_open_makes_a_range(struct arena *a)
{
    struct published_answer none = answer_of(changed("a,p", "b,p", a), a),
                            full = answer_of(changed("none,", "full,", a), a),
                            both = answer_of(changed("none,", "none;full,", a), a);
    gsl_test_rel(both.most, none.most, 0, "no recompute is the faster end");
    gsl_test_rel(both.least, full.least, 0, "full recompute the slower one");
    gsl_test_rel(both.low, full.low, 0, "the interval is of both");
    gsl_test_rel(both.high, none.high, 0, "the interval is of both");
}

/* `several` on 4 GPUs and the same run on one, 1,000 s; `beyond` of several as asked. */
static bool anchored(const char *beyond, struct published_set *s, struct arena *a)
{
    static const char run[] = "p,s,inference,wan2.1-14b,,24x52x30,1,1x8-h100";
    struct err e = {0};
    const char *folder = folder_new(a);
    folder_file(
        folder, "published_runs.csv",
        arena_printf(a,
                     "%sseveral,%s,4,1,4,ulysses,fa2+dsv;fa3+dsv,ddp,none,,2,s,300,%s,,one,\n"
                     "one,%s,1,1,1,single,fa2+dsv;fa3+dsv,ddp,none,,2,s,1000,,,,\n",
                     header, run, beyond, run),
        a);
    bool ok = published_all(folder, s, a, &e);
    folder_remove(folder, a);
    gsl_test(!ok || s->count != 2 || s->runs[0].one_gpu != 1, "%s", e.text);
    return ok && s->count == 2;
}

/* Each kernel is anchored for itself: with p of 4 GPUs and p1 of one, the ratio's range is p/p1 of
 * each, and the rule's answer the geometric middle of the two kernels'. */
static void runs_are_predicted_from_the_same_run_on_one_gpu(struct arena *a)
{
    struct published_set s;
    if (!anchored("VAE", &s, a))
        return;
    const double *four = s.answers[0].pick, *one = s.answers[1].pick;
    gsl_test(s.answers[0].picks != 2 || s.answers[1].picks != 2, "one for each kernel");
    double ratio = 1000 * sqrt(four[0] / one[0] * four[1] / one[1]),
           rest = sqrt((four[0] + 1000 - one[0]) * (four[1] + 1000 - one[1]));
    gsl_test_rel(anchor_predict(&s, 0, ANCHOR_RATIO), ratio, 1e-12, "ratio");
    gsl_test_rel(anchor_predict(&s, 0, ANCHOR_REST), rest, 1e-12, "rest");
    gsl_test_rel(anchor_predict(&s, 0, ANCHOR_ROW), rest, 1e-12, "VAE: the rest stays");
    gsl_test_rel(anchor_predict(&s, 0, ANCHOR_MIDDLE), sqrt(rest * ratio), 1e-12, "middle");
    gsl_test(!isnan(anchor_predict(&s, 1, ANCHOR_ROW)), "nothing stands for one GPU itself");
    struct published_score k = anchor_score(&s, ANCHOR_RATIO, NULL, a);
    gsl_test(k.rows != 1 || k.projects != 1 || k.inside != (ratio <= 300 && 300 <= rest),
             "one row");
    gsl_test_rel(k.bias, ratio / 300 - 1, 1e-12, "its error");
    gsl_test(anchor_score(&s, ANCHOR_ROW, "q", a).rows != 0, "no project q");
    if (anchored("nothing: one step", &s, a))
        gsl_test_rel(anchor_predict(&s, 0, ANCHOR_ROW), ratio, 1e-12, "passes alone: they scale");
}

/* Whoever reads the page is told how many rows of how many projects there are, and that the middle
 * one is off by this much: the limits are a promise. On one GPU it is the tighter one: half of all
 * rows are of several GPUs, and most of those publications do not name their kernel. */
static void the_shipped_rows_are_answered(struct arena *a)
{
    struct published_set s;
    struct err e = {0};
    gsl_test(!published_all("presets/data", &s, a, &e), "%s", e.text);
    struct published_score all = published_score(&s, &every, a),
                           one = published_score(&s, &single, a);
    gsl_test(all.rows < 25 || all.projects < 6, "%d rows of %d projects", all.rows, all.projects);
    gsl_test(!(all.median_off < 0.25), "median error %.0f%%", 100 * all.median_off);
    gsl_test(!(one.median_off < 0.1), "median error on one GPU %.0f%%", 100 * one.median_off);
    for (int i = 0; i < s.count; i++)
        gsl_test(!(s.answers[i].least > 0 && s.answers[i].most < 1e9), "%s", s.runs[i].id);
}

/* Its first page says how far off plans are: as the rows have it today. */
static void the_readme_says_the_same(struct arena *a)
{
    struct published_set s;
    struct err e = {0};
    const char *text = file_text("README.md", a);
    if (!text || !published_all("presets/data", &s, a, &e)) {
        gsl_test(1, "README.md and the table can be read: %s", e.text);
        return;
    }
    struct published_score all = published_score(&s, &every, a),
                           one = published_score(&s, &single, a);
    const char *says[] = {
        arena_printf(a, "of %d times that %d other projects", all.rows, all.projects),
        arena_printf(a, "the median is off by %.0f%% (one\nGPU: %.0f%%)", 100 * all.median_off,
                     100 * one.median_off),
        arena_printf(a, "and %d lie inside the 90%% interval", all.inside)};
    for (int i = 0; i < 3; i++)
        gsl_test(!strstr(text, says[i]), "README.md says '%s'", says[i]);
}

/* Each row brings a cluster's curves along: a table cannot ask for more memory than this. */
static void a_table_has_an_end(struct arena *a)
{
    struct err e = {0};
    int count;
    char *text = ARENA_ARRAY(a, char, sizeof header + 2001 * sizeof good);
    char *at = stpcpy(text, header);
    for (int i = 0; i < 2001; i++)
        at = stpcpy(at, good);
    gsl_test(read_text(text, &count, a, &e) || !strstr(e.text, "2001 rows; at most 2000"), "%s",
             e.text);
}

static void a_folder_without_the_table_has_no_section(struct arena *a)
{
    struct published_set s;
    struct err e = {0};
    gsl_test(!published_all("tests", &s, a, &e) || s.count != 0, "no table, no rows");
}

static bool read_remarks_of(const char *text, struct published_set *s, struct arena *a,
                            struct err *e)
{
    const char *folder = folder_new(a);
    folder_file(folder, "published_runs.csv", header, a);
    folder_file(folder, "published_runs.txt", text, a);
    bool ok = published_all(folder, s, a, e);
    folder_remove(folder, a);
    return ok;
}

static void remarks_are_the_lines_of_the_file_beside(struct arena *a)
{
    struct published_set s;
    struct err e = {0}, many = {0};
    gsl_test(!read_remarks_of("One.\n\nTwo, without an end", &s, a, &e) || s.remark_count != 2 ||
                 strcmp(s.remarks[0], "One.") != 0 ||
                 strcmp(s.remarks[1], "Two, without an end") != 0,
             "two remarks: %s", e.text);
    char line[8300];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = 0;
    gsl_test(read_remarks_of(line, &s, a, &e) || !strstr(e.text, "published_runs.txt:1: want"),
             "a line of 8,299 bytes: %s", e.text);
    const char *lines = "";
    for (int i = 0; i < 51; i++)
        lines = arena_printf(a, "%sr\n", lines);
    gsl_test(read_remarks_of(lines, &s, a, &many) ||
                 !strstr(many.text, "published_runs.txt:51: want at most 50 lines"),
             "51 remarks: %s", many.text);
}

int main(void)
{
    struct arena *a = arena_new();
    a_bad_row_is_refused_with_its_line(a);
    flops_are_those_that_others_count(a);
    rates_and_seconds_are_one_answer(a);
    what_is_open_makes_a_range(a);
    runs_are_predicted_from_the_same_run_on_one_gpu(a);
    the_shipped_rows_are_answered(a);
    the_readme_says_the_same(a);
    a_table_has_an_end(a);
    a_folder_without_the_table_has_no_section(a);
    remarks_are_the_lines_of_the_file_beside(a);
    arena_free(a);
    return gsl_test_summary();
}
