/* Trace files: what is written is read, bytes do not depend on threads, a kill loses one record, bad files are named. */
#include "traces/trace.h"

#include <gsl/gsl_test.h>
#include <hdf5.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "traces/generate.h"

/* libhdf5 itself loses some memory when it finds a damaged file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

static char folder[] = "/tmp/shardwise-trace-XXXXXX";
static char path_a[64], path_b[64];

static struct generate_job small_job(int level)
{
    struct generate_job j = generate_default();
    struct err e = {0};
    j.grid = (struct grid){8, 7, 10};
    j.group[0] = j.group[1] = j.group[2] = 2;
    j.block[0] = j.block[1] = j.block[2] = 2;
    j.layers = 2;
    j.heads = 3;
    j.steps = 2;
    j.level = level;
    gsl_test(!generate_patterns("dsv+window:t=3,h=3,w=3", (struct err_at){"test", 0, 0}, &j, &e),
             "%s", e.text);
    return j;
}

static bool made(const struct generate_job *j, const char *path)
{
    struct err e = {0};
    bool ok = generate_trace(j, path, &e);
    gsl_test(!ok, "generate: %s", e.text);
    return ok;
}

static bool same_bytes(const char *left, const char *right)
{
    FILE *l = fopen(left, "rb"), *r = fopen(right, "rb");
    bool same = l && r;
    for (int c = 0, d = 0; same && (c != EOF || d != EOF);) {
        c = getc(l);
        d = getc(r);
        same = c == d;
    }
    if (l)
        fclose(l);
    if (r)
        fclose(r);
    return same;
}

static void what_is_written_is_read(void)
{
    struct generate_job j = small_job(2);
    struct err e = {0};
    if (!made(&j, path_a))
        return;
    struct trace_reader *r = trace_open(path_a, &e);
    gsl_test(!r, "%s", e.text);
    gsl_test_int(trace_records(r), 4, "2 steps x 2 layers");
    gsl_test(trace_unclosed(r), "closed");
    struct arena *a = arena_new();
    for (int i = 0; i < 4; i++)
        for (int h = 0; h < 3; h++) {
            struct trace_record rec;
            struct mask got, want;
            struct atom_rows rows, rows_want;
            gsl_test(!trace_read_record(r, i, &rec, &e) || !trace_read_mask(r, i, h, a, &got, &e) ||
                         !trace_read_atoms(r, i, h, a, &rows, &e),
                     "%s", e.text);
            const struct tiling *t = trace_tiling_of(r);
            generate_mask(&j, t, rec.layer, h, rec.step, a, &want);
            gsl_test(memcmp(got.bits, want.bits, (size_t)want.groups * want.words * 8) != 0,
                     "bitmap %d,%d", i, h);
            struct weigh w = weigh_make(&t->block, a);
            stats_atoms(t, &w, &want, trace_atoms_of(r), a, &rows_want);
            gsl_test(memcmp(rows.work, rows_want.work, (size_t)rows.atoms * 8) != 0, "work %d,%d",
                     i, h);
            gsl_test(memcmp(rows.unions, rows_want.unions, (size_t)rows.atoms * rows.words * 8) !=
                         0,
                     "union %d,%d", i, h);
        }
    arena_free(a);
    trace_close(r);
    gsl_test(!trace_check(path_a, &e), "the checker agrees: %s", e.text);
}

static void any_number_of_threads_gives_the_same_bytes(void)
{
    struct generate_job j = small_job(2);
#ifdef _OPENMP
    omp_set_num_threads(1);
    made(&j, path_a);
    omp_set_num_threads(5);
#endif
    made(&j, path_b);
    gsl_test(!same_bytes(path_a, path_b), "1 and 5 threads");
    made(&j, path_a);
    gsl_test(!same_bytes(path_a, path_b), "the same again");
}

/* A writer that commits three records and is killed in the middle of the fourth. */
static void write_and_die(const char *path)
{
    struct generate_job j = small_job(1);
    struct arena *a = arena_new();
    struct err e = {0};
    struct tiling t;
    struct atoms atoms;
    struct trace_info info = trace_info_default();
    tiling_make(j.grid, j.group, j.block, a, &t, &e);
    atoms_make(&t, a, &atoms);
    const int grid[3] = {8, 7, 10};
    for (int i = 0; i < 3; i++) {
        info.grid[i] = grid[i];
        info.query_group[i] = info.kv_block[i] = 2;
        info.atom_grid[i] = atoms.axis[i];
    }
    info.atoms = atoms.count;
    info.heads = 3;
    info.layers = 2;
    info.level = 1;
    struct trace_writer *w = trace_create(path, &info, &e);
    struct weigh weigh = weigh_make(&t.block, a);
    for (int record = 0; w && record < 4; record++)
        for (int h = 0; h < 3; h++) {
            struct mask m;
            struct atom_rows rows;
            struct head_stats s;
            generate_mask(&j, &t, record % 2, h, record / 2, a, &m);
            stats_atoms(&t, &weigh, &m, &atoms, a, &rows);
            stats_head(&t, &weigh, &m, a, &s);
            if (record == 3 && h == 1)
                kill(getpid(), SIGKILL);
            struct trace_record rec = {.step = record / 2, .layer = record % 2, .level = 1};
            if (!trace_put_head(w, h, s.keep, s.keep_q, &rows, NULL, &e) ||
                (h == 2 && !trace_commit(w, &rec, &e)))
                _exit(1);
        }
    _exit(2);
}

static void what_was_committed_survives_a_kill(void)
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        write_and_die(path_a);
    waitpid(child, &status, 0);
    gsl_test(!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL,
             "the writer was killed (status %d)", status);
    struct err e = {0};
    struct trace_reader *r = trace_open(path_a, &e);
    gsl_test(!r, "it opens: %s", e.text);
    if (r) {
        gsl_test_int(trace_records(r), 3, "three records were committed");
        gsl_test(!trace_unclosed(r), "and its writer is known to be gone");
        trace_close(r);
    }
    gsl_test(!trace_check(path_a, &e), "and they are whole: %s", e.text);
}

/* Damages a good file through HDF5 itself. */
static hid_t reopen(void)
{
    struct generate_job j = small_job(2);
    made(&j, path_a);
    return H5Fopen(path_a, H5F_ACC_RDWR, H5P_DEFAULT);
}

static void poke(hid_t file, const char *set, const hsize_t start[4], hid_t type, const void *value)
{
    hid_t d = H5Dopen2(file, set, H5P_DEFAULT), space = H5Dget_space(d);
    hsize_t one[4] = {1, 1, 1, 1};
    hid_t memory = H5Screate_simple(H5Sget_simple_extent_ndims(space), one, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, one, NULL);
    gsl_test(H5Dwrite(d, type, memory, space, H5P_DEFAULT, value) < 0, "poke %s", set);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(d);
}

static void refused(const char *says, const char *what)
{
    struct err e = {0};
    gsl_test(trace_check(path_a, &e), "%s is refused", what);
    gsl_test(e.code != ERR_INPUT || !strstr(e.text, says), "%s: %s", what, e.text);
}

static void the_checker_names_what_is_wrong_and_where(void)
{
    double nan_value = NAN, low = 0.99;
    unsigned char byte = 0xff;
    unsigned long long huge = 1ull << 60;
    hid_t f = reopen();
    poke(f, "/keep", (hsize_t[4]){2, 1}, H5T_NATIVE_DOUBLE, &nan_value);
    H5Fclose(f);
    refused("/keep[2,1]: nan", "NaN");
    f = reopen();
    poke(f, "/keep", (hsize_t[4]){1, 2}, H5T_NATIVE_DOUBLE, &low);
    H5Fclose(f);
    refused("/work[1,2] adds up", "keep against work");
    f = reopen();
    poke(f, "/keep_q", (hsize_t[4]){0, 0, 3}, H5T_NATIVE_DOUBLE, &(double){0});
    H5Fclose(f);
    refused("/keep_q[0,0,3]", "descending quantiles");
    f = reopen();
    poke(f, "/work", (hsize_t[4]){3, 0, 5}, H5T_NATIVE_ULLONG, &huge);
    H5Fclose(f);
    refused("/work[3,0,5]", "work beyond tokens squared");
    f = reopen();
    poke(f, "/union", (hsize_t[4]){0, 1, 2, 0}, H5T_NATIVE_UCHAR, &byte);
    H5Fclose(f);
    refused("/union[0,1,", "a union that is not the OR");
    f = reopen();
    struct {
        long long step;
        int layer;
    } twice = {0, 0};
    hid_t part = H5Tcreate(H5T_COMPOUND, sizeof twice);
    H5Tinsert(part, "step", 0, H5T_NATIVE_LLONG);
    H5Tinsert(part, "layer", 8, H5T_NATIVE_INT);
    poke(f, "/index", (hsize_t[4]){1}, part, &twice);
    H5Fclose(f);
    refused("/index[0] and [1]", "a record twice");
    f = reopen();
    twice.layer = 7;
    poke(f, "/index", (hsize_t[4]){1}, part, &twice);
    H5Tclose(part);
    H5Fclose(f);
    refused("/index[1]: step 0, layer 7", "a layer that is not");
}

static void set_attr(const char *name, long long v0, long long v1, long long v2, int count)
{
    hid_t f = reopen(), a = H5Aopen(f, name, H5P_DEFAULT);
    long long v[3] = {v0, v1, v2};
    (void)count;
    H5Awrite(a, H5T_NATIVE_LLONG, v);
    H5Aclose(a);
    H5Fclose(f);
}

static void attributes_that_contradict_are_refused(void)
{
    set_attr("heads", 7, 0, 0, 1);
    refused("/keep: dimension 1 is 3, but the attributes say 7", "heads");
    set_attr("heads", 1 << 30, 0, 0, 1);
    refused("attribute heads: 1073741824: want 1 to 4096", "too many heads");
    set_attr("token_grid", 2000000000, 2000000000, 2000000000, 3);
    refused("tokens overflow", "a grid that overflows");
    set_attr("atoms", 5, 0, 0, 1);
    refused("attribute atoms: 5", "atoms");
    set_attr("atom_grid", 4000, 1, 1, 3);
    refused("atoms", "more atoms than groups");
    hid_t f = reopen();
    H5Adelete(f, "token_grid");
    H5Fclose(f);
    refused("attribute token_grid is missing", "no grid");
    f = reopen();
    H5Ldelete(f, "/work", H5P_DEFAULT);
    H5Fclose(f);
    refused("data set /work is missing", "no work");
}

/* A small file that claims 16 million records. */
static void a_claim_beyond_the_file_is_refused(void)
{
    hid_t f = reopen(), d = H5Dopen2(f, "/union", H5P_DEFAULT);
    hsize_t dims[4] = {16000000, 3, 64, 10};
    hid_t space = H5Dget_space(d);
    H5Sget_simple_extent_dims(space, dims, NULL);
    dims[0] = 16000000;
    H5Dset_extent(d, dims);
    H5Sclose(space);
    H5Dclose(d);
    H5Fclose(f);
    struct stat st;
    stat(path_a, &st);
    refused("claims", "16 million records in a small file");
    gsl_test(st.st_size > 1000000, "the file has %lld bytes", (long long)st.st_size);
}

static void write_bytes(const char *bytes, size_t n)
{
    FILE *f = fopen(path_a, "wb");
    fwrite(bytes, 1, n, f);
    fclose(f);
}

static void foreign_and_truncated_files_are_refused(void)
{
    write_bytes("step,block\n", 11);
    refused("not an HDF5 file", "a CSV");
    write_bytes("", 0);
    refused("not an HDF5 file", "an empty file");
    H5Fclose(H5Fcreate(path_a, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    refused("no trace", "another program's HDF5");
    struct generate_job j = small_job(1);
    struct stat st;
    for (int part = 1; part < 8; part++) {
        made(&j, path_a);
        stat(path_a, &st);
        gsl_test(truncate(path_a, st.st_size * part / 8) != 0, "cut to %d/8", part);
        struct err e = {0};
        gsl_test(trace_check(path_a, &e) || e.code != ERR_INPUT, "cut to %d/8: %s", part, e.text);
    }
    struct err e = {0};
    gsl_test(trace_open("/nowhere/trace.h5", &e) != NULL || e.code != ERR_INPUT,
             "no such file: %s", e.text);
}

/* Bytes flipped all over the file, also where HDF5 notes that a writer is at work (then the library waited for it to mend
 * the damage, minutes for one file): an answer each time, and an error when it is no. */
static void flipped_bytes_are_answered(void)
{
    struct generate_job j = small_job(2);
    unsigned char bytes[65536];
    made(&j, path_a);
    FILE *f = fopen(path_a, "rb");
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    for (size_t i = 0; i < 300; i++) {
        size_t at = i < 64 ? i : i * 7919 % n;
        unsigned char old = bytes[at];
        bytes[at] = (unsigned char)(old ^ (1u << i % 8));
        write_bytes((const char *)bytes, n);
        bytes[at] = old;
        struct err e = {0};
        gsl_test(trace_check(path_a, &e) != (e.code == ERR_NONE), "byte %zu: %s", at, e.text);
    }
}

static void a_level_that_is_not_there_is_named(void)
{
    struct generate_job j = small_job(0);
    struct err e = {0};
    made(&j, path_a);
    gsl_test(!trace_check(path_a, &e), "%s", e.text);
    struct trace_reader *r = trace_open(path_a, &e);
    struct arena *a = arena_new();
    struct atom_rows rows;
    gsl_test(!r || trace_read_atoms(r, 0, 0, a, &rows, &e), "level 0 has no unions");
    gsl_test(!strstr(e.text, "a trace of level 0 has no /work"), "%s", e.text);
    trace_close(r);
    arena_free(a);
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    snprintf(path_a, sizeof path_a, "%s/a.h5", folder);
    snprintf(path_b, sizeof path_b, "%s/b.h5", folder);
    what_was_committed_survives_a_kill(); /* first: it forks */
    what_is_written_is_read();
    any_number_of_threads_gives_the_same_bytes();
    the_checker_names_what_is_wrong_and_where();
    attributes_that_contradict_are_refused();
    a_claim_beyond_the_file_is_refused();
    foreign_and_truncated_files_are_refused();
    flipped_bytes_are_answered();
    a_level_that_is_not_there_is_named();
    unlink(path_a);
    unlink(path_b);
    rmdir(folder);
    return gsl_test_summary();
}
