/* A plan: one configuration per block, what it is predicted to take and to need; and its file
 * format (docs/formats.md, "Plan"), which shardwise-run executes. */
#ifndef MODEL_PLAN_H
#define MODEL_PLAN_H

#include "base/prov.h"
#include "model/cost.h"
#include "model/mem.h"

enum plan_phase { PLAN_ATTENTION, PLAN_BLOCK, PLAN_STEP }; /* what the times cover */
extern const char *const plan_phase_names[]; /* "attention", "block", "step"; NULL-terminated */

struct plan_block {
    struct cp_conf conf;
    struct program_time time;
    struct mem_use memory;
    int candidates; /* configurations that were compared */
};

struct plan {
    struct cp_case c;
    struct mem_options memory;
    enum plan_phase phase;
    const char *evaluator;
    int tensor;             /* degree of tensor parallelism, 1 or more */
    int gpus, cp, replicas; /* gpus = tensor x cp x replicas */
    int block_count;
    struct plan_block *blocks;
    double blocks_s;    /* sum over blocks */
    double fsdp_s;      /* what weights and gradients add (model/weights.h); 0 unless PLAN_STEP */
    double fsdp_end_s;  /* of it behind the optimizer, once a step; not in files */
    double step_s;      /* blocks_s + fsdp_s + optimizer */
    double optimizer_s; /* HBM traffic of the sharded states */
    struct {            /* an optimizer step of more or fewer samples than a pass, if asked for */
        double samples; /* over all replicas; 0: not asked, a step is one pass */
        double passes, step_s;
    } batch;
    struct mem_use memory_peak;
};

int plan_ranks(const struct plan *p); /* GPUs of a replica: tensor x cp */

/* FNV-1a over what the plan depends on: cluster, model, tokens, degrees, version. shardwise-run
 * refuses another one. */
uint64_t plan_signature(const struct plan *p);

bool plan_write(const struct plan *p, const struct prov *prov, const char *path,
                struct arena *scratch, struct err *e);

/* Everything needed to execute or simulate the plan again: the cluster, model, kernels and keeps
 * are in the file. Refuses another schema version, a signature that does not match its content,
 * configurations that cp_conf_check refuses. */
struct plan *plan_read(const char *path, struct arena *a, struct err *e);

#endif
