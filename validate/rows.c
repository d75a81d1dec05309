#include "validate/rows.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/program.h"

const char *const rows_pass_names[] = {"forward", "recompute", "backward"};
static const char *const class_names[] = {
    "attention-dense", "attention-sparse", "select", "gemm", "copy", "collective", "p2p", "fsdp",
    "pointwise"};
const char rows_columns[] =
    "block\trepeat\trank\tpass\tphase\tclass\tseconds\twait_s\tsent_bytes\treceived_bytes\twork";

void rows_write(FILE *out, const struct run_row *r)
{
    fprintf(out, "%d\t%d\t%d\t%s\t%s\t%s\t%.9g\t%.9g\t%.0f\t%.0f\t%.0f\n", r->block, r->repeat,
            r->rank, rows_pass_names[r->pass], r->phase, class_names[r->cost], r->seconds,
            r->wait_s, r->sent, r->received, r->work);
}

static int index_of(const char *const *names, int count, const char *text)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    return -1;
}

enum { FIELDS = 11 };

static int split(char *line, char **field)
{
    int n = 0;
    line[strcspn(line, "\r\n")] = 0;
    for (char *next = line; next && n <= FIELDS; n++) {
        if (n == FIELDS)
            return n + 1;
        field[n] = next;
        next = strchr(next, '\t');
        if (next)
            *next++ = 0;
    }
    return n;
}

static bool number(const char *text, double *x)
{
    char *end;
    *x = strtod(text, &end);
    return *text && !*end && *x >= 0 && *x < 1e300;
}

static bool read_row(char *line, struct run_row *row, struct err_at at, struct err *e)
{
    char *f[FIELDS];
    double v[FIELDS];
    if (split(line, f) != FIELDS)
        return err_set(e, ERR_INPUT, at, "want %d columns between tabs: %s", FIELDS, rows_columns);
    for (int i = 0; i < FIELDS; i++)
        if ((i < 3 || i > 5) && !number(f[i], &v[i]))
            return err_set(e, ERR_INPUT, at, "column %d: '%s', want a number", i + 1, f[i]);
    int pass = index_of(rows_pass_names, PASSES, f[3]),
        cost = index_of(class_names, COST_CLASSES, f[5]);
    if (pass < 0 || cost < 0)
        return err_set(e, ERR_INPUT, at, "'%s': want a %s of this program's",
                       pass < 0 ? f[3] : f[5], pass < 0 ? "pass" : "class");
    if (strlen(f[4]) >= sizeof row->phase || v[0] > 4096 || v[1] > 1e9 || v[2] > 1 << 20)
        return err_set(e, ERR_INPUT, at, "block, repeat, rank or phase is out of range");
    *row = (struct run_row){(int)v[0], (int)v[1], (int)v[2], pass, cost, "",
                            v[6],      v[7],      v[8],      v[9], v[10]};
    snprintf(row->phase, sizeof row->phase, "%s", f[4]);
    return true;
}

/* ---- what stands before the rows ---- */

static bool is_schema(const char *line)
{
    static const char schema[] = "# schema: " ROWS_SCHEMA;
    return strncmp(line, schema, sizeof schema - 1) == 0;
}

/* "# input: NAME fnv1a64=HASH": the name of the first is the plan's. */
static const char *input_name(const char *line, struct arena *a)
{
    static const char input[] = "# input: ";
    if (strncmp(line, input, sizeof input - 1) != 0)
        return NULL;
    const char *name = line + sizeof input - 1, *end = strstr(name, " fnv1a64=");
    return arena_strndup(a, name, end ? (size_t)(end - name) : strcspn(name, "\r\n"));
}

static void read_head(const char *line, struct rows_head *h, bool *schema, struct arena *a)
{
    *schema = *schema || is_schema(line);
    h->plan = h->plan ? h->plan : input_name(line, a);
    sscanf(line, "# plan signature: %" SCNx64, &h->signature);
    sscanf(line, "# ranks: %d", &h->ranks);
    h->cpu_clock = h->cpu_clock || strncmp(line, ROWS_CLOCK "cpu", sizeof ROWS_CLOCK + 2) == 0;
    sscanf(line, ROWS_PLACE, &h->cores, &h->ranks_here, &h->threads);
}

bool rows_take_turns(const struct rows_head *h)
{
    return !h->cpu_clock && h->cores > 0 && (double)h->ranks_here * h->threads > h->cores;
}

bool rows_is_file(const char *path)
{
    char line[1024];
    bool schema = false;
    FILE *f = fopen(path, "r");
    while (f && !schema && fgets(line, sizeof line, f) && line[0] == '#')
        schema = is_schema(line);
    if (f)
        fclose(f);
    return schema;
}

/* ---- the file ---- */

enum { FILE_ROWS_MOST = 10000000 };

/* Room for one more. */
static bool grow(struct run_row **rows, int count, int *room, struct arena *a, struct err_at at,
                 struct err *e)
{
    if (count < *room)
        return true;
    int more = *room ? 2 * *room : 256;
    if (more > FILE_ROWS_MOST)
        return err_set(e, ERR_INPUT, at, "more than %d rows", FILE_ROWS_MOST);
    struct run_row *bigger = ARENA_ARRAY(a, struct run_row, more);
    if (*rows)
        memcpy(bigger, *rows, (size_t)count * sizeof **rows);
    *rows = bigger, *room = more;
    return true;
}

static bool read_lines(FILE *f, const char *path, struct arena *a, struct run_result *r,
                       struct rows_head *head, struct err *e)
{
    char line[1024];
    int room = 0;
    bool schema = false, header = false;
    struct run_row *rows = NULL;
    for (int n = 1; fgets(line, sizeof line, f); n++) {
        struct err_at at = {path, n, 0};
        if (!strchr(line, '\n')) /* a killed run's last line may be cut */
            break;
        if (line[0] == '#') {
            read_head(line, head, &schema, a);
            continue;
        }
        if (!header) {
            header = strncmp(line, rows_columns, sizeof rows_columns - 1) == 0;
            if (!schema || !header)
                return err_set(e, ERR_INPUT, at, "not a file of shardwise-run (%s)", ROWS_SCHEMA);
            continue;
        }
        if (!grow(&rows, r->row_count, &room, a, at, e) ||
            !read_row(line, &rows[r->row_count], at, e))
            return false;
        r->row_count++;
    }
    r->rows = rows;
    return header || err_set(e, ERR_INPUT, err_at_name(path),
                             "no rows: not a file of shardwise-run (%s)", ROWS_SCHEMA);
}

/* Repeats are numbered as they come, so none has a number beyond that of the rows. */
static bool check_repeats(const struct run_result *r, const char *path, struct err *e)
{
    for (int i = 0; i < r->row_count; i++)
        if (r->rows[i].repeat >= r->row_count)
            return err_set(e, ERR_INPUT, err_at_name(path), "repeat %d in a file of %d rows",
                           r->rows[i].repeat, r->row_count);
    return true;
}

bool rows_read(const char *path, struct arena *a, struct run_result *r, struct rows_head *head,
               struct err *e)
{
    *r = (struct run_result){0};
    *head = (struct rows_head){0};
    FILE *f = fopen(path, "r");
    if (!f)
        return err_open(e, err_at_name(path));
    bool ok = read_lines(f, path, a, r, head, e) && check_repeats(r, path, e);
    fclose(f);
    return ok;
}
