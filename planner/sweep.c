#define _GNU_SOURCE
#include "planner/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/csv.h"
#include "base/prov.h"

#define SWEEP_SCHEMA "shardwise-sweep/1"

struct point {
    uint64_t hash;
    int64_t index;
};

struct run {
    const struct sweep *s;
    const char *name; /* of the output, for messages */
    FILE *out;
    struct point *points; /* [study points] by hash */
    bool *have;           /* [study points] rows that the file has */
    int64_t rows;
    int columns;
    struct arena *a;
    struct err *e;
};

/* ---- identities ---- */

static int by_hash(const void *a, const void *b)
{
    const struct point *x = a, *y = b;
    return x->hash != y->hash ? (x->hash < y->hash ? -1 : 1)
                              : (x->index > y->index) - (x->index < y->index);
}

/* Twice the same parameters would be one row for two points. */
static bool hash_points(struct run *r)
{
    const struct study *s = r->s->study;
    struct arena *scratch = arena_new();
    r->points = ARENA_ARRAY(r->a, struct point, s->points);
    for (int64_t i = 0; i < s->points; i++) {
        arena_reset(scratch);
        r->points[i] = (struct point){study_point_hash(s, i, scratch), i};
    }
    arena_free(scratch);
    qsort(r->points, (size_t)s->points, sizeof *r->points, by_hash);
    for (int64_t i = 1; i < s->points; i++)
        if (r->points[i].hash == r->points[i - 1].hash)
            return err_set(r->e, ERR_INPUT, err_at_name(s->path),
                           "points %" PRId64 " and %" PRId64
                           " have the same parameters: a value is given twice",
                           r->points[i - 1].index + 1, r->points[i].index + 1);
    return true;
}

/* NULL when the study has no such point. */
static const struct point *find_point(const struct run *r, uint64_t hash)
{
    int64_t low = 0, high = r->s->study->points;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (r->points[middle].hash == hash)
            return &r->points[middle];
        if (r->points[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* ---- writing ---- */

/* All before the rows. The hash covers parameters and columns. */
static const char *header(const struct run *r)
{
    const struct study *s = r->s->study;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    uint64_t hash = FNV_START;
    for (int64_t i = 0; i < s->points; i++)
        hash = fnv_bytes(hash, &r->points[i].hash, sizeof r->points[i].hash);
    fprintf(out,
            "# schema: " SWEEP_SCHEMA "\n# study: %s, %" PRId64 " points, fnv1a64=%016" PRIx64
            "\n%spoint",
            s->name, s->points, hash, r->s->head);
    for (int i = 0; i < s->params; i++)
        fprintf(out, ",%s", s->param[i]);
    for (int i = 0; i < r->columns; i++)
        fprintf(out, ",%s", r->s->columns[i]);
    fputc('\n', out);
    fclose(out);
    const char *copy = arena_strndup(r->a, text, size);
    free(text);
    return copy;
}

static bool write_failed(const struct run *r)
{
    return err_set(r->e, ERR_SYSTEM, err_at_name(r->name), "cannot be written: %s",
                   strerror(errno));
}

static bool put_row(struct run *r, uint64_t hash, const char *const *param_text,
                    const char *const *cells)
{
    fprintf(r->out, "%016" PRIx64, hash);
    for (int i = 0; i < r->s->study->params; i++) {
        fputc(',', r->out);
        csv_put(param_text[i] ? param_text[i] : "", r->out);
    }
    for (int i = 0; i < r->columns; i++) {
        fputc(',', r->out);
        csv_put(cells[i] ? cells[i] : "", r->out);
    }
    fputc('\n', r->out);
    if (fflush(r->out) != 0)
        return write_failed(r);
    r->rows++;
    if (r->s->done)
        r->s->done(r->s->data, r->rows, r->s->study->points);
    return true;
}

/* ---- solving ---- */

/* Any thread, any order; rows leave in the order of the points. */
static bool solve_one(struct run *r, int64_t point, struct arena *a, const char **param_text,
                      const char **cells, struct err *e)
{
    study_point(r->s->study, point, param_text);
    for (int i = 0; i < r->columns; i++)
        cells[i] = NULL;
    return r->s->solve(r->s->data, param_text, cells, a, e);
}

static bool solve_all(struct run *r)
{
    int64_t points = r->s->study->points;
    bool stop = false; /* read and written in the ordered region only */
#pragma omp parallel for ordered schedule(dynamic, 1) num_threads(r->s->jobs)
    for (int64_t i = 0; i < points; i++) {
        if (r->have[i])
            continue;
        struct arena *a = arena_new();
        const char **param_text = ARENA_ARRAY(a, const char *, r->s->study->params),
                   **cells = ARENA_ARRAY(a, const char *, r->columns);
        struct err e = {0};
        bool halted, ok;
#pragma omp atomic read
        halted = stop;
        ok = halted || solve_one(r, i, a, param_text, cells, &e);
#pragma omp ordered
        if (!stop && !halted) {
            uint64_t hash = study_point_hash(r->s->study, i, a);
            if (!ok)
                *r->e = e;
            if (!ok || !put_row(r, hash, param_text, cells))
#pragma omp atomic write
                stop = true;
        }
        arena_free(a);
    }
    return !stop;
}

static bool run_new(struct run *r, const struct sweep *s, const char *name, struct err *e)
{
    *r = (struct run){.s = s, .name = name, .a = arena_new(), .e = e};
    while (s->columns[r->columns])
        r->columns++;
    r->have = ARENA_ARRAY(r->a, bool, s->study->points);
    return hash_points(r);
}

bool sweep_stream(const struct sweep *s, const char *name, FILE *out, struct err *e)
{
    struct run r;
    bool ok = run_new(&r, s, name, e);
    r.out = out;
    if (ok)
        ok = (fputs(header(&r), out) >= 0 || write_failed(&r)) && solve_all(&r);
    arena_free(r.a);
    return ok;
}

/* ---- a file that is there already ---- */

static bool slurp(struct run *r, char **text, size_t *size)
{
    char buffer[1 << 16];
    FILE *copy = open_memstream(text, size);
    size_t n;
    rewind(r->out);
    while ((n = fread(buffer, 1, sizeof buffer, r->out)) > 0 &&
           (size_t)ftell(copy) <= CSV_FILE_LIMIT)
        fwrite(buffer, 1, n, copy);
    bool ok = !ferror(r->out);
    fclose(copy);
    if (!ok)
        return err_set(r->e, ERR_SYSTEM, err_at_name(r->name), "cannot be read: %s",
                       strerror(errno));
    return *size <= CSV_FILE_LIMIT || err_set(r->e, ERR_INPUT, err_at_name(r->name),
                                              "is over %d MiB, want less", CSV_FILE_LIMIT >> 20);
}

/* Names the first line that is not as this study would write it. */
static bool other_study(const struct run *r, const char *text, const char *want)
{
    size_t at = 0;
    int line = 1;
    for (size_t i = 0; text[i] && text[i] == want[i]; i++)
        if (text[i] == '\n') {
            at = i + 1;
            line++;
        }
    int have = (int)strcspn(text + at, "\n"), need = (int)strcspn(want + at, "\n");
    return err_set(r->e, ERR_INPUT, (struct err_at){r->name, line, 0},
                   "belongs to another study, version or input: '%.*s'; here it is '%.*s'; name "
                   "another file with -o",
                   have < 200 ? have : 200, text + at, need < 200 ? need : 200, want + at);
}

static bool take_row(struct run *r, const struct csv *c, int row)
{
    const char *cell = csv_cell(c, row, 0);
    struct err_at at = {r->name, c->line[row], 1};
    bool sixteen = strlen(cell) == 16 && strspn(cell, "0123456789abcdef") == 16;
    const struct point *p = sixteen ? find_point(r, strtoull(cell, NULL, 16)) : NULL;
    if (!p)
        return err_set(r->e, ERR_INPUT, at, "'%.40s' is no point of this study", cell);
    if (r->have[p->index])
        return err_set(r->e, ERR_INPUT, at, "point %s has two rows", cell);
    r->have[p->index] = true;
    r->rows++;
    return true;
}

/* Whole lines only; `*keep` is where they end. */
static bool take_rows(struct run *r, const char *text, size_t size, const char *head, size_t *keep)
{
    struct csv c;
    size_t head_size = strlen(head);
    bool same = strncmp(text, head, size < head_size ? size : head_size) == 0;
    if (!same || memchr(text, 0, size))
        return other_study(r, text, head);
    *keep = 0;
    if (size < head_size) /* killed before its first row */
        return true;
    while (size > 0 && text[size - 1] != '\n')
        size--;
    *keep = size;
    if (!csv_parse(r->name, text, size, r->a, &c, r->e))
        return false;
    for (int row = 0; row < c.rows; row++)
        if (!take_row(r, &c, row))
            return false;
    return true;
}

static bool resume_from(struct run *r, const char *head, size_t *keep)
{
    char *text = NULL;
    size_t size = 0;
    bool ok = slurp(r, &text, &size) && take_rows(r, text, size, head, keep);
    free(text);
    return ok;
}

/* ---- files ---- */

static bool open_rows(struct run *r, bool resume)
{
    int fd = open(r->name, O_RDWR | O_CREAT | O_CLOEXEC | (resume ? 0 : O_EXCL), 0666);
    if (fd < 0 && errno == EEXIST)
        return err_set(r->e, ERR_INPUT, err_at_name(r->name),
                       "is there already; --resume goes on with it, -o names another file");
    if (fd < 0)
        return err_set(r->e, ERR_SYSTEM, err_at_name(r->name), "cannot be opened: %s",
                       strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(fd);
        return err_set(r->e, ERR_SYSTEM, err_at_name(r->name), "another sweep is writing it");
    }
    r->out = fdopen(fd, "r+");
    return true;
}

/* The file as it was up to `keep`, then the header if it has none. */
static bool go_on(struct run *r, const char *head, size_t keep)
{
    if (fseeko(r->out, (off_t)keep, SEEK_SET) != 0 || ftruncate(fileno(r->out), (off_t)keep) != 0)
        return write_failed(r);
    if (keep == 0 && (fputs(head, r->out) < 0 || fflush(r->out) != 0))
        return write_failed(r);
    return true;
}

bool sweep_file(const struct sweep *s, const char *path, bool resume, int64_t *already,
                struct err *e)
{
    struct run r;
    size_t keep = 0;
    bool ok = run_new(&r, s, path, e) && open_rows(&r, resume);
    if (ok) {
        const char *head = header(&r);
        ok = (!resume || resume_from(&r, head, &keep));
        *already = r.rows;
        ok = ok && go_on(&r, head, keep) && solve_all(&r);
    }
    if (r.out && fclose(r.out) != 0 && ok)
        ok = write_failed(&r);
    arena_free(r.a);
    return ok;
}
