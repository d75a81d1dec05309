#include "traces/pattern.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/qty.h"

const char *const pattern_names[PATTERN_KINDS + 1] = {"dense",    "window", "tile",  "spatial",
                                                      "temporal", "radial", "field", "local",
                                                      "chunk",    "factor", NULL};

#define BIT(kind) (1u << PATTERN_##kind)
#define ANY       ((1u << PATTERN_KINDS) - 1)

static const char *const edge_words[] = {"clipped", "shifted", NULL};
static const char *const select_words[] = {"topk", "topp", "threshold", NULL};
static const char *const switch_words[] = {"no", "yes", NULL};
static const char *const axis_words[] = {"spatial", "temporal", NULL};

/* Every parameter: who has it, its range, and its words when it is a choice. */
static const struct param {
    const char *key;
    unsigned kinds;
    size_t offset;
    double start, least, most;
    bool whole;
    const char *const *words;
} params[] = {
#define P(field) offsetof(struct pattern, field)
    {"t", BIT(WINDOW) | BIT(TILE) | BIT(LOCAL), P(t), 0, 0, 1e6, true, NULL},
    {"h", BIT(WINDOW) | BIT(TILE) | BIT(LOCAL), P(h), 0, 0, 1e6, true, NULL},
    {"w", BIT(WINDOW) | BIT(TILE) | BIT(LOCAL), P(w), 0, 0, 1e6, true, NULL},
    {"share", BIT(WINDOW) | BIT(TILE) | BIT(LOCAL), P(share), 1.0 / 3, 0, 1, false, NULL},
    {"edge", BIT(WINDOW), P(edge), EDGE_CLIPPED, 0, 1, true, edge_words},
    {"tile_t", BIT(TILE), P(tile_t), 6, 1, 1e6, true, NULL},
    {"tile_h", BIT(TILE), P(tile_h), 8, 1, 1e6, true, NULL},
    {"tile_w", BIT(TILE), P(tile_w), 8, 1, 1e6, true, NULL},
    {"frames", BIT(SPATIAL), P(frames), 1, 0, 1e6, true, NULL},
    {"radius", BIT(TEMPORAL), P(radius), 0, 0, 1e6, true, NULL},
    {"sink", BIT(SPATIAL) | BIT(TEMPORAL) | BIT(RADIAL), P(sink), NAN, 0, 1, true, switch_words},
    {"decay", BIT(RADIAL), P(decay), 1, 1e-3, 1e3, false, NULL},
    {"band", BIT(RADIAL), P(band), 128, 1, 1e6, true, NULL},
    {"full", BIT(RADIAL), P(full), 1, 0, 1e6, true, NULL},
    {"rank", BIT(FIELD), P(rank), 20, 1, 256, true, NULL},
    {"lq", BIT(FIELD), P(lq), 5.5, 0.01, 1e4, false, NULL},
    {"lk", BIT(FIELD), P(lk), 3, 0.01, 1e4, false, NULL},
    {"share_length", BIT(FIELD), P(share_length), 0, 0, 1, true, switch_words},
    {"rho", BIT(FIELD), P(rho), 0.13, 0, 1, false, NULL},
    {"beta", BIT(FIELD), P(beta), 4.3, 0, 100, false, NULL},
    {"sinks", BIT(FIELD), P(sinks), 0, 0, 100, false, NULL},
    {"select", BIT(FIELD), P(select), SELECT_TOPP, 0, 2, true, select_words},
    {"keep", BIT(FIELD), P(keep), NAN, 1e-6, 1, false, NULL},
    {"mass", BIT(FIELD), P(mass), 0.9, 1e-6, 1, false, NULL},
    {"random", BIT(LOCAL), P(random), 0.02, 0, 1, false, NULL},
    {"global", BIT(LOCAL) | BIT(CHUNK), P(global), 1, 0, 1e6, true, NULL},
    {"chunk", BIT(CHUNK), P(chunk), 6, 1, 1e6, true, NULL},
    {"overlap", BIT(CHUNK), P(overlap), 0, 0, 1e6, true, NULL},
    {"range", BIT(CHUNK), P(range), 5, 1, 1e6, true, NULL},
    {"causal", BIT(CHUNK), P(causal), 0, 0, 1, true, switch_words},
    {"axis", BIT(FACTOR), P(axis), 0, 0, 1, true, axis_words},
    {"keep_q", ANY, P(keep_q), 1, 1e-6, 1, false, NULL},
    {"keep_nodes", ANY, P(keep_nodes), 1, 1e-6, 1, false, NULL},
    {"prune_length", ANY, P(prune_length), 6, 0.01, 1e4, false, NULL},
    {"coarse", ANY, P(coarse), 0, 0, 1e6, true, NULL},
#undef P
};
enum { PARAMS = sizeof params / sizeof params[0] };

const struct pattern_preset pattern_presets[] = {
    {"dsv", "field:rank=20,lq=5.4,lk=3,rho=0.14,beta=4.1,mass=0.9",
     "DSV 2502.07590: all five published statistics (16x16x16)"},
    {"dsv-smooth", "field:rank=20,lq=12,lk=3,rho=0.14,beta=4.1,mass=0.9",
     "DSV's case of 92% overlap in a 2x2x2 cube"},
    {"wa-m", "window:share=0.33333333,edge=shifted", "DSV's window baseline, a third of each axis"},
    {"wa-l", "window:share=0.66666667,edge=shifted",
     "DSV's window baseline, two thirds of each axis"},
    {"sta", "tile:t=18,h=24,w=24,tile_t=6,tile_h=8,tile_w=8",
     "STA 2502.04507: 91% sparse on 30x48x80"},
    {"vsa", "field:select=topk,keep=0.125,coarse=64",
     "VSA: top 32 of 256 cubes plus the pooled branch"},
    {"bsa", "field:mass=0.9,keep_q=0.5", "BSA: half of the queries, keys by cumulative mass 0.9"},
    {"adaspa", "field:select=topk,keep=0.2", "AdaSpa 2502.21079: sparsity 0.8"},
    {"sparge", "field:mass=0.9,keep=0.51", "SpargeAttn: M_g 51.2%"},
    {"svg-spatial", "spatial:frames=2", "Sparse VideoGen, spatial head"},
    {"svg-temporal", "temporal:radius=2", "Sparse VideoGen, temporal head"},
    {"svitt", "local:share=0.2,random=0.05,global=4", "SViTT 2304.08809: local + random + global"},
    {"magi", "chunk:chunk=6,range=5,causal=yes,global=0",
     "MAGI-1: block-causal chunks of 6 latent frames"},
    {"vins", "chunk:chunk=8,overlap=0,global=1", "VINs 2503.17539: chunks and global tokens"},
    {NULL, NULL, NULL}};

static double *param_of(struct pattern *p, const struct param *m)
{
    return (double *)((char *)p + m->offset);
}

struct pattern pattern_default(enum pattern_kind kind)
{
    struct pattern p = {.kind = kind};
    for (int i = 0; i < PARAMS; i++)
        *param_of(&p, &params[i]) = params[i].start;
    p.sink = kind == PATTERN_SPATIAL || kind == PATTERN_TEMPORAL;
    return p;
}

static int word_find(const char *const *words, const char *text)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], text) == 0)
            return i;
    return -1;
}

static void words_join(const char *const *words, char *text, size_t size)
{
    text[0] = '\0';
    for (int i = 0; words[i] && strlen(text) + strlen(words[i]) + 3 < size; i++) {
        if (i > 0)
            strcat(text, ", ");
        strcat(text, words[i]);
    }
}

static void keys_of(enum pattern_kind kind, const char **keys)
{
    int n = 0;
    for (int i = 0; i < PARAMS; i++)
        if (params[i].kinds >> kind & 1)
            keys[n++] = params[i].key;
    keys[n] = NULL;
}

static bool param_set(struct pattern *p, const char *key, const char *value, struct err_at at,
                      struct err *e)
{
    const char *keys[PARAMS + 1];
    char list[256];
    keys_of(p->kind, keys);
    for (int i = 0; i < PARAMS; i++) {
        const struct param *m = &params[i];
        if (strcmp(m->key, key) != 0 || !(m->kinds >> p->kind & 1))
            continue;
        double number;
        int word = m->words ? word_find(m->words, value) : -1;
        words_join(m->words ? m->words : keys, list, sizeof list);
        if (m->words && word < 0)
            return err_set(e, ERR_INPUT, at, "pattern %s: %s: '%s' is not one of: %s",
                           pattern_names[p->kind], key, value, list);
        if (m->words)
            number = word;
        else if (!qty_parse(value, QTY_NUMBER, key, at, &number, e))
            return false;
        if (!(number >= m->least && number <= m->most) || (m->whole && number != floor(number)))
            return err_set(e, ERR_INPUT, at,
                           "pattern %s: %s: '%s' is out of range; want a %snumber from %g to %g",
                           pattern_names[p->kind], key, value, m->whole ? "whole " : "", m->least,
                           m->most);
        *param_of(p, m) = number;
        return true;
    }
    words_join(keys, list, sizeof list);
    return err_set(e, ERR_INPUT, at, "pattern %s has no parameter '%s'; it has: %s",
                   pattern_names[p->kind], key, list);
}

static const char *preset_text(const char *name)
{
    for (int i = 0; pattern_presets[i].name; i++)
        if (strcmp(pattern_presets[i].name, name) == 0)
            return pattern_presets[i].text;
    return NULL;
}

static bool kind_find(const char *name, struct err_at at, enum pattern_kind *kind, struct err *e)
{
    int found = word_find(pattern_names, name);
    char list[256];
    if (found < 0) {
        words_join(pattern_names, list, sizeof list);
        return err_set(e, ERR_INPUT, at,
                       "no pattern '%s'; there are %s and presets such as dsv, wa-m, sta", name,
                       list);
    }
    *kind = (enum pattern_kind)found;
    return true;
}

/* "key=value,key=value": cut in place. */
static bool params_read(char *list, struct err_at at, struct pattern *p, struct err *e)
{
    char *save = NULL;
    for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(item, '=');
        if (!equals)
            return err_set(e, ERR_INPUT, at, "pattern %s: '%s': want key=value",
                           pattern_names[p->kind], item);
        *equals = '\0';
        if (!param_set(p, item, equals + 1, at, e))
            return false;
    }
    return true;
}

bool pattern_parse(const char *text, struct err_at at, struct pattern *out, struct err *e)
{
    char copy[512];
    if (strlen(text) >= sizeof copy)
        return err_set(e, ERR_INPUT, at, "a pattern of %zu characters; want at most %zu",
                       strlen(text), sizeof copy - 1);
    strcpy(copy, text);
    char *colon = strchr(copy, ':');
    if (colon)
        *colon = '\0';
    struct pattern p;
    const char *preset = preset_text(copy);
    if (preset) {
        if (!pattern_parse(preset, at, &p, e))
            return false;
    } else {
        enum pattern_kind kind = PATTERN_DENSE;
        if (!kind_find(copy, at, &kind, e))
            return false;
        p = pattern_default(kind);
    }
    if (colon && !params_read(colon + 1, at, &p, e))
        return false;
    *out = p;
    return true;
}

void pattern_text(const struct pattern *p, char *text, size_t size)
{
    struct pattern start = pattern_default(p->kind), mine = *p;
    int n = snprintf(text, size, "%s", pattern_names[p->kind]);
    char mark = ':';
    for (int i = 0; i < PARAMS && n >= 0 && (size_t)n < size; i++) {
        double v = *param_of(&mine, &params[i]);
        if (!(params[i].kinds >> p->kind & 1) || isnan(v) || v == *param_of(&start, &params[i]))
            continue;
        n += params[i].words
                 ? snprintf(text + n, size - (size_t)n, "%c%s=%s", mark, params[i].key,
                            params[i].words[(int)v])
                 : snprintf(text + n, size - (size_t)n, "%c%s=%.9g", mark, params[i].key, v);
        mark = ',';
    }
}

bool pattern_check(const struct pattern *p, struct grid grid, struct err_at at, struct err *e)
{
    const double window[3] = {p->t, p->h, p->w};
    const int tokens[3] = {grid.t, grid.h, grid.w};
    bool windowed =
        p->kind == PATTERN_WINDOW || p->kind == PATTERN_TILE || p->kind == PATTERN_LOCAL;
    for (int i = 0; i < 3 && windowed; i++)
        if (window[i] > tokens[i])
            return err_set(e, ERR_INPUT, at, "a window of %g tokens along axis %c, which has %d",
                           window[i], "thw"[i], tokens[i]);
    if (p->kind == PATTERN_CHUNK && p->global > grid.t)
        return err_set(e, ERR_INPUT, at, "%g global frames of a clip with %d", p->global, grid.t);
    return true;
}

double pattern_coarse_keep(const struct pattern *p)
{
    return p->coarse > 0 ? 1.0 / (p->coarse * p->coarse) : 0.0;
}
