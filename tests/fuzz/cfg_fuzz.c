/* Any bytes as a YAML document: no crash, no hang, no unbounded memory; and what is read can be
 * written as JSON and read again as the same tree. */
#include "base/cfg.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void write_node(struct json *j, const char *key, const struct cfg *node)
{
    if (node->kind == CFG_TEXT) {
        json_text(j, key, node->text);
        return;
    }
    (node->kind == CFG_LIST ? json_array : json_object)(j, key);
    for (int i = 0; i < node->count; i++)
        write_node(j, node->kind == CFG_MAP ? node->keys[i] : NULL, node->items[i]);
    json_end(j);
}

static int depth_of(const struct cfg *node)
{
    int most = 0;
    for (int i = 0; i < node->count; i++) {
        int depth = depth_of(node->items[i]);
        most = depth > most ? depth : most;
    }
    return most + 1;
}

/* YAML takes a key of up to 1024 characters, escapes included, on one line. */
static int longest_key(const struct cfg *node)
{
    int most = 0;
    for (int i = 0; i < node->count; i++) {
        int below = longest_key(node->items[i]),
            here = node->kind == CFG_MAP ? (int)strlen(node->keys[i]) : 0;
        most = below > most ? below : most;
        most = here > most ? here : most;
    }
    return most;
}

static void check_same(const struct cfg *a, const struct cfg *b)
{
    if (a->kind != b->kind || a->count != b->count)
        abort();
    if (a->kind == CFG_TEXT && strcmp(a->text, b->text) != 0)
        abort();
    for (int i = 0; i < a->count; i++) {
        if (a->kind == CFG_MAP && strcmp(a->keys[i], b->keys[i]) != 0)
            abort();
        check_same(a->items[i], b->items[i]);
    }
}

/* Every typed read of every value: whatever it says, it may not crash. */
static void read_values(const struct cfg *node, struct arena *a)
{
    static const char *const known[] = {"name", "bandwidth", NULL};
    for (int i = 0; node->kind == CFG_MAP && i < node->count && i < 100; i++) {
        const char *key = node->keys[i], *text;
        double si, *values;
        int64_t whole;
        int index, count;
        bool flag;
        for (enum qty_dim dim = QTY_NUMBER; dim < QTY_DIMS; dim++)
            cfg_qty(node, key, dim, &si, &(struct err){0});
        cfg_qty_list(node, key, QTY_SECONDS, a, &values, &count, &(struct err){0});
        cfg_int(node, key, INT64_MIN, INT64_MAX, &whole, &(struct err){0});
        cfg_bool_or(node, key, true, &flag, &(struct err){0});
        cfg_text(node, key, &text, &(struct err){0});
        cfg_enum(node, key, known, &index, &(struct err){0});
    }
    cfg_check_keys(node, known, &(struct err){0});
    for (int i = 0; i < node->count; i++)
        read_values(node->items[i], a);
}

static void round_trip(const struct cfg *root, struct arena *a)
{
    char *text;
    size_t size;
    struct err e = {0};
    FILE *out = open_memstream(&text, &size);
    struct json j = json_to(out);
    write_node(&j, NULL, root);
    fclose(out);
    const struct cfg *again = cfg_read_text("again", text, size, a, &e);
    if (!again) {
        fprintf(stderr, "%s\n%s", e.text, text);
        abort();
    }
    check_same(root, again);
    free(text);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct arena *a = arena_new();
    struct err e = {0};
    const struct cfg *root = cfg_read_text("fuzz", (const char *)data, size, a, &e);
    if ((root != NULL) != (e.code == ERR_NONE) || strpbrk(e.text, "\n\r\x1b"))
        abort();
    if (root)
        read_values(root, a);
    if (root && depth_of(root) <= 30 &&
        longest_key(root) < 150) /* the writer nests 32 deep; escapes are 6 long */
        round_trip(root, a);
    arena_free(a);
    return 0;
}
