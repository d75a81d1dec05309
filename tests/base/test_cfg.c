/* Documents and messages written by hand. */
#include "base/cfg.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "tests/base/check.h"

static struct cfg *read_text(const char *text, struct arena *a, struct err *e)
{
    *e = (struct err){0};
    return cfg_read_text("f.yaml", text, strlen(text), a, e);
}

static void refuses(const char *text, const char *message)
{
    struct arena *a = arena_new();
    struct err e;
    gsl_test(read_text(text, a, &e) != NULL, "refused: %.40s", text);
    check_refused(&e, ERR_INPUT, message);
    arena_free(a);
}

static void yaml_and_json_give_the_same_tree(void)
{
    static const char *const texts[] = {
        "# a cluster\nname: h100\nnvlink:\n  bandwidth: 450 GB/s\nheads: [0.5, '0.25', 3 "
        "s]\nempty: {}\n",
        "{\"name\":\"h100\",\n \"nvlink\": {\"bandwidth\": \"450 "
        "GB/s\"},\"heads\":[0.5,\"0.25\",\"3 s\"],\"empty\":{}}\n",
        "{\n\t\"name\" : \"h100\",\n\t\"nvlink\" : {\n\t\t\"bandwidth\" : \"450 "
        "GB/s\"\n\t},\n\t\"heads\" : [\n\t\t0.5,\n\t\t\"0.25\","
        "\n\t\t\"3 s\"\n\t],\n\t\"empty\" : {\n\t}\n}\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct arena *a = arena_new();
        struct err e;
        const char *name = NULL;
        double rate = 0;
        struct cfg *root = read_text(texts[i], a, &e);
        gsl_test(!root, "document %zu %s", i, e.text);
        if (root) {
            const struct cfg *link = cfg_need(root, "nvlink", &e), *heads = cfg_get(root, "heads");
            gsl_test(!cfg_text(root, "name", &name, &e), "name %s", e.text);
            check_text(name, "h100", "name");
            gsl_test(!cfg_qty(link, "bandwidth", QTY_BYTES_PER_S, &rate, &e) || rate != 450e9,
                     "450 GB/s %s", e.text);
            gsl_test(!heads || heads->kind != CFG_LIST || heads->count != 3, "a list of three");
            check_text(heads->items[2]->text, "3 s", "last item");
            gsl_test(heads->items[0]->quoted || !heads->items[1]->quoted, "quotes are remembered");
            gsl_test(cfg_get(root, "empty")->count != 0 || cfg_get(root, "empty")->kind != CFG_MAP,
                     "an empty map");
            gsl_test(cfg_get(root, "nothing") || cfg_get(heads, "nothing"), "no such key");
        }
        arena_free(a);
    }
}

/* Found by fuzzing: with nothing read before it, an empty list was NULL + 0. */
static void an_empty_list_is_a_document(void)
{
    struct arena *a = arena_new();
    struct err e;
    struct cfg *root = read_text("[]\n", a, &e);
    gsl_test(!root || root->kind != CFG_LIST || root->count != 0, "[] %s", e.text);
    arena_free(a);
}

static void places_are_lines_and_columns_from_one(void)
{
    struct arena *a = arena_new();
    struct err e;
    struct cfg *root = read_text("a: 1\nb:\n  \u00e9: x\n  d: [1, 2]\n", a, &e);
    const struct cfg *b = cfg_get(root, "b"), *d = cfg_get(b, "d");
    gsl_test(b->at.line != 3 || b->at.column != 3, "the map of b starts at 3:3");
    gsl_test(d->items[1]->at.line != 4 || d->items[1]->at.column != 10, "the 2 is at 4:10");
    gsl_test(b->places[0].line != 3 || b->places[0].column != 3, "the first key of b is at 3:3");
    gsl_test(b->items[0]->at.column != 6, "columns are characters, not bytes");
    char path[64];
    check_text(cfg_path(d->items[1], path, sizeof path), "b.d[1]", "path");
    check_text(cfg_path(root, path, sizeof path), "document", "path");
    arena_free(a);
}

static void what_hides_mistakes_is_refused(void)
{
    refuses("a: &x 1\n", "f.yaml:1:4: the anchor '&x' is not supported, write the value out");
    refuses("a: [&x 1]\n", "f.yaml:1:5: the anchor '&x' is not supported, write the value out");
    refuses("a: &x {}\n", "f.yaml:1:4: the anchor '&x' is not supported, write the value out");
    refuses("a: *x\n", "f.yaml:1:4: the alias '*x' is not supported, write the value out");
    refuses("a: !!int 3\n",
            "f.yaml:1:4: the tag 'tag:yaml.org,2002:int' is not supported, leave it out");
    refuses("a: !x [1]\n", "f.yaml:1:4: the tag '!x' is not supported, leave it out");
    refuses("a: 1\nb: 2\na: 3\n",
            "f.yaml:3:1: the key 'a' is there already, in line 1; want each key once");
    refuses("{\"a\":1,\"a\":1}",
            "f.yaml:1:8: the key 'a' is there already, in line 1; want each key once");
    refuses("b: {a: 1,\n a: 3}\n",
            "f.yaml:2:2: the key 'a' is there already, in line 1; want each key once");
    refuses("a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document starts here, want one in a file");
    refuses("%YAML 1.1\n---\na: 1\n",
            "f.yaml:1:1: directives such as %TAG are not supported, leave the line out");
    refuses("a: 1\n...\n%TAG !a! b\n---\n",
            "f.yaml:3:1: directives such as %TAG are not supported, leave the line out");
    refuses("? [1]\n: 2\n", "f.yaml:1:3: a list cannot be a key, want a text");
    refuses("? {a: b}\n: 2\n", "f.yaml:1:3: a mapping cannot be a key, want a text");
    refuses("a: \"x\\0y\"\n", "f.yaml:1:4: the text holds a NUL character");
    refuses("", "f.yaml: is empty, want a mapping such as 'name: value'");
    refuses("# nothing\n\n", "f.yaml: is empty, want a mapping such as 'name: value'");
    refuses("---\n", "f.yaml: is empty, want a mapping such as 'name: value'");
    refuses("hello\n", "f.yaml:1:1: 'hello' is a text, want a mapping such as 'name: value'");
}

static void broken_documents_are_refused_with_the_place(void)
{
    refuses("a: [1, 2\n", "f.yaml:2:1: did not find expected ',' or ']', while parsing a flow "
                          "sequence that starts in line 1");
    refuses("{\"a\": {\"b\": 1", "f.yaml:2:1: did not find expected ',' or '}', while parsing a "
                                 "flow mapping that starts in line 1");
    refuses("a: \"x\n", "f.yaml:2:1: found unexpected end of stream, while scanning a quoted "
                        "scalar that starts in line 1");
    refuses("a: 1\n b: 2\n", "f.yaml:2:3: mapping values are not allowed in this context");
    refuses("a:\n\t- 1\n", "f.yaml:2:1: found character that cannot start any token, while "
                           "scanning for the next token that starts in line 2");
}

static void bytes_that_are_no_text_are_refused(void)
{
    static const struct {
        const char *text;
        size_t length;
        const char *message;
    } rows[] = {
        {"a: b\0c\n", 7,
         "f.yaml:1:5: control characters are not allowed (0x00); want text in UTF-8"},
        {"a: 1\nb: \xff\n", 10,
         "f.yaml:2:4: invalid leading UTF-8 octet (0xff); want text in UTF-8"},
        {"a: \xc3\n", 5, "f.yaml:1:5: invalid trailing UTF-8 octet (0x0a); want text in UTF-8"},
        {"a: \x1b[2J\n", 8,
         "f.yaml:1:4: control characters are not allowed (0x1b); want text in UTF-8"},
        {"\xff\xfe"
         "a\0:\0",
         6, "f.yaml:1:1: invalid leading UTF-8 octet (0xff); want text in UTF-8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct arena *a = arena_new();
        struct err e = {0};
        gsl_test(cfg_read_text("f.yaml", rows[i].text, rows[i].length, a, &e) != NULL,
                 "refused: row %zu", i);
        check_refused(&e, ERR_INPUT, rows[i].message);
        arena_free(a);
    }
}

static char *repeated(const char *unit, size_t count, const char *tail)
{
    size_t n = strlen(unit);
    char *text = malloc(n * count + strlen(tail) + 1);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * n, unit, n);
    strcpy(text + n * count, tail);
    return text;
}

static void nesting_has_a_limit(void)
{
    char *deep = repeated("[", 64, ""), *more = repeated("- ", 100000, "x"),
         *flow = repeated("[", 1000000, "");
    char *ends = repeated("]", 64, "");
    char text[200];
    struct arena *a = arena_new();
    struct err e;
    snprintf(text, sizeof text, "%s%s", deep, ends);
    gsl_test(!read_text(text, a, &e), "64 levels are fine %s", e.text);
    snprintf(text, sizeof text, "[%s%s]", deep, ends);
    gsl_test(read_text(text, a, &e) != NULL, "65 are not");
    check_refused(&e, ERR_INPUT, "f.yaml:1:65: nested more than 64 deep, which is the limit");
    refuses(more, "f.yaml:1:129: nested more than 64 deep, which is the limit");
    refuses(flow, "f.yaml:1:65: nested more than 64 deep, which is the limit");
    free(deep);
    free(more);
    free(flow);
    free(ends);
    arena_free(a);
}

/* "Billion laughs": each line names the one before nine times, nine to the ninth in all. */
static void an_alias_bomb_is_refused_at_its_first_anchor(void)
{
    refuses("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: "
            "[*b,*b,*b,*b,*b,*b,*b,*b,*b]\n",
            "f.yaml:1:4: the anchor '&a' is not supported, write the value out");
}

static void a_million_directives_take_no_time(void)
{
    char *text = repeated("%TAG !a! b\n", 1000000, "");
    refuses(text, "f.yaml:1:1: directives such as %TAG are not supported, leave the line out");
    free(text);
}

static void the_tree_has_a_limit(void)
{
    char *text = repeated("- 1\n", CFG_NODE_LIMIT, "- 1\n");
    struct arena *a = arena_new();
    struct err e;
    gsl_test(read_text(text, a, &e) != NULL, "2 million and one values");
    check_refused(&e, ERR_INPUT,
                  "f.yaml:2000000:3: more than 2000000 values and keys, which is the limit");
    gsl_test(arena_bytes(a) > 256e6, "and the tree took %zu bytes", arena_bytes(a));
    free(text);
    arena_free(a);
}

/* With a comparison of all pairs this would take minutes. */
static void many_keys_are_no_slower_than_few(void)
{
    enum { KEYS = 100000 };
    char *text = malloc(KEYS * 16 + 1), *out = text;
    for (int i = 0; i < KEYS; i++)
        out += sprintf(out, "k%d: 1\n", (i * 7919) % KEYS);
    struct arena *a = arena_new();
    struct err e;
    struct cfg *root = read_text(text, a, &e);
    gsl_test(!root || root->count != KEYS, "100000 keys %s", e.text);
    check_text(root ? root->keys[1] : "", "k7919", "keys stay in the order of the file");
    strcpy(out, "k5: 1\n");
    gsl_test(read_text(text, a, &e) != NULL, "one of them twice");
    free(text);
    arena_free(a);
}

static void typed_reads_check_and_fall_back(void)
{
    struct arena *a = arena_new();
    struct err e;
    struct cfg *root =
        read_text("rate: 450 GB\ncount: 1.5k\non: true\nodd: maybe\nkind: usq\nlist: [1, 50%, x]\n"
                  "none: null\nblank:\nmap: {inner: {}}\nshares: [0.5, 25%]\n",
                  a, &e);
    double v = 0, *values = NULL;
    int64_t n = 0;
    int index = -1, count = 0;
    bool on = false;
    const char *text = NULL;
    static const char *const kinds[] = {"ulysses", "usp", "ring", NULL};

    gsl_test(cfg_qty(root, "rate", QTY_BYTES_PER_S, &v, &e), "a size for a rate");
    check_refused(&e, ERR_INPUT,
                  "f.yaml:1:7: rate: '450 GB' is a size, want a rate such as '450 GB/s'");
    e = (struct err){0};
    gsl_test(cfg_qty_or(root, "rate", QTY_BYTES_PER_S, 1, &v, &e), "a fallback does not hide it");
    e = (struct err){0};
    gsl_test(!cfg_qty_or(root, "no", QTY_BYTES, 7, &v, &e) || v != 7, "fallback when absent");
    gsl_test(!cfg_qty_or(root, "none", QTY_BYTES, 8, &v, &e) || v != 8, "fallback when null");
    gsl_test(cfg_qty_or(root, "blank", QTY_BYTES, 8, &v, &e), "a forgotten value is no null");
    check_refused(&e, ERR_INPUT,
                  "f.yaml:8:7: blank: nothing is given, want a size such as '64 GiB'");
    e = (struct err){0};
    gsl_test(cfg_qty(root, "no", QTY_BYTES, &v, &e), "a missing key");
    check_refused(&e, ERR_INPUT, "f.yaml:1:1: document: the key 'no' is missing");
    e = (struct err){0};
    gsl_test(cfg_need(cfg_get(cfg_get(root, "map"), "inner"), "no", &e) != NULL,
             "a missing key inside");
    check_refused(&e, ERR_INPUT, "f.yaml:9:14: map.inner: the key 'no' is missing");
    e = (struct err){0};
    gsl_test(!cfg_int(root, "count", 1, 2000, &n, &e) || n != 1500, "1.5k");
    gsl_test(cfg_int(root, "count", 1, 64, &n, &e), "out of range");
    check_refused(&e, ERR_INPUT,
                  "f.yaml:2:8: count: '1.5k' is out of range, want a whole number from 1 to 64");
    e = (struct err){0};
    gsl_test(!cfg_int_or(root, "no", 1, 64, 5, &n, &e) || n != 5, "fallback");
    gsl_test(!cfg_bool_or(root, "on", false, &on, &e) || !on, "true");
    gsl_test(!cfg_bool_or(root, "no", false, &on, &e) || on, "fallback");
    gsl_test(cfg_bool_or(root, "odd", false, &on, &e), "neither");
    check_refused(&e, ERR_INPUT, "f.yaml:4:6: odd: 'maybe' is neither true nor false");
    e = (struct err){0};
    gsl_test(cfg_enum(root, "kind", kinds, &index, &e), "a mistyped word");
    check_refused(&e, ERR_INPUT, "f.yaml:5:7: kind: unknown value 'usq'; did you mean 'usp'?");
    e = (struct err){0};
    gsl_test(cfg_enum(root, "odd", kinds, &index, &e), "another word");
    check_refused(&e, ERR_INPUT,
                  "f.yaml:4:6: odd: unknown value 'maybe', want one of: ulysses, usp, ring");
    e = (struct err){0};
    gsl_test(cfg_qty_list(root, "list", QTY_RATIO, a, &values, &count, &e),
             "a list with a bad item");
    check_refused(&e, ERR_INPUT,
                  "f.yaml:6:16: list[2]: 'x' is not a number, want a share such as '0.9' or '90%'");
    e = (struct err){0};
    gsl_test(!cfg_qty_list(root, "shares", QTY_RATIO, a, &values, &count, &e) || count != 2 ||
                 values[1] != 0.25,
             "a list");
    gsl_test(cfg_qty_list(root, "odd", QTY_RATIO, a, &values, &count, &e), "a text for a list");
    check_refused(&e, ERR_INPUT, "f.yaml:4:6: odd: 'maybe' is a text, want a list");
    e = (struct err){0};
    gsl_test(cfg_text(root, "list", &text, &e), "a list for a text");
    check_refused(&e, ERR_INPUT, "f.yaml:6:7: list is a list, want a text");
    e = (struct err){0};
    gsl_test(cfg_text(root, "blank", &text, &e), "nothing for a text");
    check_refused(&e, ERR_INPUT, "f.yaml:8:7: blank: nothing is given, want a text");
    e = (struct err){0};
    gsl_test(cfg_check_keys(cfg_get(root, "odd"), kinds, &e), "keys of a text");
    check_refused(&e, ERR_INPUT, "f.yaml:4:6: odd: 'maybe' is a text, want a mapping");
    check_text(cfg_text_or(root, "no", "x"), "x", "fallback");
    check_text(cfg_text_or(root, "kind", "x"), "usq", "its text");
    arena_free(a);
}

static void unknown_keys_are_named_with_the_nearest_known(void)
{
    static const char *const known[] = {"bandwidth", "latency", "name", NULL};
    struct arena *a = arena_new();
    struct err e;
    struct cfg *root = read_text("name: x\n  \nbandwith: 3\n", a, &e);
    gsl_test(cfg_check_keys(root, known, &e), "one letter is missing");
    check_refused(&e, ERR_INPUT, "f.yaml:3:1: unknown key 'bandwith'; did you mean 'bandwidth'?");
    root = read_text("name: x\ncolour: 3\n", a, &e);
    gsl_test(cfg_check_keys(root, known, &e), "nothing near");
    check_refused(&e, ERR_INPUT,
                  "f.yaml:2:1: unknown key 'colour', want one of: bandwidth, latency, name");
    root = read_text("name: x\nlatency: 3\n", a, &e);
    gsl_test(!cfg_check_keys(root, known, &e), "known keys %s", e.text);
    arena_free(a);
}

static void json_of_ours_reads_back(void)
{
    struct memory m;
    memory_open(&m);
    struct json j = json_to(m.out);
    json_object(&j, NULL);
    json_text(&j, "text",
              "tab\t quote\" back\\slash line\nbreak / \x01 \x7f \u00e9 \U0001f600 \xc2\x85 \u2028 "
              "\ufeff # : - &x");
    json_num(&j, "third", 1.0 / 3);
    json_num(&j, "none", NAN);
    json_int(&j, "least", INT64_MIN);
    json_bool(&j, "on", true);
    j.compact = true;
    json_array(&j, "list");
    for (int i = 0; i < 1000; i++)
        json_num(&j, NULL, i * 0.1);
    json_end(&j);
    j.compact = false;
    json_array(&j, "empty");
    json_end(&j);
    json_end(&j);
    char *text = memory_close(&m);
    struct arena *a = arena_new();
    struct err e;
    struct cfg *root = read_text(text, a, &e);
    double third = 0, none = 0, *list = NULL;
    int64_t least = 0;
    int count = 0;
    bool on = false;
    gsl_test(!root, "reads %s", e.text);
    check_text(cfg_text_or(root, "text", ""),
               "tab\t quote\" back\\slash line\nbreak / \x01 \x7f \u00e9 \U0001f600 \xc2\x85 "
               "\u2028 \ufeff # : - &x",
               "text");
    gsl_test(!cfg_qty(root, "third", QTY_NUMBER, &third, &e) || third != 1.0 / 3,
             "a third, exactly");
    gsl_test(!cfg_qty_or(root, "none", QTY_NUMBER, -1, &none, &e) || none != -1,
             "NaN is null is absent");
    gsl_test(!cfg_int(root, "least", INT64_MIN, 0, &least, &e) || least != INT64_MIN,
             "the least integer");
    gsl_test(!cfg_bool_or(root, "on", false, &on, &e) || !on, "true");
    gsl_test(!cfg_qty_list(root, "list", QTY_NUMBER, a, &list, &count, &e) || count != 1000 ||
                 list[3] != 3 * 0.1,
             "list");
    arena_free(a);
    free(text);
}

static void files_are_bounded_before_they_are_read(void)
{
    char folder[] = "/tmp/shardwise-cfg-XXXXXX", path[64], want[200];
    struct arena *a = arena_new();
    struct err e = {0};
    if (!mkdtemp(folder)) {
        gsl_test(1, "a folder for the test");
        return;
    }
    snprintf(path, sizeof path, "%s/x.yaml", folder);
    gsl_test(cfg_read_file(path, a, &e) != NULL, "no file");
    snprintf(want, sizeof want, "%s: cannot be opened: No such file or directory", path);
    check_refused(&e, ERR_INPUT, want);
    e = (struct err){0};
    gsl_test(cfg_read_file(folder, a, &e) != NULL, "a folder");
    snprintf(want, sizeof want, "%s: is a folder, want a file", folder);
    check_refused(&e, ERR_INPUT, want);
    e = (struct err){0};
    gsl_test(cfg_read_file("/dev/zero", a, &e) != NULL, "a device");
    check_refused(&e, ERR_INPUT, "/dev/zero: is a device or a socket, want a file");
    e = (struct err){0};
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    gsl_test(fd < 0 || ftruncate(fd, 100 * 1000 * 1000) != 0, "a file of 100 MB");
    gsl_test(cfg_read_file(path, a, &e) != NULL, "100 MB");
    snprintf(want, sizeof want, "%s: the file has 100.0 MB, want at most 64 MiB", path);
    check_refused(&e, ERR_INPUT, want);
    e = (struct err){0};
    gsl_test(ftruncate(fd, 0) != 0 || write(fd, "a: 1\n", 5) != 5, "five bytes");
    gsl_test(!cfg_read_file(path, a, &e), "a file %s", e.text);
    close(fd);
    unlink(path);
    gsl_test(mkfifo(path, 0600) != 0, "a pipe");
    gsl_test(cfg_read_file(path, a, &e) != NULL, "a pipe that nobody writes to does not hang");
    snprintf(want, sizeof want, "%s: is empty, want a mapping such as 'name: value'", path);
    check_refused(&e, ERR_INPUT, want);
    unlink(path);
    rmdir(folder);
    arena_free(a);
}

int main(void)
{
    yaml_and_json_give_the_same_tree();
    an_empty_list_is_a_document();
    places_are_lines_and_columns_from_one();
    what_hides_mistakes_is_refused();
    broken_documents_are_refused_with_the_place();
    bytes_that_are_no_text_are_refused();
    nesting_has_a_limit();
    an_alias_bomb_is_refused_at_its_first_anchor();
    a_million_directives_take_no_time();
    the_tree_has_a_limit();
    many_keys_are_no_slower_than_few();
    typed_reads_check_and_fall_back();
    unknown_keys_are_named_with_the_nearest_known();
    json_of_ours_reads_back();
    files_are_bounded_before_they_are_read();
    return gsl_test_summary();
}
