/* Writes the accuracy page. */
#include "validate/report.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/outfile.h"
#include "validate/accuracy.h"
#include "validate/dsv.h"

/* ---- one text, two markups ---- */

struct page {
    FILE *md, *html;
};

static void escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else
            fputc(*text, out);
    }
}

static void heading(const struct page *p, const char *text)
{
    fprintf(p->md, "\n## %s\n\n", text);
    fputs("<h2>", p->html);
    escaped(p->html, text);
    fputs("</h2>\n", p->html);
}

static void paragraph(const struct page *p, const char *text)
{
    fprintf(p->md, "%s\n\n", text);
    fputs("<p>", p->html);
    escaped(p->html, text);
    fputs("</p>\n", p->html);
}

static void image(const struct page *p, const char *name, const char *what)
{
    fprintf(p->md, "![%s](%s.svg)\n\n", what, name);
    fprintf(p->html, "<p><img src=\"%s.svg\" alt=\"%s\"></p>\n", name, what);
}

static void row(const struct page *p, const char *const *cells, int count, bool head)
{
    const char *tag = head ? "th" : "td";
    fputs("<tr>", p->html);
    for (int i = 0; i < count; i++) {
        fprintf(p->md, "| %s ", cells[i]);
        fprintf(p->html, "<%s>", tag);
        escaped(p->html, cells[i]);
        fprintf(p->html, "</%s>", tag);
    }
    fputs("|\n", p->md);
    fputs("</tr>\n", p->html);
    for (int i = 0; head && i < count; i++)
        fputs("|---", p->md);
    if (head)
        fputs("|\n", p->md);
}

static void table_begin(const struct page *p, const char *const *head, int count)
{
    fputs("<table>\n", p->html);
    row(p, head, count, true);
}

static void table_end(const struct page *p)
{
    fputs("\n", p->md);
    fputs("</table>\n", p->html);
}

/* ---- protocols ---- */

static const struct promise {
    const char *protocol, *what, *label;
    bool large;
    double from_x, limit; /* limit: what the project set itself; 0: none */
} promises[] = {
    {"collectives: every other size left out", NULL, "all sizes", false, 0, 0.045},
    {"collectives: every other size left out", NULL, "1 MB and above", true, 0, 0.04},
    {"collectives: test rows from calib rows", NULL, "all sizes", false, 0, 0.045},
    {"collectives: test rows from calib rows", NULL, "1 MB and above", true, 0, 0.04},
    {"collectives: one size left out, neighbours four octaves apart", NULL, "all sizes", false, 0,
     0},
    {"collectives: one size left out, neighbours four octaves apart", NULL, "1 MB and above", true,
     0, 0},
    {"collectives: largest size left out", NULL, "", false, 0, 0},
    {"collectives: 4 GPUs from 2, 16 MB on", "alltoall", "all-to-all", false, 0, 0},
    {"collectives: 4 GPUs from 2, 16 MB on", NULL, "all operations", false, 0, 0},
    {"collectives: 4 GPUs from 2, below 16 MB", NULL, "", false, 0, 0},
    {"collectives: new generation from two anchors", NULL, "all sizes", false, 0, 0.12},
    {"collectives: several nodes, one site left out", NULL, "all sizes", false, 0, 0},
    {"collectives: several nodes, one site left out", NULL, "1 MB and above", true, 0, 0},
    {"attention: test rows from calib rows", NULL, "over 1 ms", true, 0, 0.04},
    {"attention: lengths left out", NULL, "over 1 ms", true, 0, 0.04},
    {"attention: lengths left out", NULL, "all", false, 0, 0},
    {"attention: heads left out", NULL, "over 1 ms", true, 0, 0.04},
    {"attention: beyond 8K tokens from below", NULL, "over 1 ms", true, 0, 0.05},
    {"attention: another GPU, one anchor left out", NULL, "over 1 ms", true, 0, 0.06},
    {"gemm: test rows from calib rows", NULL, "over 1 ms", true, 0, 0.03},
    {"gemm: one row left out", NULL, "over 1 ms", true, 0, 0.03},
    {"gemm: rows m left out", NULL, "over 1 ms", true, 0, 0.03},
    {"gemm: rows m left out", NULL, "all", false, 0, 0},
    {"gemm: another GPU, one anchor left out", NULL, "all", false, 0, 0},
    {"dsv: exp2, one row left out", NULL, "", false, 0, 0.03},
    {"dsv: exp1 from exp2 (no cache term)", NULL, "", false, 0, 0.03},
};

static const char *percent(double x, struct arena *a)
{
    return isnan(x) ? "" : arena_printf(a, "%.1f%%", 100 * x);
}

/* A few rows are counted: their share has steps as wide as the band that it should lie in. */
static const char *share_held(const struct accuracy_line *l, struct arena *a)
{
    return l->judged > 0 && l->judged < 20
               ? arena_printf(a, "%.0f of %d", l->coverage * l->judged, l->judged)
               : percent(l->coverage, a);
}

static int protocols(const struct page *p, const struct residuals *r, struct arena *a)
{
    static const char *const head[] = {"protocol",           "rows of it", "rows",
                                       "mean abs. error",    "p95",        "bias",
                                       "90% interval holds", "aim",        ""};
    struct arena *s = arena_new();
    int lines = 0;
    table_begin(p, head, 9);
    for (size_t i = 0; i < sizeof promises / sizeof *promises; i++) {
        const struct promise *q = &promises[i];
        struct accuracy_line l = accuracy_of(r, q->protocol, q->what, q->from_x, q->large, s);
        const char *cells[] = {q->protocol,
                               q->label,
                               arena_printf(a, "%d", l.count),
                               percent(l.mape, a),
                               percent(l.p95, a),
                               arena_printf(a, "%+.1f%%", 100 * l.bias),
                               share_held(&l, a),
                               q->limit > 0 ? percent(q->limit, a) : "",
                               q->limit > 0 ? (l.mape <= q->limit ? "holds" : "does not hold")
                                            : ""};
        row(p, cells, 9, false);
        arena_reset(s);
        lines++;
    }
    table_end(p);
    arena_free(s);
    return lines;
}

static void runs(const struct page *p, const struct dsv_run *r, int count, struct arena *a)
{
    static const char *const head[] = {"run",          "part", "predicted, ms", "90% interval, ms",
                                       "measured, ms", "error"};
    table_begin(p, head, 6);
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
        row(p, cells, 6, false);
        for (int k = 0; k < r[i].terms; k++) {
            const char *part[] = {
                "", r[i].term[k].what, arena_printf(a, "%.3f", r[i].term[k].time_s * 1e3), "", "",
                ""};
            row(p, part, 6, false);
        }
    }
    table_end(p);
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

static void write_page(const struct page *p, const char *data, const char *made_by,
                       const struct residuals *r, const struct dsv_run *dsv, int dsv_count,
                       struct report_made *made, struct arena *a)
{
    fprintf(p->md, "# How far off are we\n\n");
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>How far off are "
          "we</title>\n"
          "<style>body{font:15px sans-serif;max-width:72em;margin:2em "
          "auto}table{border-collapse:collapse}"
          "td,th{border:1px solid #ccc;padding:2px "
          "8px;text-align:left}</style></head><body>\n<h1>How far off are we</h1>\n",
          p->html);
    paragraph(
        p,
        arena_printf(
            a,
            "Predictions of Shardwise against the published measurements in %s. Made by `%s`; run "
            "it again on any "
            "folder with the same tables. Every row below was kept from the fit that predicts it.",
            data, made_by));
    heading(p, "Rows left out, by protocol");
    made->lines = protocols(p, r, a);
    paragraph(p, "\"90% interval holds\": share of rows within an interval made from the other "
                 "GPUs', lengths' or sites' residuals of the "
                 "same class (of all sizes where those of its size are fewer than nine), twice as "
                 "wide where there is one other group; empty where there is none, counted where "
                 "rows are fewer than 20. Test rows of the collectives "
                 "lie up to two octaves from the nearest "
                 "calib row, through the sizes where NCCL changes its protocol.");
    heading(p, "DSV's runs from parts");
    runs(p, dsv, dsv_count, a);
    paragraph(p, "exp6 shares one list of keys among 200 consecutive groups, which exp1 and exp2 "
                 "did not; exp7's constant is what `full` "
                 "leaves over, so `full` is no check and `low rank` is.");
    heading(p, "Plots");
    for (int i = 0; i < PLOTS; i++)
        image(p, plots[i].name, plots[i].title);
    fputs("</body></html>\n", p->html);
}

bool report_write(const char *data, const char *folder, const char *made_by,
                  struct report_made *out, struct arena *a, struct err *e)
{
    struct accuracy_tables t;
    struct residuals r = residuals_new(a);
    struct report_made made = {0};
    struct dsv_run *dsv;
    int dsv_count;
    struct outfile *md = NULL, *html = NULL;
    bool ok = false;
    const struct prof_net *net = prof_net_load("h100", err_at_name("report"), a, e);
    const struct prof_kernels *k =
        net ? prof_kernels_load("h100", err_at_name("report"), a, e) : NULL;
    if (!k || !accuracy_tables_read(data, &t, a, e) || !accuracy_run(&t, &r, a, e) ||
        !dsv_runs(data, net, k, &dsv, &dsv_count, a, e) || !plot_all(folder, &r, &made, a, e))
        goto done;
    md = outfile_open(arena_printf(a, "%s/accuracy.md", folder), a, e);
    html = md ? outfile_open(arena_printf(a, "%s/accuracy.html", folder), a, e) : NULL;
    if (!html)
        goto done;
    struct page p = {outfile_stream(md), outfile_stream(html)};
    write_page(&p, data, made_by, &r, dsv, dsv_count, &made, a);
    ok = outfile_done(md, e) && outfile_done(html, e);
    *out = made;
done:
    outfile_drop(html);
    outfile_drop(md);
    return ok;
}
