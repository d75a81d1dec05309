/* Presets and names with random damage: each is read or refused with a message, and what is read
 * obeys the limits that the headers promise. The sanitizers of the dev build watch. */
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/preset.h"
#include "base/rng.h"
#include "model/dit.h"
#include "model/dit_diffusers.h"
#include "model/hw.h"
#include "model/kernel.h"

enum { ROUNDS = 4000, TEXT_MOST = 4096 };

static bool model_is_sane(const struct dit_model *m)
{
    struct grid g;
    struct err e = {0};
    bool in_limits = dit_blocks(m) >= 1 && dit_blocks(m) <= DIT_BLOCKS_MAX && m->heads >= 1 &&
                     m->heads <= DIT_HEADS_MAX && m->kv_heads >= 1 && m->head_dim >= 1 &&
                     m->frames.chunk >= m->frames.latents && m->params > 0;
    bool grid = dit_grid(m, (struct clip){720, 1280, 129}, err_at_name("clip"), &g, &e);
    return in_limits && (grid ? grid_tokens(g) > 0 && grid_tokens(g) <= DIT_TOKENS_MAX
                              : e.code == ERR_INPUT && e.text[0] != '\0');
}

static bool read_model(const struct cfg *map, struct arena *a, struct err *e)
{
    const struct dit_model *m = dit_read(map, a, e);
    gsl_test(m && !model_is_sane(m), "a model that was read is sane");
    return m != NULL;
}

static bool read_diffusers(const struct cfg *map, struct arena *a, struct err *e)
{
    const struct dit_model *m = dit_of_diffusers(map, a, e);
    gsl_test(m && !model_is_sane(m), "a model that was read is sane");
    return m != NULL;
}

static bool read_cluster(const struct cfg *map, struct arena *a, struct err *e)
{
    const struct hw_cluster *c = hw_cluster_read(map, a, e);
    gsl_test(c && !(hw_gpus(c) >= 1 && hw_gpus(c) <= HW_GPUS_MAX && hw_nic_bytes_per_s(c) > 0 &&
                    hw_nvlink_bytes_per_s(c) > 0),
             "a cluster that was read is sane");
    return c != NULL;
}

static bool read_kernels(const struct cfg *map, struct arena *a, struct err *e)
{
    struct hw_gpu gpu = {.bf16_flop_per_s = 1e15, .hbm_bytes_per_s = 1e12};
    const struct kern_profile *k = kern_read(map, a, e);
    double s = k ? kern_breakeven(k, &k->dense, &gpu, 64000, 128, 32, true) : 0;
    gsl_test(!(s >= 0 && s <= 2), "a profile that was read has a break-even: %g", s);
    return k != NULL;
}

struct kind {
    const char *name, *preset; /* or the text itself, which begins with a brace */
    bool (*read)(const struct cfg *map, struct arena *a, struct err *e);
};
static const char wan_config[] =
    "{\"_class_name\": \"WanTransformer3DModel\", \"patch_size\": [1, 2, 2], \"ffn_dim\": 13824, "
    "\"num_layers\": 40, \"num_attention_heads\": 40, \"attention_head_dim\": 128, "
    "\"in_channels\": 16, \"image_dim\": null, \"added_kv_proj_dim\": null, \"text_dim\": 4096}\n";
static const char hunyuan_config[] =
    "{\"_class_name\": \"HunyuanVideoTransformer3DModel\", \"mlp_ratio\": 4.0, \"num_layers\": 20, "
    "\"num_single_layers\": 40, \"num_attention_heads\": 24, \"patch_size\": 2, "
    "\"patch_size_t\": 1, \"num_refiner_layers\": 2, \"pooled_projection_dim\": 768}\n";
static const struct kind kinds[] = {
    {"model", "hunyuanvideo-13b", read_model}, {"model", "step-video-t2v-30b", read_model},
    {"diffusers", wan_config, read_diffusers}, {"diffusers", hunyuan_config, read_diffusers},
    {"cluster", "h100", read_cluster},         {"kernel", "fa3+dsv", read_kernels}};

static size_t load_text(const struct kind *k, char *text, struct arena *a)
{
    struct err e = {0};
    if (*k->preset == '{')
        return strlen(strcpy(text, k->preset));
    const char *path = preset_find(k->name, k->preset, err_at_name(k->name), a, &e);
    FILE *in = path ? fopen(path, "r") : NULL;
    size_t n = in ? fread(text, 1, TEXT_MOST - 64, in) : 0;
    if (in)
        fclose(in);
    if (k->read == read_cluster) /* a preset has no nodes: its name gives them */
        n += (size_t)snprintf(text + n, 64, "nodes: 4\n");
    return n;
}

/* One to three small damages: a byte, a digit, a cut, a doubled stretch. */
static size_t damage(char *text, size_t n, struct rng *r)
{
    for (uint64_t left = 1 + rng_below(r, 3); left > 0 && n > 8; left--) {
        size_t at = rng_below(r, n - 8), length = 1 + rng_below(r, 7);
        switch (rng_below(r, 4)) {
        case 0:
            text[at] = (char)rng_below(r, 256);
            break;
        case 1:
            text[at] = "0123456789-.eE%kMGT{}[]:,\n"[rng_below(r, 27)];
            break;
        case 2:
            memmove(text + at, text + at + length, n - at - length);
            n -= length;
            break;
        default:
            memmove(text + at, text + rng_below(r, n - 8), length);
        }
    }
    return n;
}

static void damaged_presets_are_read_or_refused(void)
{
    struct arena *keep = arena_new(), *a = arena_new();
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char text[TEXT_MOST], broken[TEXT_MOST];
        size_t n = load_text(&kinds[i], text, keep);
        gsl_test(n < 100, "%s is there", kinds[i].preset);
        for (uint64_t round = 0; round < ROUNDS && n >= 100; round++) {
            struct rng r = rng_stream(1, kinds[i].preset, round, 0, 0);
            struct err e = {0};
            memcpy(broken, text, n);
            size_t m = round == 0 ? n : damage(broken, n, &r);
            const struct cfg *map = cfg_read_text("t.yaml", broken, m, a, &e);
            bool read = map && kinds[i].read(map, a, &e);
            gsl_test(read ? e.code != ERR_NONE : e.code != ERR_INPUT || !strchr(e.text, ' '),
                     "%s, round %d: read, or refused as input: %s", kinds[i].preset, (int)round,
                     e.text);
            gsl_test(round == 0 && !read, "%s without damage: %s", kinds[i].preset, e.text);
            arena_reset(a);
        }
    }
    arena_free(a);
    arena_free(keep);
}

static void damaged_names_are_read_or_refused(void)
{
    struct arena *a = arena_new();
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct rng r = rng_stream(1, "names", round, 0, 0);
        char name[32] = "12x8-h100-400g";
        size_t n = damage(name, strlen(name), &r);
        name[n] = '\0';
        struct err e = {0};
        const struct hw_cluster *c = hw_cluster_load(name, err_at_name("--cluster"), a, &e);
        gsl_test(c ? hw_gpus(c) < 1 || hw_gpus(c) > HW_GPUS_MAX : e.code == ERR_NONE, "'%s': %s",
                 name, e.text);
        arena_reset(a);
    }
    arena_free(a);
}

int main(void)
{
    damaged_presets_are_read_or_refused();
    damaged_names_are_read_or_refused();
    return gsl_test_summary();
}
