/* Studies and their rows: the grid by hand, what is refused and where, and files that were cut off
 * anywhere. */
#include "planner/study.h"

#include <gsl/gsl_test.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "planner/sweep.h"
#include "tests/base/folder.h"

static struct arena *arena;

static const char *const names[] = {"gpus", "keep", "model", "resident", NULL};

static bool number(const void *data, const char *name, enum qty_dim *dim, bool *whole)
{
    (void)data;
    *whole = strcmp(name, "gpus") == 0;
    *dim = strcmp(name, "resident") == 0 ? QTY_BYTES : QTY_NUMBER;
    return strcmp(name, "model") != 0;
}

static bool check(const void *data, const char *name, const char *text, struct err_at at,
                  struct err *e)
{
    int64_t gpus;
    (void)data;
    return strcmp(name, "gpus") != 0 || qty_parse_int(text, 1, 1000, name, at, &gpus, e);
}

static const struct study_terms terms = {names, NULL, number, check};

static const struct study *read_study(const char *text, struct err *e)
{
    *e = (struct err){0};
    return study_read_text("s.yaml", text, strlen(text), &terms, arena, e);
}

/* "a b c; a b d": the points, a dash for what is not set. */
static const char *grid_text(const struct study *s)
{
    const char *text = "", *value[8];
    for (int64_t i = 0; i < s->points; i++) {
        study_point(s, i, value);
        text = arena_printf(arena, "%s%s", text, i ? ";" : "");
        for (int p = 0; p < s->params; p++)
            text = arena_printf(arena, "%s%s%s", text, p ? " " : "", value[p] ? value[p] : "-");
    }
    return text;
}

static void expect_grid(const char *study, const char *points)
{
    struct err e;
    const struct study *s = read_study(study, &e);
    gsl_test(!s, "%s is a study: %s", study, e.text);
    if (s)
        gsl_test(strcmp(grid_text(s), points) != 0, "%s: %s, want %s", study, grid_text(s), points);
}

static void points_are_in_the_order_of_the_file(void)
{
    expect_grid("parameters: {model: a, gpus: 8}", "a 8");
    expect_grid("parameters: {gpus: [8, 16], model: [a, b, c]}", "8 a;8 b;8 c;16 a;16 b;16 c");
    expect_grid("parameters: {model: m}\ncases: [{gpus: 8, keep: 0.1}, {keep: 1}]",
                "m 8 0.1;m - 1");
}

static void ranges_are_as_by_hand(void)
{
    expect_grid("parameters: {gpus: {from: 8, to: 30, by: 8}}", "8;16;24");
    expect_grid("parameters: {gpus: {from: 8, to: 64, times: 2}}", "8;16;32;64");
    expect_grid("parameters: {keep: {from: 0.1, to: 0.4, by: 0.1}}", "0.1;0.2;0.3;0.4");
    expect_grid("parameters: {keep: {from: 0.01, to: 1, count: 3, scale: log}}", "0.01;0.1;1");
    expect_grid("parameters: {keep: {from: 0, to: 1, count: 5}}", "0;0.25;0.5;0.75;1");
    expect_grid("parameters: {resident: {from: 4 GB, to: 8 GB, by: 2 GB}}",
                "4000000000 B;6000000000 B;8000000000 B");
    expect_grid("parameters: {gpus: {from: 1, to: 2, count: 5}}", "1;2"); /* 1, 1, 2, 2, 2 */
    expect_grid("parameters: {gpus: {from: 8, to: 8, by: 1}}", "8");
}

static void expect_refusal(const char *study, const char *message)
{
    struct err e;
    gsl_test(read_study(study, &e) != NULL, "refused: %s", study);
    gsl_test(!strstr(e.text, message) || e.code != ERR_INPUT, "%s: '%s', want '%s'", study, e.text,
             message);
}

static void what_is_no_study_is_refused_with_its_place(void)
{
    expect_refusal("{}", "s.yaml:1:1: document: the key 'parameters' is missing");
    expect_refusal("parameters: {modle: a}", "s.yaml:1:14: unknown key 'modle'; did you mean");
    expect_refusal("parameters:\n  gpus: [8,\n    0]", "s.yaml:3:5: gpus");
    expect_refusal("parameters: {gpus: []}", "s.yaml:1:20: gpus: 0 values");
    expect_refusal("parameters: {gpus: [[8]]}", "s.yaml:1:21: gpus: want a value");
    expect_refusal("parameters: {gpus: {from: 8, to: 4, by: 1}}", "1:34: gpus: the range ends");
    expect_refusal("parameters: {gpus: {from: 8, to: 9, by: 0}}", "1:41: gpus: by 0");
    expect_refusal("parameters: {gpus: {from: 8, to: 9, times: 1}}", "gpus: times 1");
    expect_refusal("parameters: {keep: {from: 0, to: 9, times: 2}}",
                   "1:27: keep: want more than 0");
    expect_refusal("parameters: {keep: {from: 0, to: 1, by: 1e-9}}", "more than 100000 values");
    expect_refusal("parameters: {gpus: {from: 8, to: 9}}", "want one of by, times and count");
    expect_refusal("parameters: {gpus: {from: 8, to: 9, by: 1, scale: log}}", "want one of");
    expect_refusal("parameters: {model: {from: 1, to: 2, by: 1}}", "model is no number");
    expect_refusal("parameters: {model: \"a\\nb\"}", "control characters");
    expect_refusal("parameters: {keep: {from: 1, to: 2, count: 2000}, resident: {from: 1 GB, to: "
                   "2 GB, count: 2000}}",
                   "more than 1000000 points");
    expect_refusal("parameters: {gpus: 8}\ncases: [{gpus: 9}]", "2:16: gpus stands under");
    expect_refusal("parameters: {gpus: 8}\ncases: [8]", "2:9: cases: want maps");
}

static void a_point_is_its_parameters_in_any_order(void)
{
    struct err e;
    const struct study *s = read_study("parameters: {model: m, gpus: 8}", &e),
                       *t = read_study("parameters: {gpus: 8, model: m}", &e),
                       *u = read_study("parameters: {gpus: 9, model: m}", &e);
    gsl_test(study_point_hash(s, 0, arena) != study_point_hash(t, 0, arena), "the same point");
    gsl_test(study_point_hash(s, 0, arena) == study_point_hash(u, 0, arena), "another point");
}

/* ---- rows ---- */

static const char *const columns[] = {"sum", "note", NULL};

struct trial {
    int solved, fail_after; /* 0: never */
};

/* gpus, and a text that CSV has to quote. */
static bool solve(void *data, const char *const *text, const char **cells, struct arena *a,
                  struct err *e)
{
    struct trial *t = data;
    int solved;
#pragma omp atomic capture
    solved = ++t->solved;
    if (t->fail_after > 0 && solved > t->fail_after)
        return err_set(e, ERR_SYSTEM, err_at_name("trial"), "ends here");
    cells[0] = arena_printf(a, "%s", text[0]);
    cells[1] = "a \"note\", quoted";
    return true;
}

static struct sweep sweep_of(const char *study, struct trial *t, int jobs)
{
    struct err e;
    return (struct sweep){.study = read_study(study, &e),
                          .columns = columns,
                          .head = "# test\n",
                          .data = t,
                          .solve = solve,
                          .jobs = jobs};
}

#define GRID "parameters: {gpus: {from: 1, to: 12, by: 1}, model: [a, b]}"

static char *read_all(const char *path, size_t *size)
{
    char *text = arena_alloc(arena, 1 << 16, 1);
    FILE *in = fopen(path, "rb");
    *size = in ? fread(text, 1, (1 << 16) - 1, in) : 0;
    if (in)
        fclose(in);
    return text;
}

static void write_all(const char *path, const char *text, size_t size)
{
    FILE *out = fopen(path, "wb");
    fwrite(text, 1, size, out);
    fclose(out);
}

static const char *const file = "study_test.csv";

static char *whole_file(size_t *size)
{
    struct trial t = {0};
    struct sweep s = sweep_of(GRID, &t, 1);
    struct err e = {0};
    int64_t already;
    unlink(file);
    gsl_test(!sweep_file(&s, file, false, &already, &e), "runs: %s", e.text);
    gsl_test_int(t.solved, 24, "12 x 2 points");
    return read_all(file, size);
}

/* A kill can leave any beginning of the file. */
static void a_file_cut_anywhere_comes_out_whole(void)
{
    size_t size, got;
    char *want = whole_file(&size);
    for (size_t cut = 0; cut <= size; cut += cut + 1 < size ? 1 + cut % 3 : 1) {
        struct trial t = {0};
        struct sweep s = sweep_of(GRID, &t, 1);
        struct err e = {0};
        int64_t already;
        write_all(file, want, cut);
        bool ok = sweep_file(&s, file, true, &already, &e);
        const char *have = read_all(file, &got);
        gsl_test(!ok || got != size || memcmp(have, want, size) != 0, "cut at %zu: %s", cut,
                 e.text);
        gsl_test_int(t.solved + (int)already, 24, "only what was missing is solved");
    }
}

static void threads_change_no_byte(void)
{
    size_t size, got;
    char *want = whole_file(&size);
    for (int jobs = 2; jobs <= 8; jobs *= 2) {
        struct trial t = {0};
        struct sweep s = sweep_of(GRID, &t, jobs);
        struct err e = {0};
        int64_t already;
        unlink(file);
        gsl_test(!sweep_file(&s, file, false, &already, &e), "runs: %s", e.text);
        const char *have = read_all(file, &got);
        gsl_test(got != size || memcmp(have, want, size) != 0, "%d threads", jobs);
    }
}

static void an_error_ends_it_and_keeps_the_rows_before(void)
{
    size_t size, got;
    char *want = whole_file(&size);
    for (int jobs = 1; jobs <= 4; jobs += 3) {
        struct trial t = {.fail_after = 10}, again = {0};
        struct sweep s = sweep_of(GRID, &t, jobs);
        struct err e = {0};
        int64_t already;
        unlink(file);
        gsl_test(sweep_file(&s, file, false, &already, &e), "ends");
        gsl_test(strcmp(e.text, "trial: ends here") != 0, "says why: %s", e.text);
        s = sweep_of(GRID, &again, jobs);
        e = (struct err){0};
        gsl_test(!sweep_file(&s, file, true, &already, &e), "goes on: %s", e.text);
        const char *have = read_all(file, &got);
        gsl_test(got != size || memcmp(have, want, size) != 0, "whole with %d threads", jobs);
    }
}

static void expect_file_refusal(const char *text, size_t size, bool resume, const char *message)
{
    struct trial t = {0};
    struct sweep s = sweep_of(GRID, &t, 1);
    struct err e = {0};
    int64_t already;
    size_t got;
    write_all(file, text, size);
    gsl_test(sweep_file(&s, file, resume, &already, &e), "refused: %s", message);
    gsl_test(!strstr(e.text, message) || e.code != ERR_INPUT, "'%s', want '%s'", e.text, message);
    const char *have = read_all(file, &got);
    gsl_test(got != size || memcmp(have, text, size) != 0, "and left as it was");
}

static void files_that_are_not_this_studys_are_refused(void)
{
    size_t size;
    char *want = whole_file(&size), *other = arena_alloc(arena, size + 100, 1);
    expect_file_refusal(want, size, false, "is there already; --resume");
    memcpy(other, want, size);
    other[20] ^= 1; /* in the first line: "# schema: shardwise-sweep/1" */
    expect_file_refusal(other, size, true, "study_test.csv:1: belongs to another study");
    memcpy(other, want, size);
    memcpy(strstr(other, "# test"), "# best", 6);
    expect_file_refusal(other, size, true, "study_test.csv:3: belongs to another study");
    memcpy(other, want, size);
    char *row = strstr(other, "note\n") + 5;
    memcpy(row, "0123456789abcdef", 16);
    expect_file_refusal(other, size, true, "csv:5:1: '0123456789abcdef' is no point");
    memcpy(other, want, size);
    size_t line = strcspn(row, "\n") + 1;
    memcpy(other + size, row, line);
    memcpy(other + size, strstr(want, "note\n") + 5, line);
    expect_file_refusal(other, size + line, true, "has two rows");
}

/* Rows that someone took out are made again, at the end. */
static void a_missing_row_is_made_again(void)
{
    size_t size, got;
    char *want = whole_file(&size);
    struct trial t = {0};
    struct sweep s = sweep_of(GRID, &t, 1);
    struct err e = {0};
    int64_t already;
    char *row = strstr(want, "note\n") + 5, *next = strchr(row, '\n') + 1;
    size_t gap = (size_t)(next - row), before = (size_t)(row - want);
    char *less = arena_alloc(arena, size, 1);
    memcpy(less, want, before);
    memcpy(less + before, next, size - before - gap);
    write_all(file, less, size - gap);
    gsl_test(!sweep_file(&s, file, true, &already, &e), "goes on: %s", e.text);
    gsl_test_int(t.solved, 1, "one point");
    const char *have = read_all(file, &got);
    gsl_test(got != size || memcmp(have + size - gap, row, gap) != 0, "at the end");
}

static void a_value_given_twice_is_refused(void)
{
    struct trial t = {0};
    struct sweep s = sweep_of("parameters: {gpus: [8, 16, 8]}", &t, 1);
    struct err e = {0};
    int64_t already;
    unlink(file);
    gsl_test(sweep_file(&s, file, false, &already, &e), "refused");
    gsl_test(!strstr(e.text, "points 1 and 3 have the same parameters"), "%s", e.text);
}

int main(void)
{
    arena = arena_new();
    const char *folder = folder_new(arena);
    gsl_test(chdir(folder) != 0, "a folder for the files");
    points_are_in_the_order_of_the_file();
    ranges_are_as_by_hand();
    what_is_no_study_is_refused_with_its_place();
    a_point_is_its_parameters_in_any_order();
    a_file_cut_anywhere_comes_out_whole();
    threads_change_no_byte();
    an_error_ends_it_and_keeps_the_rows_before();
    files_that_are_not_this_studys_are_refused();
    a_missing_row_is_made_again();
    a_value_given_twice_is_refused();
    unlink(file);
    gsl_test(chdir("/") != 0 || rmdir(folder) != 0, "leaves nothing behind");
    arena_free(arena);
    return gsl_test_summary();
}
