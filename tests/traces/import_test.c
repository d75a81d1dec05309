/* Importers: files written here byte by byte as numpy and safetensors document them, read back as
 * traces. */
#include "traces/import.h"

#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "traces/array.h"
#include "traces/pattern.h"

static char folder[] = "/tmp/shardwise-import-XXXXXX";
static char from[64], to[64];

struct bytes {
    unsigned char data[8192];
    size_t n;
};

static void put(struct bytes *b, const void *data, size_t n)
{
    memcpy(b->data + b->n, data, n);
    b->n += n;
}

static void put_int(struct bytes *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        b->data[b->n++] = (unsigned char)(i < 8 ? v >> (8 * i) : 0);
}

static struct bytes npy(const char *descr, const char *order, const char *shape, const void *data,
                        size_t n)
{
    struct bytes b = {.n = 0};
    char header[256];
    int length =
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n",
                 descr, order, shape);
    put(&b, "\x93NUMPY\1\0", 8);
    put_int(&b, (uint64_t)length, 2);
    put(&b, header, (size_t)length);
    put(&b, data, n);
    return b;
}

/* A zip of one member, deflated or stored. */
static struct bytes npz(const char *name, const struct bytes *member, bool deflated)
{
    struct bytes z = {.n = 0};
    unsigned char packed[8192];
    z_stream s = {.next_in = (unsigned char *)member->data,
                  .avail_in = (unsigned)member->n,
                  .next_out = packed,
                  .avail_out = sizeof packed};
    deflateInit2(&s, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    deflate(&s, Z_FINISH);
    size_t n = deflated ? s.total_out : member->n, name_n = strlen(name);
    deflateEnd(&s);
    put(&z, "PK\3\4", 4);
    put_int(&z, 20, 4);
    put_int(&z, deflated ? 8 : 0, 2);
    put_int(&z, 0, 8);
    put_int(&z, n, 4);
    put_int(&z, member->n, 4);
    put_int(&z, name_n, 4);
    put(&z, name, name_n);
    put(&z, deflated ? packed : member->data, n);
    size_t directory = z.n;
    put(&z, "PK\1\2", 4);
    put_int(&z, 20, 2);
    put_int(&z, 20, 4);
    put_int(&z, deflated ? 8 : 0, 2);
    put_int(&z, 0, 8);
    put_int(&z, n, 4);
    put_int(&z, member->n, 4);
    put_int(&z, name_n, 2);
    put_int(&z, 0, 12);
    put_int(&z, 0, 4);
    put(&z, name, name_n);
    size_t size = z.n - directory;
    put(&z, "PK\5\6", 4);
    put_int(&z, 0, 4);
    put_int(&z, 1, 2);
    put_int(&z, 1, 2);
    put_int(&z, size, 4);
    put_int(&z, directory, 4);
    put_int(&z, 0, 2);
    return z;
}

static struct bytes safetensors(const char *json, const void *data, size_t n)
{
    struct bytes b = {.n = 0};
    put_int(&b, strlen(json), 8);
    put(&b, json, strlen(json));
    put(&b, data, n);
    return b;
}

static void save(const void *data, size_t n)
{
    FILE *f = fopen(from, "wb");
    fwrite(data, 1, n, f);
    fclose(f);
}

static bool imported(const struct import_job *j, const char *what)
{
    struct err e = {0};
    bool ok = import_file(from, j, to, &e);
    gsl_test(!ok, "%s: %s", what, e.text);
    if (ok)
        gsl_test(!trace_check(to, &e), "%s checks: %s", what, e.text);
    return ok;
}

static void refused(const struct bytes *b, const struct import_job *j, const char *says,
                    const char *what)
{
    struct err e = {0};
    save(b->data, b->n);
    unlink(to);
    gsl_test(import_file(from, j, to, &e), "%s is refused", what);
    gsl_test(e.code != ERR_INPUT || !strstr(e.text, says), "%s: %s", what, e.text);
    gsl_test(access(to, F_OK) == 0, "%s: nothing is left behind", what);
}

static void keeps_are(const double *want, int layers, int heads, const char *what)
{
    struct err e = {0};
    double keep[64];
    struct trace_reader *r = trace_open(to, &e);
    gsl_test_int(r ? trace_records(r) : -1, layers, "%s: one record a layer", what);
    for (int l = 0; r && l < layers; l++) {
        gsl_test(!trace_read_keep(r, l, keep, &e), "%s", e.text);
        for (int h = 0; h < heads; h++)
            gsl_test_rel(keep[h], want[l * heads + h], 1e-3, "%s: layer %d head %d", what, l, h);
    }
    trace_close(r);
}

static const double keep6[6] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6};

static void keeps_come_from_every_format(void)
{
    struct import_job j = import_default();
    struct bytes member = npy("<f8", "False", "(2, 3)", keep6, sizeof keep6);
    j.as = IMPORT_KEEP;
    save(member.data, member.n);
    if (imported(&j, ".npy"))
        keeps_are(keep6, 2, 3, ".npy");
    const double by_columns[6] = {0.1, 0.4, 0.2, 0.5, 0.3, 0.6};
    struct bytes fortran = npy("<f8", "True", "(2, 3)", by_columns, sizeof by_columns);
    save(fortran.data, fortran.n);
    if (imported(&j, "Fortran order"))
        keeps_are(keep6, 2, 3, "Fortran order");
    j.as = IMPORT_AUTO;
    for (int deflated = 0; deflated < 2; deflated++) {
        struct bytes z = npz("keep.npy", &member, deflated);
        save(z.data, z.n);
        if (imported(&j, ".npz"))
            keeps_are(keep6, 2, 3, deflated ? "deflated .npz" : "stored .npz");
    }
    /* halves: 0x3800 is 0.5, 0x3a00 0.75, 0x3c00 1 - 0x3c00 >> ... as sparsity: keep 0.5, 0.25 */
    const uint16_t half[2] = {0x3800, 0x3a00};
    struct bytes s = safetensors(
        "{\"head_sparsity\":{\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[0,4]}}", half, 4);
    save(s.data, s.n);
    if (imported(&j, "safetensors"))
        keeps_are((const double[]){0.5, 0.25}, 1, 2, "safetensors, sparsity in half floats");
    const char csv[] = "step,block,head,keep\n5,0,1,0.2\n5,0,0,0.1\n5,1,0,0.3\n5,1,1,0.4\n";
    save(csv, strlen(csv));
    if (imported(&j, "CSV"))
        keeps_are((const double[]){0.1, 0.2, 0.3, 0.4}, 2, 2, "CSV in any order");
}

static void masks_become_bitmaps(void)
{
    struct import_job j = import_default();
    unsigned char mask[2 * 2 * 4 * 8]; /* [layer][head][group][block] */
    for (size_t i = 0; i < sizeof mask; i++)
        mask[i] = i % 3 == 0 || i % 8 == 0;
    struct bytes b = npy("|b1", "False", "(2, 2, 4, 8)", mask, sizeof mask);
    save(b.data, b.n);
    j.grid = (struct grid){2, 4, 8};
    memcpy(j.group, (int[3]){2, 2, 4}, sizeof j.group);
    memcpy(j.block, (int[3]){1, 2, 4}, sizeof j.block);
    if (!imported(&j, "a mask"))
        return;
    struct err e = {0};
    struct trace_reader *r = trace_open(to, &e);
    struct arena *a = arena_new();
    int wrong = 0;
    for (int layer = 0; layer < 2; layer++)
        for (int h = 0; h < 2; h++) {
            struct mask m;
            gsl_test(!trace_read_mask(r, layer, h, a, &m, &e), "%s", e.text);
            for (int g = 0; g < 4; g++)
                for (int k = 0; k < 8; k++)
                    wrong +=
                        bits_get(mask_row(&m, g), k) != mask[((layer * 2 + h) * 4 + g) * 8 + k];
        }
    gsl_test_int(wrong, 0, "bits");
    trace_close(r);
    arena_free(a);
    j.grid.t = 0;
    j.block[2] = 64;
    imported(&j, "a mask without a grid: runs of 64 tokens");
}

/* STA's strategy file: windows in tiles; its densities are published (9.0% and 25%). */
static void windows_become_their_bitmaps(void)
{
    const char json[] = "{\"0_0_0\": [3, 3, 3], \"0_0_1\": [5, 3, 5], \"0_1_0\": \"dense\", "
                        "\"0_1_1\": \"spatial\"}";
    struct import_job j = import_default();
    j.grid = (struct grid){30, 48, 80};
    memcpy(j.block, (int[3]){6, 8, 8}, sizeof j.block);
    memcpy(j.group, j.block, sizeof j.group);
    save(json, strlen(json));
    if (!imported(&j, "windows"))
        return;
    struct err e = {0};
    double keep[2];
    struct trace_reader *r = trace_open(to, &e);
    gsl_test(!trace_read_keep(r, 0, keep, &e), "%s", e.text);
    gsl_test_rel(keep[0], 0.09, 1e-6, "(18,24,24) of 30x48x80");
    gsl_test_rel(keep[1], 0.25, 1e-6, "(30,24,40)");
    gsl_test(!trace_read_keep(r, 1, keep, &e), "%s", e.text);
    gsl_test_rel(keep[0], 1, 1e-6, "dense");
    trace_close(r);
}

/* numpy.save("sparsity.npy", x) says by the file's name alone what x is. */
static void an_npy_file_is_called_as_its_file(void)
{
    struct err e = {0};
    struct array a;
    struct bytes b = npy("<f8", "False", "(2, 3)", keep6, sizeof keep6);
    struct array_file *f = array_parse("some/folder.d/sparsity.v2.npy", b.data, b.n, &e);
    gsl_test(!f || !array_get(f, 0, &a, &e) || strcmp(a.name, "sparsity") != 0, "%s: %s", a.name,
             e.text);
    array_close(f);
}

static void bad_files_are_named_and_leave_nothing(void)
{
    struct import_job j = import_default();
    double bad[6] = {0.1, 0.2, NAN, 0.4, 0.5, 0.6};
    j.as = IMPORT_KEEP;
    struct bytes b = npy("<f8", "False", "(2, 3)", bad, sizeof bad);
    refused(&b, &j, "[0,0,2]: nan", "NaN");
    b = npy("<f8", "False", "(2, 3000000)", keep6, sizeof keep6);
    refused(&b, &j, "needs more than the 48 bytes", "a shape beyond the file");
    b = npy("<f8", "False", "(4000000000, 4000000000, 2)", keep6, sizeof keep6);
    refused(&b, &j, "needs more than", "a shape that overflows");
    b = npy("|O", "False", "(2, 3)", keep6, sizeof keep6);
    refused(&b, &j, "type '|O': want little-endian bool, integers or floats (objects are refused)",
            "pickled objects");
    b = npy("<f8", "False", "(0, 3)", keep6, 0);
    refused(&b, &j, "0 layers: want 1", "nothing in it");
    b = npy(">f8", "False", "(2, 3)", keep6, sizeof keep6);
    refused(&b, &j, "little-endian", "big-endian");
    b = npy("<f8", "False", "(6,)", keep6, sizeof keep6);
    refused(&b, &j, "want [layer][head]", "one dimension");
    b = npy("<f8", "False", "(2, 3)", keep6, sizeof keep6);
    b.n = 40;
    refused(&b, &j, "header", "a header cut short");
    struct bytes member = npy("<f8", "False", "(2, 3)", keep6, sizeof keep6),
                 z = npz("keep.npy", &member, true);
    z.n -= 10;
    refused(&z, &j, "no zip directory", "a truncated .npz");
    z = npz("keep.npy", &member, true);
    z.data[60] ^= 0x55;
    refused(&z, &j, "keep'", "a damaged .npz");
    b = safetensors(
        "{\"keep\":{\"dtype\":\"F64\",\"shape\":[2,3],\"data_offsets\":[0,48000000000]}}", keep6,
        sizeof keep6);
    refused(&b, &j, "data_offsets", "offsets beyond the file");
    b = safetensors("{\"a\":{\"dtype\":\"F64\",\"shape\":[1,3],\"data_offsets\":[0,24]},\"b\":{"
                    "\"dtype\":\"F64\",\"shape\":[1,3],\"data_offsets\":[24,48]}}",
                    keep6, sizeof keep6);
    refused(&b, &j, "--array", "two arrays");
    b = (struct bytes){.n = 4, .data = {0x80, 2, '}', 'q'}};
    refused(&b, &j, "pickle", "a torch pickle");
    const char *texts[][2] = {
        {"step,block,head,keep\n0,0,0,0.1\n0,0,1,0.2\n0,1,1,0.2\n", "head 0 is missing"},
        {"step,block,head,keep\n0,0,0,1.5\n", "keep: 1.5"},
        {"block,head\n0,0\n", "keep"},
        {"{\"0_0_0\": [3,3,3]}", "token grid"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct bytes t = {.n = strlen(texts[i][0])};
        memcpy(t.data, texts[i][0], t.n);
        refused(&t, &j, texts[i][1], texts[i][0]);
    }
    j.grid = (struct grid){30, 48, 80};
    const char *windows[][2] = {{"{\"0_0_0\": [3,3]}", "three numbers"},
                                {"{\"0_0\": [3,3,3]}", "step_layer_head"},
                                {"{\"0_0_1\": [3,3,3]}", "no whole number"},
                                {"[1]", "no rows"}};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        struct bytes t = {.n = strlen(windows[i][0])};
        memcpy(t.data, windows[i][0], t.n);
        refused(&t, &j, windows[i][1], windows[i][0]);
    }
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    snprintf(from, sizeof from, "%s/in", folder);
    snprintf(to, sizeof to, "%s/out.h5", folder);
    keeps_come_from_every_format();
    masks_become_bitmaps();
    windows_become_their_bitmaps();
    an_npy_file_is_called_as_its_file();
    bad_files_are_named_and_leave_nothing();
    unlink(from);
    unlink(to);
    rmdir(folder);
    return gsl_test_summary();
}
