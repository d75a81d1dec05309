/* GPUs and clusters: presets, the grammar of cluster names, files of the user's own, and what bad
 * input says. */
#include "model/hw.h"

#include <gsl/gsl_test.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/preset.h"
#include "tests/model/broken.h"

static struct arena *arena;

static struct hw_cluster cluster(const char *name)
{
    struct err e = {0};
    const struct hw_cluster *c = hw_cluster_load(name, err_at_name("--cluster"), arena, &e);
    gsl_test(c == NULL, "cluster %s loads: %s", name, e.text);
    return c ? *c
             : (struct hw_cluster){.name = "", .gpu.name = "", .gpus_per_nic = 1, .source = ""};
}

/* Dense bf16 peak, memory bandwidth and NVLink of one direction, from the data sheets. */
static void gpus_have_their_data_sheets_numbers(void)
{
    static const struct {
        const char *name;
        double tflops, hbm_tb, memory_gib, nvlink_gb;
    } sheet[] = {
        {"h100", 989.4, 3.35, 80, 450}, {"h800", 989.4, 3.35, 80, 200},
        {"h200", 989.4, 4.8, 141, 450}, {"a100", 312, 2.039, 80, 300},
        {"a800", 312, 2.039, 80, 200},  {"h20", 148, 4.0, 96, 450},
        {"b200", 2250, 8, 180, 900},
    };
    for (size_t i = 0; i < sizeof sheet / sizeof sheet[0]; i++) {
        struct hw_cluster c = cluster(arena_printf(arena, "1x8-%s", sheet[i].name));
        gsl_test_rel(c.gpu.bf16_flop_per_s, sheet[i].tflops * 1e12, 1e-12, "%s bf16",
                     sheet[i].name);
        gsl_test_rel(c.gpu.hbm_bytes_per_s, sheet[i].hbm_tb * 1e12, 1e-12, "%s HBM", sheet[i].name);
        gsl_test_rel(c.gpu.memory_bytes / 0x1p30, sheet[i].memory_gib, 0.01,
                     "%s memory, GiB for the sheet's GB", sheet[i].name);
        gsl_test_rel(c.nvlink.bytes_per_s, sheet[i].nvlink_gb * 1e9, 1e-12,
                     "%s NVLink, one direction", sheet[i].name);
    }
}

static void every_preset_loads_and_names_its_source(void)
{
    struct err e = {0};
    const char **gpus = preset_list("gpu", arena, &e),
               **clusters = preset_list("cluster", arena, &e);
    gsl_test(!gpus || !clusters, "presets are listed: %s", e.text);
    for (; gpus && *gpus; gpus++) {
        const struct hw_gpu *g = hw_gpu_load(*gpus, err_at_name("gpu"), arena, &e);
        gsl_test(!g || strcmp(g->name, *gpus) != 0 || strlen(g->source) < 10, "GPU %s: %s", *gpus,
                 e.text);
    }
    for (; clusters && *clusters; clusters++) {
        struct hw_cluster c = cluster(arena_printf(arena, "2x8-%s", *clusters));
        gsl_test(strcmp(c.gpu.name, *clusters) != 0 || strlen(c.source) < 10, "cluster %s",
                 *clusters);
        gsl_test(!(c.nvlink.efficiency > 0.3 && c.nvlink.efficiency < 1) ||
                     !(c.nvlink.latency_s < 1e-4),
                 "%s: NVLink", *clusters);
    }
}

/* Each number of these files carries a comment that says where it is from. */
static void every_number_of_a_preset_has_a_comment(const char *kind)
{
    const char **names = preset_list(kind, arena, &(struct err){0});
    for (; names && *names; names++) {
        const char *path = preset_find(kind, *names, err_at_name(kind), arena, &(struct err){0});
        FILE *in = fopen(path, "r");
        char line[1000];
        while (in && fgets(line, sizeof line, in)) {
            const char *value = strstr(line, ": ");
            bool number = value && strchr("0123456789[{", value[2]) &&
                          strncmp(line, "gpus_per_node", 13) != 0;
            gsl_test(number && !strstr(line, "   # "), "%s: %.40s", path, line);
        }
        gsl_test(in == NULL, "%s opens", path);
        if (in)
            fclose(in);
    }
}

static void a_name_gives_nodes_gpus_and_the_rate_of_each_gpu(void)
{
    static const char *const gpus[] = {"h100", "h800", "h200"};
    static const int nodes[] = {1, 2, 4, 16}, rates[] = {200, 400};
    for (int g = 0; g < 3; g++)
        for (int n = 0; n < 4; n++)
            for (int r = 0; r < 2; r++) {
                const char *name = arena_printf(arena, "%dx8-%s-%dg", nodes[n], gpus[g], rates[r]);
                struct hw_cluster c = cluster(name);
                gsl_test(strcmp(c.name, name) != 0, "%s is its name: %s", name, c.name);
                gsl_test(hw_gpus(&c) != nodes[n] * 8 || c.gpus_per_node != 8, "%s has %d GPUs",
                         name, nodes[n] * 8);
                gsl_test_rel(c.nic.bytes_per_s, rates[r] * 1e9 / 8, 1e-12, "%s: Gb/s are bits",
                             name);
            }
    struct hw_cluster odd = cluster("3X5-H100-12.5G");
    gsl_test(hw_gpus(&odd) != 15 || strcmp(odd.name, "3x5-h100-12.5g") != 0,
             "any counts, any rate, any case: %s", odd.name);
    gsl_test(strcmp(cluster("1x8-h100").name, "1x8-h100-400g") != 0, "the preset's first rate");
    gsl_test(strcmp(cluster("1x8-a100").name, "1x8-a100-200g") != 0, "an A100 node has 200 Gb/s");
}

static void a_wrong_name_says_what_is_wrong(void)
{
    static const struct {
        const char *name, *says;
    } wrong[] = {
        {"", "want NODESxGPUS-GPU-RATEg"},
        {"h100", "want NODESxGPUS-GPU-RATEg"},
        {"2x-h100", "want NODESxGPUS-GPU-RATEg"},
        {"2x8-", "want NODESxGPUS-GPU-RATEg"},
        {"2x8_h100", "want NODESxGPUS-GPU-RATEg"},
        {"-2x8-h100", "want NODESxGPUS-GPU-RATEg"},
        {"0x8-h100", "count from 1"},
        {"2x0-h100", "count from 1"},
        {"2x9-h100-400g", "a node has 8 GPUs of this kind, not 9"},
        {"2x99999999999999999999-h100", "a node has 8 GPUs of this kind"},
        {"131073x8-h100", "more than 1048576 GPUs"},
        {"99999999999999999999x8-h100", "more than 1048576 GPUs"},
        {"2x8-h100-0g", "want a rate above 0"},
        {"2x8-h100-99999999g", "want a rate above 0"},
        {"2x8-h100-1.2.3g", "--cluster"},
        {"2x8-h10-400g", "h100"},
        {"2x8-h100-400", "h100-400"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct err e = {0};
        gsl_test(hw_cluster_load(wrong[i].name, err_at_name("--cluster"), arena, &e) != NULL ||
                     !says(&e, wrong[i].says),
                 "'%s': %s", wrong[i].name, e.text);
    }
}

static void a_gpu_gets_its_share_of_the_links(void)
{
    struct hw_cluster c = {.nvlink = {0, 450e9, 0.8}, .nic = {0, 50e9, 0.9}, .gpus_per_nic = 2};
    gsl_test_rel(hw_nvlink_bytes_per_s(&c), 360e9, 1e-12, "450 GB/s x 80%%");
    gsl_test_rel(hw_nic_bytes_per_s(&c), 22.5e9, 1e-12, "50 GB/s x 90%% for two GPUs");
}

static void a_part_of_a_cluster_is_whole_nodes_or_a_share_of_one(void)
{
    struct hw_cluster c = cluster("4x8-h100-400g"), out = {0};
    struct err e = {0};
    gsl_test(!hw_cluster_take(&c, 16, &out, arena, err_at_name("--gpus"), &e) || out.nodes != 2 ||
                 out.gpus_per_node != 8,
             "16 of 32 are two nodes: %s", e.text);
    gsl_test(!hw_cluster_take(&c, 4, &out, arena, err_at_name("--gpus"), &e) || out.nodes != 1 ||
                 out.gpus_per_node != 4,
             "4 of 32 are half a node");
    gsl_test(!hw_cluster_take(&c, 32, &out, arena, err_at_name("--gpus"), &e) ||
                 strcmp(out.name, c.name) != 0,
             "all of it is itself");
    static const int wrong[] = {0, -8, 3, 12, 33, 64};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct err w = {0};
        gsl_test(hw_cluster_take(&c, wrong[i], &out, arena, err_at_name("--gpus"), &w) ||
                     !says(&w, "--gpus: "),
                 "%d of 32: %s", wrong[i], w.text);
    }
}

static const char right[] =
    "name: ours\n"
    "source: our rack\n"
    "gpu: h100\n"
    "nodes: 3\n"
    "gpus_per_node: 4\n"
    "nvlink: {rate: 450 GB/s, latency: 8 us, efficiency: 0.7}\n"
    "nic: {rate: 100 Gb/s, latency: 20 us, efficiency: 90%, gpus_per_nic: 2}\n"
    "pcie: 64 GB/s\n"
    "usd_per_gpu_hour: 2.5\n";

static const struct hw_cluster *read_text(const char *text, struct err *e)
{
    const struct cfg *map = cfg_read_text("t.yaml", text, strlen(text), arena, e);
    return map ? hw_cluster_read(map, arena, e) : NULL;
}

static void a_file_of_the_users_own_is_read(void)
{
    struct err e = {0};
    const struct hw_cluster *c = read_text(right, &e);
    gsl_test(!c, "the file is right: %s", e.text);
    if (!c)
        return;
    gsl_test(hw_gpus(c) != 12 || strcmp(c->name, "ours") != 0 || c->gpus_per_nic != 2,
             "12 GPUs, two on each NIC");
    gsl_test_rel(hw_nic_bytes_per_s(c), 100e9 / 8 * 0.9 / 2, 1e-12,
                 "each GPU has half of 100 Gb/s");
    gsl_test_rel(c->usd_per_gpu_hour, 2.5, 1e-12, "its price");
}

static void a_file_by_path_takes_its_name_from_the_file(void)
{
    struct hw_cluster c = cluster("tests/model/small.yaml");
    gsl_test(strcmp(c.name, "small") != 0 || strcmp(c.gpu.name, "tiny") != 0 || hw_gpus(&c) != 2,
             "tests/model/small.yaml");
    gsl_test_rel(c.nic.bytes_per_s, 25e9 / 8, 1e-12, "a list of rates gives its first");
}

static void a_wrong_field_is_named_with_its_place(void)
{
    static const struct {
        const char *line, *says;
    } wrong[] = {
        {"nvlink: {rate: 450 GB, latency: 8 us, efficiency: 0.7}",
         "t.yaml:6:16: nvlink.rate: '450 GB' is a size, want a rate"},
        {"nvlink: {rate: 0 GB/s, latency: 8 us, efficiency: 0.7}",
         "t.yaml:6:16: nvlink.rate: '0 GB/s' is not above zero"},
        {"nvlink: {rate: -1 GB/s, latency: 8 us, efficiency: 0.7}", "t.yaml:6:16: "},
        {"nvlink: {rate: 450 GB/s, latency: 8 us, efficiency: 1.2}", "more than the whole"},
        {"nvlink: {rate: 450 GB/s, latency: 8, efficiency: 0.7}", "t.yaml:6:35: "},
        {"nvlink: {rat: 450 GB/s, latency: 8 us, efficiency: 0.7}", "rate"},
        {"nvlink: none", "nvlink: want a map"},
        {"nic: {latency: 20 us, efficiency: 90%}", "rate"},
        {"nic: {rates: [], latency: 20 us, efficiency: 90%}", "at least one rate"},
        {"nic: {rate: 1 Gb/s, rates: [1 Gb/s], latency: 20 us, efficiency: 90%}",
         "both rate and rates"},
        {"nic: {rate: 1 Gb/s, latency: 20 us, efficiency: 90%, gpus_per_nic: 5}", "t.yaml:7:68: "},
        {"gpu: h10", "t.yaml:3:6: "},
        {"gpu: [h100]", "t.yaml:3:6: "},
        {"gpu: {name: x, flops: 1 TFLOP/s}", "t.yaml:3:"},
        {"nodes: 0", "t.yaml:4:8: "},
        {"nodes: 2.5", "t.yaml:4:8: "},
        {"nodes: 1000000", "t.yaml:4:8: "},
        {"gpus_per_node: -8", "t.yaml:5:16: "},
        {"usd_per_gpu_hour: nan", "t.yaml:9:19: "},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct err e = {0};
        gsl_test(read_text(broken(right, wrong[i].line, arena), &e) != NULL ||
                     !says(&e, wrong[i].says),
                 "%s: %s", wrong[i].line, e.text);
    }
    struct err e = {0};
    gsl_test(read_text(arena_printf(arena, "%snode: 3\n", right), &e) != NULL || !says(&e, "nodes"),
             "unknown key: %s", e.text);
}

static bool links_equal(struct hw_link a, struct hw_link b)
{
    return a.latency_s == b.latency_s && a.bytes_per_s == b.bytes_per_s &&
           a.efficiency == b.efficiency;
}

static bool clusters_equal(const struct hw_cluster *a, const struct hw_cluster *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->source, b->source) == 0 &&
           strcmp(a->gpu.name, b->gpu.name) == 0 && strcmp(a->gpu.source, b->gpu.source) == 0 &&
           a->gpu.bf16_flop_per_s == b->gpu.bf16_flop_per_s &&
           a->gpu.memory_bytes == b->gpu.memory_bytes &&
           a->gpu.hbm_bytes_per_s == b->gpu.hbm_bytes_per_s && a->gpu.sm_count == b->gpu.sm_count &&
           a->nodes == b->nodes && a->gpus_per_node == b->gpus_per_node &&
           links_equal(a->nvlink, b->nvlink) && links_equal(a->nic, b->nic) &&
           a->gpus_per_nic == b->gpus_per_nic && a->pcie_bytes_per_s == b->pcie_bytes_per_s &&
           a->usd_per_gpu_hour == b->usd_per_gpu_hour;
}

static void a_written_cluster_reads_back_the_same(void)
{
    static const char *const names[] = {"1x8-h100", "4x8-h800-200g", "3x5-b200-33.3g",
                                        "tests/model/small.yaml"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct err e = {0};
        struct hw_cluster c = cluster(names[i]);
        c.nvlink.efficiency = 1 / 3.0;
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        struct json j = json_to(out);
        hw_cluster_json(&c, &j, NULL);
        fclose(out);
        const struct cfg *map = cfg_read_text("plan.json", text, size, arena, &e);
        const struct hw_cluster *back = map ? hw_cluster_read(map, arena, &e) : NULL;
        gsl_test(!back || !clusters_equal(&c, back), "%s survives: %s", names[i], e.text);
        free(text);
    }
}

int main(void)
{
    arena = arena_new();
    gpus_have_their_data_sheets_numbers();
    every_preset_loads_and_names_its_source();
    every_number_of_a_preset_has_a_comment("gpu");
    every_number_of_a_preset_has_a_comment("cluster");
    every_number_of_a_preset_has_a_comment("kernel");
    a_name_gives_nodes_gpus_and_the_rate_of_each_gpu();
    a_wrong_name_says_what_is_wrong();
    a_gpu_gets_its_share_of_the_links();
    a_part_of_a_cluster_is_whole_nodes_or_a_share_of_one();
    a_file_of_the_users_own_is_read();
    a_file_by_path_takes_its_name_from_the_file();
    a_wrong_field_is_named_with_its_place();
    a_written_cluster_reads_back_the_same();
    arena_free(arena);
    return gsl_test_summary();
}
