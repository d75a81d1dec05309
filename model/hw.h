/* Hardware as the planner sees it: one kind of GPU, nodes of equal size, and two kinds of links.
 * Plain facts; every number of a preset names its source in the preset file. Formats:
 * docs/formats.md. */
#ifndef MODEL_HW_H
#define MODEL_HW_H

#include "base/arena.h"
#include "base/cfg.h"
#include "base/err.h"
#include "base/json.h"

enum { HW_GPUS_MAX = 1 << 20 }; /* GPUs of a cluster */

struct hw_gpu {
    const char *name;       /* "h100" */
    double bf16_flop_per_s; /* dense peak, no structured sparsity */
    double memory_bytes;    /* as the driver reports it: a data sheet's GB is nearly a GiB */
    double hbm_bytes_per_s;
    int sm_count;
    const char *curve; /* the chip whose kernel curves are this one's too, being the same die; NULL:
                          its own */
    const char *source;
};

/* One GPU's port: what it can send (and, at the same time, receive). */
struct hw_link {
    double latency_s;   /* software and wire, once per collective call */
    double bytes_per_s; /* one direction, as the data sheet says */
    double efficiency;  /* share of it that collectives reach; 0 < efficiency <= 1 */
};

struct prof_net;     /* model/prof.h */
struct prof_kernels; /* model/prof.h */

struct hw_cluster {
    const char *name; /* "4x8-h100-400g" */
    struct hw_gpu gpu;
    int nodes, gpus_per_node;
    struct hw_link nvlink;   /* between GPUs of a node */
    struct hw_link nic;      /* between nodes; the rate of one NIC */
    int gpus_per_nic;        /* GPUs that share one NIC; 1 = each its own */
    double pcie_bytes_per_s; /* GPU to host, one direction */
    double usd_per_gpu_hour; /* 0 = not given */
    const char *net_name;    /* the calibrated collectives to take; NULL: those of its GPU */
    const char *source;
    /* Calibrated curves (model/calib.h), or NULL: the rates above rule; and the links that `net`
     * was measured on. Not part of files. */
    const struct prof_net *net;
    struct hw_link net_nvlink, net_nic;
    const struct prof_kernels *curves;
};

/* Presets of kind "net" and "curve" that answer for this cluster and this GPU, if there are any. */
const char *hw_net_name(const struct hw_cluster *c);
const char *hw_curve_name(const struct hw_gpu *g);

int hw_gpus(const struct hw_cluster *c);

/* What one GPU gets of its link when all GPUs use theirs: rate * efficiency / sharers. */
double hw_nvlink_bytes_per_s(const struct hw_cluster *c);
double hw_nic_bytes_per_s(const struct hw_cluster *c);

/* A name is one of
 *   NxM-GPU-RATEg   N nodes of M GPUs, RATE Gb/s of network per GPU: "2x8-h100-400g" (node facts
 *                   from presets/cluster/GPU.yaml, M at most its gpus_per_node); "1x8-h100" takes
 *                   the preset's first rate
 *   path.yaml       a file of the user's own with the keys of docs/formats.md, "Cluster"
 *
 * NULL and ERR_INPUT at `at` (or in the file) otherwise. The result lives in `a`. */
const struct hw_cluster *hw_cluster_load(const char *name, struct err_at at, struct arena *a,
                                         struct err *e);

/* A preset of kind "gpu", or a path. */
const struct hw_gpu *hw_gpu_load(const char *name, struct err_at at, struct arena *a,
                                 struct err *e);

/* The same cluster with `gpus` GPUs: whole nodes, or a part of one node. ERR_INPUT when it has
 * fewer, or when gpus is neither a divisor of a node nor a multiple of it. */
bool hw_cluster_take(const struct hw_cluster *c, int gpus, struct hw_cluster *out, struct arena *a,
                     struct err_at at, struct err *e);

/* A cluster inside another document: writes the object `key`, and reads it back with every bit the
 * same. The keys are those of a cluster file. */
void hw_cluster_json(const struct hw_cluster *c, struct json *j, const char *key);
const struct hw_cluster *hw_cluster_read(const struct cfg *map, struct arena *a, struct err *e);

#endif
