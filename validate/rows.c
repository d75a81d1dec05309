#include "validate/rows.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/program.h"

const char *const rows_pass_names[] = {"forward", "recompute", "backward"};
static const char *const class_names[] = {
    "attention-dense", "attention-sparse", "select", "gemm", "copy", "collective", "p2p", "fsdp"};
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

enum { FILE_ROWS_MOST = 10000000 };

static bool read_lines(FILE *f, const char *path, struct arena *a, struct run_result *r,
                       uint64_t *signature, int *ranks, struct err *e)
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
            schema = schema || strncmp(line, "# schema: " ROWS_SCHEMA,
                                       sizeof "# schema: " ROWS_SCHEMA - 1) == 0;
            sscanf(line, "# plan signature: %" SCNx64, signature);
            sscanf(line, "# ranks: %d", ranks);
            continue;
        }
        if (!header) {
            header = strncmp(line, rows_columns, sizeof rows_columns - 1) == 0;
            if (!schema || !header)
                return err_set(e, ERR_INPUT, at, "not a file of shardwise-run (%s)", ROWS_SCHEMA);
            continue;
        }
        if (r->row_count == room) {
            room = room ? 2 * room : 256;
            if (room > FILE_ROWS_MOST)
                return err_set(e, ERR_INPUT, at, "more than %d rows", FILE_ROWS_MOST);
            struct run_row *bigger = ARENA_ARRAY(a, struct run_row, room);
            if (rows)
                memcpy(bigger, rows, (size_t)r->row_count * sizeof *rows);
            rows = bigger;
        }
        if (!read_row(line, &rows[r->row_count], at, e))
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

bool rows_read(const char *path, struct arena *a, struct run_result *r, uint64_t *signature,
               int *ranks, struct err *e)
{
    *r = (struct run_result){0};
    *signature = 0, *ranks = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return err_set(e, ERR_SYSTEM, err_at_name(path), "%s", strerror(errno));
    bool ok = read_lines(f, path, a, r, signature, ranks, e) && check_repeats(r, path, e);
    fclose(f);
    return ok;
}
