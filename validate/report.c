/* Writes the accuracy page. */
#include "validate/report.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/outfile.h"
#include "validate/accuracy.h"
#include "validate/dsv.h"
#include "validate/page.h"
#include "validate/published_anchor.h"

/* ---- protocols ---- */

static const struct promise {
    const char *protocol, *what, *label;
    bool large;
    double limit; /* what the project set itself; 0: none */
    const char *peers;
} promises[] = {
    {"collectives: every other size left out", NULL, "all sizes", false, 0.045, NULL},
    {"collectives: every other size left out", NULL, "1 MB and above", true, 0.04, NULL},
    {"collectives: test rows from calib rows", NULL, "all sizes", false, 0.045, NULL},
    {"collectives: test rows from calib rows", NULL, "1 MB and above", true, 0.04, NULL},
    {"collectives: one size left out, neighbours four octaves apart", NULL, "all sizes", false, 0,
     NULL},
    {"collectives: one size left out, neighbours four octaves apart", NULL, "1 MB and above", true,
     0, NULL},
    {"collectives: largest size left out", NULL, "", false, 0, NULL},
    {"collectives: beyond 256 MB from below", NULL, "several nodes, to 16 GB", false, 0, NULL},
    {"collectives: 4 GPUs from 2, 16 MB on", "alltoall", "all-to-all", false, 0, NULL},
    {"collectives: 4 GPUs from 2, 16 MB on", NULL, "all operations", false, 0, NULL},
    {"collectives: 4 GPUs from 2, below 16 MB", NULL, "", false, 0, NULL},
    {"collectives: 8 GPUs from 2 and 4, 16 MB on", "alltoall", "all-to-all, H100", false, 0.09,
     "collectives: 4 GPUs from 2, 16 MB on"},
    {"collectives: 8 GPUs from 2 and 4, 16 MB on", NULL, "all operations, H100", false, 0.12,
     "collectives: 4 GPUs from 2, 16 MB on"},
    {"collectives: 8 GPUs from 2 and 4, below 16 MB", NULL, "H100", false, 0,
     "collectives: 4 GPUs from 2, below 16 MB"},
    {"collectives: 4 GPUs from 2 and 8", NULL, "H100", false, 0, NULL},
    {"collectives: new generation from two anchors", NULL, "all sizes", false, 0.12, NULL},
    {"collectives: several nodes, one site left out", NULL, "all sizes", false, 0, NULL},
    {"collectives: several nodes, one site left out", NULL, "1 MB and above", true, 0, NULL},
    {"attention: test rows from calib rows", NULL, "over 1 ms", true, 0.04, NULL},
    {"attention: lengths left out", NULL, "over 1 ms", true, 0.04, NULL},
    {"attention: lengths left out", NULL, "all", false, 0, NULL},
    {"attention: heads left out", NULL, "over 1 ms", true, 0.04, NULL},
    {"attention: beyond 8K tokens from below", NULL, "over 1 ms", true, 0.05, NULL},
    {"attention: another GPU, one anchor left out", NULL, "over 1 ms", true, 0.06, NULL},
    {"gemm: test rows from calib rows", NULL, "over 1 ms", true, 0.03, NULL},
    {"gemm: one row left out", NULL, "over 1 ms", true, 0.03, NULL},
    {"gemm: rows m left out", NULL, "over 1 ms", true, 0.03, NULL},
    {"gemm: rows m left out", NULL, "all", false, 0, NULL},
    {"gemm: another GPU, one anchor left out", NULL, "all", false, 0, NULL},
    {"dsv: exp2, one row left out", NULL, "", false, 0.03, NULL},
    {"dsv: exp1 from exp2 (no cache term)", NULL, "", false, 0.03, NULL},
};

static const char *percent(double x, struct arena *a)
{
    return isnan(x) ? "" : arena_printf(a, "%.1f%%", 100 * x);
}

/* A few rows are counted: their share has steps as wide as the band that it should lie in. */
static const char *share_held(const struct accuracy_line *l, struct arena *a)
{
    return l->judged > 0 && l->judged < 20 ? arena_printf(a, "%d of %d", l->inside, l->judged)
                                           : percent(l->coverage, a);
}

static const char *chance(const struct accuracy_line *l, struct arena *a)
{
    if (!l->judged)
        return "";
    const char *verdict = l->inside < l->least ? ": below" : l->inside > l->most ? ": above" : "";
    return l->judged < 20 ? arena_printf(a, "%d to %d%s", l->least, l->most, verdict)
                          : arena_printf(a, "%.0f to %.0f%%%s", 100.0 * l->least / l->judged,
                                         100.0 * l->most / l->judged, verdict);
}

/* What the page is written from. */
struct findings {
    const char *data, *made_by;
    const struct residuals *residuals;
    struct scatter scatter[FLOORS];
    struct dsv_run *dsv;
    int dsv_count;
    struct published_set published;
};

static const char *verdict(const struct promise *q, double mape, const struct scatter *s,
                           struct arena *a)
{
    static const char *const kinds[FLOORS] = {"collectives", "attention", "gemm"};
    double floor = 0;
    for (int i = 0; i < FLOORS; i++)
        if (q->large && !strncmp(q->protocol, kinds[i], strlen(kinds[i])))
            floor = s[i].floor;
    if (!(q->limit > 0))
        return "";
    if (mape <= q->limit)
        return "holds";
    return floor > q->limit
               ? arena_printf(a, "does not hold; the rows scatter by %.1f%%", 100 * floor)
               : "does not hold";
}

static int protocols(const struct page *p, const struct findings *f, struct arena *a)
{
    static const char *const head[] = {
        "protocol",  "rows of it", "rows", "mean abs. error", "p95", "bias", "90% interval holds",
        "by chance", "aim",        ""};
    struct arena *s = arena_new();
    int lines = 0;
    page_table_begin(p, head, 10);
    for (size_t i = 0; i < sizeof promises / sizeof *promises; i++) {
        const struct promise *q = &promises[i];
        struct accuracy_ask ask = {q->protocol, q->what, q->peers, q->large};
        struct accuracy_line l = accuracy_of(f->residuals, &ask, s);
        const char *cells[] = {q->protocol,
                               q->label,
                               arena_printf(a, "%d", l.count),
                               percent(l.mape, a),
                               percent(l.p95, a),
                               arena_printf(a, "%+.1f%%", 100 * l.bias),
                               share_held(&l, a),
                               chance(&l, a),
                               q->limit > 0 ? percent(q->limit, a) : "",
                               verdict(q, l.mape, f->scatter, a)};
        page_row(p, cells, 10, false);
        arena_reset(s);
        lines++;
    }
    page_table_end(p);
    arena_free(s);
    return lines;
}

static const char *const floor_names[FLOORS] = {[FLOOR_COLLECTIVES] = "collectives, 1 MB and above",
                                                [FLOOR_ATTENTION] = "attention, over 1 ms",
                                                [FLOOR_GEMM] = "GEMM, over 1 ms"};

static void floors(const struct page *p, const struct scatter *s, struct arena *a)
{
    static const char *const head[] = {"rows of the H100",   "rows",
                                       "measured twice",     "two runs differ by",
                                       "neighbouring pairs", "their errors differ by",
                                       "error that stays"};
    page_table_begin(p, head, 7);
    for (int i = 0; i < FLOORS; i++) {
        const char *cells[] = {floor_names[i],
                               arena_printf(a, "%d", s[i].rows),
                               arena_printf(a, "%d", s[i].twice),
                               percent(s[i].run_gap, a),
                               arena_printf(a, "%d", s[i].pairs),
                               percent(s[i].neighbour_gap, a),
                               percent(s[i].floor, a)};
        page_row(p, cells, 7, false);
    }
    page_table_end(p);
}

static void runs(const struct page *p, const struct dsv_run *r, int count, struct arena *a)
{
    static const char *const head[] = {"run",          "part", "predicted, ms", "90% interval, ms",
                                       "measured, ms", "error"};
    page_table_begin(p, head, 6);
    for (int i = 0; i < count; i++) {
        const struct interval *t = &r[i].predicted;
        bool measured = !isnan(r[i].measured_s);
        const char *cells[] = {
            r[i].name,
            "",
            arena_printf(a, "%.2f", t->value_s * 1e3),
            arena_printf(a, "%.2f to %.2f", t->low_s * 1e3, t->high_s * 1e3),
            measured ? arena_printf(a, "%.2f", r[i].measured_s * 1e3)
                     : "not published in the tables",
            measured ? arena_printf(a, "%+.1f%%", 100 * (t->value_s / r[i].measured_s - 1)) : ""};
        page_row(p, cells, 6, false);
        for (int k = 0; k < r[i].terms; k++) {
            const char *part[] = {
                "", r[i].term[k].what, arena_printf(a, "%.3f", r[i].term[k].time_s * 1e3), "", "",
                ""};
            page_row(p, part, 6, false);
        }
    }
    page_table_end(p);
}

/* ---- plots ---- */

static const struct plot {
    const char *name, *title, *axis;
    const char *protocols[5];
} plots[] = {
    {"collectives-sizes",
     "Collectives: sizes left out",
     "size, bytes",
     {"collectives: one size left out, neighbours four octaves apart",
      "collectives: test rows from calib rows"}},
    {"collectives-other",
     "Collectives: counts, GPUs and sites left out",
     "size, bytes",
     {"collectives: 4 GPUs from 2, 16 MB on", "collectives: new generation from two anchors",
      "collectives: several nodes, one site left out"}},
    {"attention",
     "Dense attention: lengths, heads, and beyond the table",
     "tokens",
     {"attention: lengths left out", "attention: heads left out",
      "attention: beyond 8K tokens from below"}},
    {"gemm",
     "GEMM: rows m left out",
     "measured time, s",
     {"gemm: rows m left out", "gemm: test rows from calib rows"}},
};
enum { PLOTS = sizeof plots / sizeof *plots };

static void plot_script(const struct plot *q, const struct residuals *r, FILE *out)
{
    fprintf(out,
            "set terminal svg size 900,460 background rgb 'white'\nset output '%s.svg'\nset title "
            "\"%s\"\n",
            q->name, q->title);
    fprintf(
        out,
        "set logscale x\nset logscale y 2\nset yrange [0.5:2]\nset grid\nset key outside below\n"
        "set xlabel '%s'\nset ylabel 'predicted / measured'\n",
        q->axis);
    for (int k = 0; q->protocols[k]; k++) {
        fprintf(out, "$p%d << EOD\n", k);
        for (int i = 0; i < r->count; i++)
            if (!strcmp(r->r[i].protocol, q->protocols[k]))
                fprintf(out, "%.6g %.6g\n", r->r[i].x, r->r[i].predicted_s / r->r[i].measured_s);
        fprintf(out, "EOD\n");
    }
    fputs("plot 1 with lines lc rgb 'black' notitle", out);
    for (int k = 0; q->protocols[k]; k++)
        fprintf(out, ", $p%d with points pt 7 ps 0.4 title \"%s\"", k, q->protocols[k]);
    fputs("\n", out);
}

/* gnuplot in `folder`; false when there is none or it fails: the scripts stay. */
static bool draw(const char *folder, const char *script)
{
    pid_t child = fork();
    int status = -1;
    if (child == 0) {
        if (chdir(folder) == 0)
            execlp("gnuplot", "gnuplot", script, (char *)NULL);
        _exit(127);
    }
    if (child < 0)
        return false;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool plot_all(const char *folder, const struct residuals *r, struct report_made *made,
                     struct arena *a, struct err *e)
{
    for (int i = 0; i < PLOTS; i++) {
        const char *script = arena_printf(a, "%s.gp", plots[i].name);
        struct outfile *f = outfile_open(arena_printf(a, "%s/%s", folder, script), a, e);
        if (!f)
            return false;
        plot_script(&plots[i], r, outfile_stream(f));
        if (!outfile_done(f, e))
            return false;
        made->plots += draw(folder, script);
    }
    made->gnuplot = made->plots > 0;
    return true;
}

/* ---- the page ---- */

static const char interval_text[] =
    "\"90% interval holds\": share of rows within an interval made from the other GPUs', lengths' "
    "or "
    "sites' residuals of the same class (of all sizes where those of its size are fewer than "
    "nine), "
    "wider where few groups support it (docs/calibration.md); empty where there is no other group, "
    "counted where rows are fewer than 20. \"By chance\": where that share lies 95 times in 100 "
    "when "
    "the interval is a true 90% one and the rows are independent; rows of one GPU or site err "
    "together, so more than that is chance. With fewer than ten rows only one count is a share of "
    "85 "
    "to 95%, or none.";
static const char count_text[] =
    "8 GPUs from 2 and 4 is the rule that the 8-GPU curves of the A100 and B200 follow, for which "
    "the "
    "tables have no rows to check; on the H100 it is asked without any GPU that has 8, so its "
    "half-precision all-reduce does not know of NVLink SHARP. Its intervals are those of 4 GPUs "
    "from "
    "2. Test rows of the collectives lie up to two octaves from the nearest calib row, through the "
    "sizes where NCCL changes its protocol.";
static const char floor_text[] =
    "Values that scatter about a truth by x on average differ by 1.41 x: \"error that stays\" is "
    "the difference over 1.41, of neighbours (shapes within two octaves, lengths together) after "
    "the fit has taken what it can from both, without neighbours of the runs. It is an estimate "
    "from these rows: no form that treats neighbours alike does much better on rows measured once.";

static void write_page(const struct page *p, const struct findings *f, struct report_made *made,
                       struct arena *a)
{
    fprintf(p->md, "# How far off are we\n\n");
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>How far off are "
          "we</title>\n"
          "<style>body{font:15px sans-serif;max-width:72em;margin:2em "
          "auto}table{border-collapse:collapse}"
          "td,th{border:1px solid #ccc;padding:2px "
          "8px;text-align:left}</style></head><body>\n<h1>How far off are we</h1>\n",
          p->html);
    page_paragraph(
        p,
        arena_printf(
            a,
            "Predictions of Shardwise against the published measurements in %s. Made by `%s`; run "
            "it again on any "
            "folder with the same tables. Every row below was kept from the fit that predicts it.",
            f->data, f->made_by));
    page_heading(p, "Rows left out, by protocol");
    made->lines = protocols(p, f, a);
    page_paragraph(p, interval_text);
    page_paragraph(p, count_text);
    page_heading(p, "What the tables themselves leave open");
    floors(p, f->scatter, a);
    page_paragraph(p, floor_text);
    page_heading(p, "DSV's runs from parts");
    runs(p, f->dsv, f->dsv_count, a);
    page_paragraph(p,
                   "exp6 shares one list of keys among 200 consecutive groups, which exp1 and exp2 "
                   "did not; exp7's constant is what `full` "
                   "leaves over, so `full` is no check and `low rank` is.");
    published_page(p, &f->published, a);
    anchor_page(p, &f->published, a);
    page_heading(p, "Plots");
    for (int i = 0; i < PLOTS; i++)
        page_image(p, plots[i].name, plots[i].title);
    fputs("</body></html>\n", p->html);
}

bool report_write(const char *data, const char *folder, const char *made_by,
                  struct report_made *out, struct arena *a, struct err *e)
{
    struct accuracy_tables t;
    struct residuals r = residuals_new(a);
    struct report_made made = {0};
    struct findings f = {.data = data, .made_by = made_by, .residuals = &r};
    struct outfile *md = NULL, *html = NULL;
    bool ok = false;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) /* before the work */
        return err_set(e, ERR_INPUT, err_at_name(folder), "no folder, and it cannot be made: %s",
                       strerror(errno));
    const struct prof_net *net = prof_net_load("h100", err_at_name("report"), a, e);
    const struct prof_kernels *k =
        net ? prof_kernels_load("h100", err_at_name("report"), a, e) : NULL;
    if (!k || !accuracy_tables_read(data, &t, a, e) || !accuracy_run(&t, &r, a, e) ||
        !accuracy_floors(&t, f.scatter, a, e) ||
        !dsv_runs(data, net, k, &f.dsv, &f.dsv_count, a, e) ||
        !published_all(data, &f.published, a, e) || !plot_all(folder, &r, &made, a, e))
        goto done;
    md = outfile_open(arena_printf(a, "%s/accuracy.md", folder), a, e);
    html = md ? outfile_open(arena_printf(a, "%s/accuracy.html", folder), a, e) : NULL;
    if (!html)
        goto done;
    struct page p = {outfile_stream(md), outfile_stream(html)};
    write_page(&p, &f, &made, a);
    ok = outfile_done(md, e) && outfile_done(html, e);
    *out = made;
done:
    outfile_drop(html);
    outfile_drop(md);
    return ok;
}
