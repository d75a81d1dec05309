/* nccl-tests logs, line by line. A row is: size count type [redop] [root] time algbw busbw (error |
 * #wrong) [the same in place]. */
#include "validate/nccl_log.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 24, MOST_RUNS = 4096 };

struct word {
    const char *at;
    int length;
};

struct state {
    struct arena *a;
    struct nccl_log log;
    struct nccl_run *runs;
    int room;
    struct nccl_row *rows; /* of the run being read */
    int row_room;
    const char **hosts;
    int host_count, host_room;
    bool table; /* rows seen since the run began: what follows a table belongs to the next run */
    int line;
};

static const struct {
    const char *program;
    int op;
} programs[] = {
    {"all_reduce_perf", COLL_ALL_REDUCE},
    {"all_gather_perf", COLL_ALL_GATHER},
    {"reduce_scatter_perf", COLL_REDUCE_SCATTER},
    {"alltoall_perf", COLL_ALLTOALL},
    {"sendrecv_perf", COLL_SEND_RECV},
    {"alltoallv_perf", -1},
    {"broadcast_perf", -1},
    {"reduce_perf", -1},
    {"gather_perf", -1},
    {"scatter_perf", -1},
    {"hypercube_perf", -1},
};

static struct nccl_run *run(struct state *s)
{
    return &s->runs[s->log.runs - 1];
}

static void begin_run(struct state *s)
{
    if (s->log.runs == MOST_RUNS)
        return;
    if (s->log.runs == s->room) {
        int room = s->room ? 2 * s->room : 4;
        struct nccl_run *more = ARENA_ARRAY(s->a, struct nccl_run, room);
        if (s->log.runs)
            memcpy(more, s->runs, (size_t)s->log.runs * sizeof *more);
        s->runs = more;
        s->room = room;
    }
    s->runs[s->log.runs++] = (struct nccl_run){.op = -1, .program = "", .device = ""};
    s->rows = NULL;
    s->row_room = s->host_count = 0;
    s->table = false;
}

/* The run that a line of facts belongs to: after a table, a new one. */
static struct nccl_run *facts_run(struct state *s)
{
    if (!s->log.runs || s->table)
        begin_run(s);
    return run(s);
}

static int split(const char *line, int length, struct word *w)
{
    int n = 0;
    for (int i = 0; i < length && n < MOST_WORDS;) {
        while (i < length && isspace((unsigned char)line[i]))
            i++;
        int start = i;
        while (i < length && !isspace((unsigned char)line[i]))
            i++;
        if (i > start)
            w[n++] = (struct word){.at = line + start, .length = i - start};
    }
    return n;
}

static bool is(struct word w, const char *text)
{
    return (size_t)w.length == strlen(text) && !memcmp(w.at, text, (size_t)w.length);
}

static bool number(struct word w, double *out)
{
    char copy[40], *end;
    if (w.length < 1 || w.length >= (int)sizeof copy ||
        !(isdigit((unsigned char)w.at[0]) || w.at[0] == '-' || w.at[0] == '.'))
        return false;
    memcpy(copy, w.at, (size_t)w.length);
    copy[w.length] = 0;
    *out = strtod(copy, &end);
    return *end == 0 && isfinite(*out);
}

static bool whole(struct word w, double *out)
{
    for (int i = 0; i < w.length; i++)
        if (!isdigit((unsigned char)w.at[i]) && !(i == 0 && w.at[i] == '-'))
            return false;
    return number(w, out);
}

/* What launchers and log collectors put before a line: "[1,0]<stdout>:" of mpirun --tag-output, "0:
 * " of srun --label, "pod-0: " of kubectl --prefix, "[0] ", a time stamp, "> " of a quoted post. */
static bool is_label(struct word w)
{
    char first = w.at[0], last = w.at[w.length - 1];
    bool stamp =
        isdigit((unsigned char)first) && w.length >= 8 &&
        (memchr(w.at, ':', (size_t)w.length) || memchr(w.at + 1, '-', (size_t)w.length - 1));
    return last == ':' || (first == '[' && last == ']') || stamp ||
           (w.length == 1 && (first == '>' || first == '|'));
}

/* The length of mpirun's tag, which the line may follow without a blank; 0: none. */
static int tag(const char *line, int length)
{
    const char *end = length && line[0] == '[' ? memchr(line, '>', (size_t)length) : NULL;
    int n = end ? (int)(end - line) : 0;
    return n && n + 1 < length && line[n + 1] == ':' && memchr(line, '<', (size_t)n) ? n + 2 : 0;
}

static int prefix(const char *line, int length)
{
    enum { MOST_LABELS = 4 };
    int at = tag(line, length);
    for (int label = 0; label < MOST_LABELS; label++) {
        int i = at, start;
        while (i < length && isspace((unsigned char)line[i]))
            i++;
        for (start = i; i < length && !isspace((unsigned char)line[i]); i++)
            ;
        if (i == start || i == length || line[start] == '#' ||
            !is_label((struct word){.at = line + start, .length = i - start}))
            break;
        at = i;
    }
    return at;
}

/* The line without a terminal's colours ("\033[32m"): a copy in the arena when it has any. */
static const char *plain(const char *line, int *length, struct arena *a)
{
    if (!memchr(line, '\033', (size_t)*length))
        return line;
    char *copy = arena_alloc(a, (size_t)*length + 1, 1);
    int n = 0;
    for (int i = 0; i < *length; i++) {
        if (line[i] != '\033') {
            copy[n++] = line[i];
            continue;
        }
        while (i + 1 < *length && !isalpha((unsigned char)line[i]))
            i++;
    }
    *length = n;
    return copy;
}

static bool contains(const char *line, int length, const char *what)
{
    int n = (int)strlen(what);
    for (int i = 0; i + n <= length; i++)
        if (!memcmp(line + i, what, (size_t)n))
            return true;
    return false;
}

/* ---- facts ---- */

static bool program_line(struct state *s, const char *line, int length)
{
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        const char *p = programs[i].program;
        int n = (int)strlen(p);
        for (int k = 0; k + n <= length; k++)
            if (!memcmp(line + k, p, (size_t)n) &&
                (k == 0 || !(isalnum((unsigned char)line[k - 1]) || line[k - 1] == '_'))) {
                struct nccl_run *r = facts_run(s);
                r->program = p;
                r->op = programs[i].op;
                return true;
            }
    }
    return false;
}

static bool new_host(struct state *s, struct word host)
{
    for (int i = 0; i < s->host_count; i++)
        if (is(host, s->hosts[i]))
            return false;
    if (s->host_count == s->host_room) {
        int room = s->host_room ? 2 * s->host_room : 16;
        const char **more = ARENA_ARRAY(s->a, const char *, room);
        if (s->host_count)
            memcpy(more, s->hosts, (size_t)s->host_count * sizeof *more);
        s->hosts = more;
        s->host_room = room;
    }
    s->hosts[s->host_count++] = arena_strndup(s->a, host.at, (size_t)host.length);
    return true;
}

/* "#  Rank  0 Group  0 Pid  123 on   node1 device  0 [0x1b] NVIDIA H100 80GB HBM3" */
static void rank_line(struct state *s, const char *line, int length, const struct word *w, int n)
{
    struct nccl_run *r = facts_run(s);
    for (int i = 0; i + 1 < n; i++) {
        if (!is(w[i], "on"))
            continue;
        r->gpus++;
        r->nodes += new_host(s, w[i + 1]);
        if (i + 5 < n && is(w[i + 2], "device"))
            r->device = arena_strndup(s->a, w[i + 5].at, (size_t)(line + length - w[i + 5].at));
        return;
    }
}

static void comment(struct state *s, const char *line, int length)
{
    struct word w[MOST_WORDS];
    int n = split(line, length, w);
    if (contains(line, length, "nThread"))
        facts_run(s);
    else if (n > 2 && is(w[1], "Rank"))
        rank_line(s, line, length, w, n);
    else
        program_line(s, line, length);
}

/* ---- rows ---- */

static bool type_of(struct word w, enum coll_type *type)
{
    static const char *const known[] = {"int8",   "uint8",  "int32",    "uint32",  "int64",
                                        "uint64", "half",   "float",    "double",  "bfloat16",
                                        "f8e4m3", "f8e5m2", "fp8_e4m3", "fp8_e5m2"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (is(w, known[i])) {
            *type = i < 2 ? COLL_INT8 : COLL_HALF;
            return true;
        }
    return false;
}

/* The index of the time column, or -1: after type come redop (a word) and root (a whole number, -1
 * for none), either or neither. Root and time are told apart by what is left: a row ends in 4 or 8
 * fields from time on. */
static int time_at(const struct word *w, int n)
{
    int at = 3;
    if (at < n && isalpha((unsigned char)w[at].at[0]))
        at++;
    double root;
    if (at < n && (n - at == 5 || n - at == 9) && whole(w[at], &root))
        at++;
    return n - at == 4 || n - at == 8 ? at : -1;
}

/* size / time must be algbw; both are printed with two or more decimals. */
static bool agrees(double bytes, double us, double algbw)
{
    double expect = bytes / us * 1e-3;
    return fabs(expect - algbw) <= 0.03 * expect + 0.02;
}

static void row_add(struct state *s, struct nccl_row row)
{
    struct nccl_run *r = run(s);
    if (r->rows == s->row_room) {
        s->row_room = s->row_room ? 2 * s->row_room : 32;
        struct nccl_row *more = ARENA_ARRAY(s->a, struct nccl_row, s->row_room);
        if (r->rows)
            memcpy(more, s->rows, (size_t)r->rows * sizeof *more);
        s->rows = more;
        r->row = more;
    }
    s->rows[r->rows++] = row;
    s->table = true;
}

static void data_line(struct state *s, const char *line, int length)
{
    struct word w[MOST_WORDS];
    struct nccl_row row = {.line = s->line};
    double count, us, algbw, busbw, bad = 0;
    int n = split(line, length, w), at;
    if (n < 3 || !whole(w[0], &row.bytes) || !whole(w[1], &count) || !type_of(w[2], &row.type)) {
        s->log.broken += n >= 3 && whole(w[0], &row.bytes) && whole(w[1], &count);
        return;
    }
    at = time_at(w, n);
    if (at < 0 || !number(w[at], &us) || !number(w[at + 1], &algbw) || !number(w[at + 2], &busbw) ||
        us < 0 || row.bytes < 0 || (row.bytes > 0 && (us == 0 || !agrees(row.bytes, us, algbw)))) {
        s->log.broken++;
        return;
    }
    if (row.bytes == 0 || us == 0) /* a size smaller than the ranks' share: nothing was sent */
        return;
    if (number(w[at + 3], &bad) && bad > 1e-2) {
        s->log.wrong++;
        return;
    }
    if (!s->log.runs)
        begin_run(s);
    row.time_s = us * 1e-6;
    row_add(s, row);
}

static void one_line(struct state *s, const char *line, int length)
{
    line = plain(line, &length, s->a);
    int skip = prefix(line, length);
    line += skip;
    length -= skip;
    while (length > 0 && isspace((unsigned char)*line)) {
        line++;
        length--;
    }
    if (length < 1)
        return;
    if (contains(line, length, "NCCL WARN"))
        s->log.warnings++;
    if (*line == '#')
        comment(s, line, length);
    else if (isdigit((unsigned char)*line))
        data_line(s, line, length);
    else
        program_line(s, line, length);
}

bool nccl_log_parse(const char *name, const char *text, size_t length, struct arena *a,
                    struct nccl_log *out, struct err *e)
{
    struct state s = {.a = a};
    if (length > NCCL_LOG_LIMIT)
        return err_set(e, ERR_INPUT, err_at_name(name), "more than %d MiB of log",
                       NCCL_LOG_LIMIT >> 20);
    for (size_t i = 0; i < length;) {
        const char *end = memchr(text + i, '\n', length - i);
        size_t n = end ? (size_t)(end - text) - i : length - i;
        s.line++;
        one_line(&s, text + i, (int)n);
        i += n + 1;
    }
    int rows = 0;
    for (int i = 0; i < s.log.runs; i++)
        rows += s.runs[i].rows;
    if (!rows)
        return err_set(e, ERR_INPUT, err_at_name(name),
                       "no row of an nccl-tests table (size count type [redop] [root] time algbw "
                       "busbw ...), and the "
                       "first line is no header of a CSV table or of shardwise-run's rows%s",
                       s.log.broken ? "; lines that look like rows are cut or contradict themselves"
                                    : "");
    s.log.run = s.runs;
    *out = s.log;
    return true;
}

bool nccl_log_read(const char *path, struct arena *a, struct nccl_log *out, struct err *e)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_open(e, err_at_name(path));
    size_t room = 1 << 16, n = 0, got;
    char *text = arena_alloc(a, room, 1);
    while ((got = fread(text + n, 1, room - n, f)) > 0) {
        n += got;
        if (n > NCCL_LOG_LIMIT)
            break; /* parse refuses it */
        if (n == room) {
            char *more = arena_alloc(a, 2 * room, 1);
            memcpy(more, text, n);
            text = more;
            room *= 2;
        }
    }
    bool bad = ferror(f);
    fclose(f);
    if (bad)
        return err_set(e, ERR_SYSTEM, err_at_name(path), "cannot read");
    return nccl_log_parse(path, text, n, a, out, e);
}

/* ---- points ---- */

static int op_of(const char *name)
{
    for (int i = 0; coll_op_names[i]; i++)
        if (!strcmp(coll_op_names[i], name))
            return i;
    return -1;
}

/* The operation that a file is named after, when its log does not say: "alltoall_h100.txt". */
static int op_of_file(const char *path)
{
    static const struct {
        const char *word;
        int op;
    } words[] = {{"all_reduce", COLL_ALL_REDUCE},
                 {"allreduce", COLL_ALL_REDUCE},
                 {"all_gather", COLL_ALL_GATHER},
                 {"allgather", COLL_ALL_GATHER},
                 {"reduce_scatter", COLL_REDUCE_SCATTER},
                 {"reducescatter", COLL_REDUCE_SCATTER},
                 {"alltoallv", -1},
                 {"alltoall", COLL_ALLTOALL},
                 {"all_to_all", COLL_ALLTOALL},
                 {"sendrecv", COLL_SEND_RECV}};
    const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(file, words[i].word))
            return words[i].op;
    return -1;
}

static bool run_points(const char *name, const struct nccl_run *r, const struct nccl_facts *f,
                       const char *gpu, struct points *out, struct err *e)
{
    int op = f->op ? op_of(f->op) : r->op, gpus = f->gpus ? f->gpus : r->gpus,
        nodes = f->nodes   ? f->nodes
                : r->nodes ? r->nodes
                           : 1;
    if (op < 0 && *r->program)
        return true;
    if (op < 0)
        op = op_of_file(name);
    if (op < 0)
        return err_set(e, ERR_INPUT, err_at_name(name),
                       "neither the log nor the file's name says the program; say --op all_reduce, "
                       "all_gather, "
                       "reduce_scatter, alltoall or send_recv");
    if (gpus < 2 || gpus % nodes)
        return err_set(e, ERR_INPUT, err_at_name(name),
                       "%d GPUs on %d nodes in the list of ranks; say --gpus and --nodes", gpus,
                       nodes);
    if (nodes > 1 && !(f->nic_bytes_per_s > 0))
        return err_set(e, ERR_INPUT, err_at_name(name),
                       "%d nodes: say the network's rate per GPU, --nic 400Gb/s", nodes);
    bool reduces = op == COLL_ALL_REDUCE || op == COLL_REDUCE_SCATTER;
    for (int i = 0; i < r->rows; i++)
        out->point[out->count++] =
            (struct point){.kind = POINT_COLLECTIVE,
                           .gpu = gpu,
                           .role = "",
                           .kernel = "",
                           .source = name,
                           .line = r->row[i].line,
                           .time_s = r->row[i].time_s,
                           .coll = {.op = (enum coll_op)op,
                                    .type = reduces ? r->row[i].type : COLL_ANY,
                                    .bytes = r->row[i].bytes,
                                    .gpus = gpus,
                                    .nodes = nodes,
                                    .nic_bytes_per_s = f->nic_bytes_per_s}};
    return true;
}

bool nccl_points(const char *name, const struct nccl_log *log, const struct nccl_facts *facts,
                 const char *gpu, struct arena *a, struct points *out, struct err *e)
{
    int rows = 0;
    for (int i = 0; i < log->runs; i++)
        rows += log->run[i].rows;
    struct points p = {
        .path = name, .kind = POINT_COLLECTIVE, .point = ARENA_ARRAY(a, struct point, rows + 1)};
    for (int i = 0; i < log->runs; i++)
        if (!run_points(name, &log->run[i], facts, gpu, &p, e))
            return false;
    *out = p;
    return true;
}
