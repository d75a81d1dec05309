/* Any text as a pattern: no crash; what parses prints as a text that parses to the same, and makes a bitmap. */
#include "traces/pattern.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void draw(const struct pattern *p)
{
    struct arena *a = arena_new();
    struct tiling t;
    struct err e = {0};
    struct mask m;
    tiling_make((struct grid){5, 4, 6}, (int[3]){2, 2, 2}, (int[3]){2, 1, 2}, a, &t, &e);
    if (pattern_check(p, t.grid, err_at_name("fuzz"), &e))
        pattern_mask(p, &t, (struct field_key){1, 0, 0, 0}, NAN, a, &m);
    arena_free(a);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char *text = malloc(size + 1), once[1024], twice[1024];
    struct err e = {0};
    struct pattern p, q;
    memcpy(text, data, size);
    text[size] = '\0';
    if (pattern_parse(text, err_at_name("fuzz"), &p, &e)) {
        pattern_text(&p, once, sizeof once);
        if (!pattern_parse(once, err_at_name("again"), &q, &e))
            abort();
        pattern_text(&q, twice, sizeof twice);
        if (strcmp(once, twice) != 0)
            abort();
        draw(&p);
    }
    free(text);
    return 0;
}
