#include "model/hw.h"

#include <string.h>

#include "model/read.h"

static const char *const gpu_keys[] = {"name", "source", "bf16",  "memory",
                                       "hbm",  "sms",    "curve", NULL};
static const char *const cluster_keys[] = {
    "name", "source",           "gpu", "nodes", "gpus_per_node", "nvlink", "nic",
    "pcie", "usd_per_gpu_hour", "net", NULL};
static const char *const nvlink_keys[] = {"rate", "latency", "efficiency", NULL};
static const char *const nic_keys[] = {"rate",       "rates",        "latency",
                                       "efficiency", "gpus_per_nic", NULL};

int hw_gpus(const struct hw_cluster *c)
{
    return c->nodes * c->gpus_per_node;
}

const char *hw_net_name(const struct hw_cluster *c)
{
    return c->net_name ? c->net_name : c->gpu.name;
}

const char *hw_curve_name(const struct hw_gpu *g)
{
    return g->curve ? g->curve : g->name;
}

double hw_nvlink_bytes_per_s(const struct hw_cluster *c)
{
    return c->nvlink.bytes_per_s * c->nvlink.efficiency;
}

double hw_nic_bytes_per_s(const struct hw_cluster *c)
{
    return c->nic.bytes_per_s * c->nic.efficiency / c->gpus_per_nic;
}

static bool gpu_read(const struct cfg *map, struct arena *a, struct hw_gpu *out, struct err *e)
{
    struct hw_gpu g = {.name = cfg_text_or(map, "name", read_stem(map->at.file, a))};
    if (!cfg_text(map, "source", &g.source, e) ||
        !read_positive(map, "bf16", QTY_FLOP_PER_S, &g.bf16_flop_per_s, e) ||
        !read_positive(map, "memory", QTY_BYTES, &g.memory_bytes, e) ||
        !read_positive(map, "hbm", QTY_BYTES_PER_S, &g.hbm_bytes_per_s, e) ||
        !read_int(map, "sms", 1, 100000, &g.sm_count, e) ||
        !read_name_if(map, "curve", &g.curve, a, e))
        return false;
    *out = g;
    return true;
}

const struct hw_gpu *hw_gpu_load(const char *name, struct err_at at, struct arena *a, struct err *e)
{
    const struct cfg *map = read_preset("gpu", name, gpu_keys, at, a, e);
    struct hw_gpu *g = ARENA_NEW(a, struct hw_gpu);
    return map && gpu_read(map, a, g, e) ? g : NULL;
}

/* `gpu:` names a preset or a file, or is a GPU itself. */
static bool cluster_gpu(const struct cfg *map, struct arena *a, struct hw_gpu *out, struct err *e)
{
    const struct cfg *node = cfg_need(map, "gpu", e);
    if (!node)
        return false;
    if (node->kind == CFG_MAP)
        return cfg_check_keys(node, gpu_keys, e) && gpu_read(node, a, out, e);
    const char *name;
    const struct hw_gpu *g =
        read_name_if(map, "gpu", &name, a, e) ? hw_gpu_load(name, node->at, a, e) : NULL;
    if (g)
        *out = *g;
    return g != NULL;
}

static bool link_read(const struct cfg *map, struct hw_link *l, struct err *e)
{
    return cfg_qty(map, "latency", QTY_SECONDS, &l->latency_s, e) &&
           read_share(map, "efficiency", &l->efficiency, e);
}

/* A file of the user's own gives the NIC's rate; a preset gives those it is sold with, the usual
 * one first. */
static bool nic_rate(const struct cfg *map, struct arena *a, double *rate, struct err *e)
{
    if (!cfg_get(map, "rates"))
        return read_positive(map, "rate", QTY_BYTES_PER_S, rate, e);
    double *rates;
    int count;
    if (cfg_get(map, "rate"))
        return err_set(e, ERR_INPUT, cfg_get(map, "rate")->at,
                       "nic: has both rate and rates, want one of them");
    if (!cfg_qty_list(map, "rates", QTY_BYTES_PER_S, a, &rates, &count, e))
        return false;
    if (count < 1 || !(rates[0] > 0))
        return err_set(e, ERR_INPUT, cfg_get(map, "rates")->at,
                       "rates: want at least one rate above zero");
    *rate = rates[0];
    return true;
}

static bool cluster_links(const struct cfg *map, struct arena *a, struct hw_cluster *c,
                          struct err *e)
{
    const struct cfg *nvlink = read_map(map, "nvlink", nvlink_keys, e);
    const struct cfg *nic = nvlink ? read_map(map, "nic", nic_keys, e) : NULL;
    return nic && read_positive(nvlink, "rate", QTY_BYTES_PER_S, &c->nvlink.bytes_per_s, e) &&
           link_read(nvlink, &c->nvlink, e) && nic_rate(nic, a, &c->nic.bytes_per_s, e) &&
           link_read(nic, &c->nic, e) &&
           read_int_or(nic, "gpus_per_nic", 1, c->gpus_per_node, 1, &c->gpus_per_nic, e) &&
           read_positive(map, "pcie", QTY_BYTES_PER_S, &c->pcie_bytes_per_s, e);
}

/* All of a cluster but the number of nodes. */
static bool node_read(const struct cfg *map, struct arena *a, struct hw_cluster *c, struct err *e)
{
    c->name = cfg_text_or(map, "name", read_stem(map->at.file, a));
    return cfg_text(map, "source", &c->source, e) && cluster_gpu(map, a, &c->gpu, e) &&
           read_int(map, "gpus_per_node", 1, HW_GPUS_MAX, &c->gpus_per_node, e) &&
           cluster_links(map, a, c, e) && read_name_if(map, "net", &c->net_name, a, e) &&
           cfg_qty_or(map, "usd_per_gpu_hour", QTY_NUMBER, 0, &c->usd_per_gpu_hour, e);
}

static const struct hw_cluster *cluster_read(const struct cfg *map, struct arena *a, struct err *e)
{
    struct hw_cluster *c = ARENA_NEW(a, struct hw_cluster);
    return node_read(map, a, c, e) &&
                   read_int(map, "nodes", 1, HW_GPUS_MAX / c->gpus_per_node, &c->nodes, e)
               ? c
               : NULL;
}

const struct hw_cluster *hw_cluster_read(const struct cfg *map, struct arena *a, struct err *e)
{
    if (map->kind != CFG_MAP)
        return err_set(e, ERR_INPUT, map->at, "cluster: want a map with keys such as 'gpu'"), NULL;
    return cfg_check_keys(map, cluster_keys, e) ? cluster_read(map, a, e) : NULL;
}

/* NxM-GPU[-RATEg] taken apart. */
struct cluster_name {
    int64_t nodes, gpus_per_node;
    const char *gpu;
    double gbit_per_s; /* 0: not given */
};

/* "-400g" at the end of `text`: where it begins, or NULL. */
static const char *rate_begin(const char *text)
{
    const char *dash = strrchr(text, '-');
    size_t length = dash ? strlen(dash) : 0;
    if (length < 3 || (dash[length - 1] != 'g' && dash[length - 1] != 'G'))
        return NULL;
    return strspn(dash + 1, "0123456789.") == length - 2 ? dash : NULL;
}

static bool name_rate(const char *begin, struct err_at at, struct arena *a, double *gbit_per_s,
                      struct err *e)
{
    char *number = arena_strndup(a, begin + 1, strlen(begin) - 2);
    if (!qty_parse(number, QTY_NUMBER, "the Gb/s per GPU of a cluster's name", at, gbit_per_s, e))
        return false;
    if (*gbit_per_s > 0 && *gbit_per_s <= 1e6)
        return true;
    return err_set(e, ERR_INPUT, at,
                   "'%s': want a rate above 0 and up to 1000000 Gb/s per GPU, such as -400g",
                   begin);
}

static bool name_parse(const char *text, struct err_at at, struct arena *a,
                       struct cluster_name *out, struct err *e)
{
    const char *s = text;
    struct cluster_name n = {0};
    if (!read_count(&s, &n.nodes) || (*s != 'x' && *s != 'X') ||
        (s++, !read_count(&s, &n.gpus_per_node)) || *s != '-' || s[1] == '\0')
        return err_set(e, ERR_INPUT, at,
                       "'%.60s' is not a cluster, want NODESxGPUS-GPU-RATEg such as "
                       "'2x8-h100-400g', or a file such as "
                       "'mine.yaml'",
                       text);
    const char *rate = rate_begin(s + 1);
    if (rate && !name_rate(rate, at, a, &n.gbit_per_s, e))
        return false;
    n.gpu = arena_strndup(a, s + 1, rate ? (size_t)(rate - s - 1) : strlen(s + 1));
    *out = n;
    return true;
}

/* Counts of a name against the node they are made of. */
static bool name_counts(const char *text, const struct cluster_name *n, int node_gpus,
                        struct err_at at, struct err *e)
{
    if (n->nodes < 1 || n->gpus_per_node < 1)
        return err_set(e, ERR_INPUT, at, "'%.60s': nodes and GPUs per node count from 1", text);
    if (n->gpus_per_node > node_gpus)
        return err_set(e, ERR_INPUT, at, "'%.60s': a node has %d GPUs of this kind, not %lld", text,
                       node_gpus, (long long)n->gpus_per_node);
    if (n->nodes > HW_GPUS_MAX / n->gpus_per_node)
        return err_set(e, ERR_INPUT, at, "'%.60s': more than %d GPUs", text, HW_GPUS_MAX);
    return true;
}

static const char *name_text(const struct hw_cluster *c, const char *gpu, struct arena *a)
{
    return arena_printf(a, "%dx%d-%s-%gg", c->nodes, c->gpus_per_node, gpu,
                        c->nic.bytes_per_s / c->gpus_per_nic * 8 / 1e9);
}

static const struct hw_cluster *cluster_compose(const char *text, struct err_at at, struct arena *a,
                                                struct err *e)
{
    struct cluster_name n = {0};
    if (!name_parse(text, at, a, &n, e))
        return NULL;
    const struct cfg *map = read_preset("cluster", n.gpu, cluster_keys, at, a, e);
    struct hw_cluster *c = ARENA_NEW(a, struct hw_cluster);
    if (!map || !node_read(map, a, c, e) || !name_counts(text, &n, c->gpus_per_node, at, e))
        return NULL;
    c->nodes = (int)n.nodes;
    c->gpus_per_node = (int)n.gpus_per_node;
    if (c->gpus_per_nic > c->gpus_per_node)
        c->gpus_per_nic = c->gpus_per_node;
    if (n.gbit_per_s > 0)
        c->nic.bytes_per_s = n.gbit_per_s * 1e9 / 8 * c->gpus_per_nic;
    c->name = name_text(c, read_stem(map->at.file, a), a);
    return c;
}

/* As base/preset.h tells names from paths. */
static bool is_path(const char *name)
{
    static const char *const ends[] = {".yaml", ".yml", ".json"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (length > strlen(ends[i]) && strcmp(name + length - strlen(ends[i]), ends[i]) == 0)
            return true;
    return strchr(name, '/') != NULL;
}

const struct hw_cluster *hw_cluster_load(const char *name, struct err_at at, struct arena *a,
                                         struct err *e)
{
    if (!is_path(name))
        return cluster_compose(name, at, a, e);
    const struct cfg *map = read_preset("cluster", name, cluster_keys, at, a, e);
    return map ? cluster_read(map, a, e) : NULL;
}

/* Names the counts on either side that can be taken. */
static bool refuse_part(const struct hw_cluster *c, int gpus, struct err_at at, struct err *e)
{
    int node = c->gpus_per_node, below = gpus / node * node, above = below + node;
    if (gpus < node) {
        for (below = gpus; node % below != 0; below--)
            ;
        for (above = gpus; node % above != 0; above++)
            ;
    }
    return err_set(e, ERR_INPUT, at,
                   "%d GPUs are neither whole nodes of '%s' nor an equal part of one: a node has "
                   "%d; nearest are %d and %d (nodes that have fewer are a cluster of their own)",
                   gpus, c->name, node, below, above);
}

bool hw_cluster_take(const struct hw_cluster *c, int gpus, struct hw_cluster *out, struct arena *a,
                     struct err_at at, struct err *e)
{
    int node = c->gpus_per_node;
    if (gpus < 1 || gpus > hw_gpus(c))
        return err_set(e, ERR_INPUT, at, "%d GPUs: '%s' has %d", gpus, c->name, hw_gpus(c));
    if (gpus > node ? gpus % node != 0 : node % gpus != 0)
        return refuse_part(c, gpus, at, e);
    struct hw_cluster taken = *c;
    taken.nodes = gpus > node ? gpus / node : 1;
    taken.gpus_per_node = gpus > node ? node : gpus;
    if (taken.gpus_per_nic > taken.gpus_per_node)
        taken.gpus_per_nic = taken.gpus_per_node;
    if (gpus != hw_gpus(c))
        taken.name = arena_printf(a, "%d GPUs of %s", gpus, c->name);
    *out = taken;
    return true;
}

static void json_link(struct json *j, const char *key, const struct hw_link *l, int gpus_per_nic)
{
    json_object(j, key);
    write_qty(j, "rate", l->bytes_per_s, "B/s");
    write_qty(j, "latency", l->latency_s, "s");
    json_num(j, "efficiency", l->efficiency);
    if (gpus_per_nic > 0)
        json_int(j, "gpus_per_nic", gpus_per_nic);
    json_end(j);
}

void hw_cluster_json(const struct hw_cluster *c, struct json *j, const char *key)
{
    json_object(j, key);
    json_text(j, "name", c->name);
    json_text(j, "source", c->source);
    json_object(j, "gpu");
    json_text(j, "name", c->gpu.name);
    json_text(j, "source", c->gpu.source);
    write_qty(j, "bf16", c->gpu.bf16_flop_per_s, "FLOP/s");
    write_qty(j, "memory", c->gpu.memory_bytes, "B");
    write_qty(j, "hbm", c->gpu.hbm_bytes_per_s, "B/s");
    json_int(j, "sms", c->gpu.sm_count);
    if (c->gpu.curve)
        json_text(j, "curve", c->gpu.curve);
    json_end(j);
    json_int(j, "nodes", c->nodes);
    json_int(j, "gpus_per_node", c->gpus_per_node);
    json_link(j, "nvlink", &c->nvlink, 0);
    json_link(j, "nic", &c->nic, c->gpus_per_nic);
    write_qty(j, "pcie", c->pcie_bytes_per_s, "B/s");
    json_num(j, "usd_per_gpu_hour", c->usd_per_gpu_hour);
    if (c->net_name)
        json_text(j, "net", c->net_name);
    json_end(j);
}
