/* Fits to measured rows as files: one to plan with, or two that --kernels and --cluster take. */
#include "validate/measured.h"

#include <math.h>
#include <string.h>

#include "base/cfg.h"
#include "base/outfile.h"

#define FIT_SCHEMA "shardwise-fit/1"

/* ---- a file of its own ---- */

static void save_line(struct json *j, const char *what, const struct measured_line *l)
{
    j->compact = true;
    json_object(j, NULL);
    json_text(j, "what", what);
    json_int(j, "points", l->points);
    if (l->rings)
        json_bool(j, "rings", true);
    json_num(j, "per_call_s", l->per_call);
    json_num(j, "per_unit_s", l->per_unit);
    json_num(j, "error_median", l->error_median);
    json_num(j, "left_out_median", l->left_out_median);
    json_num(j, "left_out_worst", l->left_out_worst);
    json_end(j);
    j->compact = false;
}

bool measured_save(const struct measured_fit *fit, const struct prov *prov, const char *path,
                   struct arena *a, struct err *e)
{
    struct outfile *f = outfile_open(path, a, e);
    if (!f)
        return false;
    struct json j = json_to(outfile_stream(f));
    json_object(&j, NULL);
    json_text(&j, "schema", FIT_SCHEMA);
    prov_json(prov, &j);
    json_int(&j, "took_turns", fit->took_turns);
    json_array(&j, "fitted");
    for (int i = 0; i < MEASURED_KINDS; i++)
        save_line(&j, measured_names[i], &fit->line[i]);
    json_end(&j);
    hw_cluster_json(&fit->cluster, &j, "cluster");
    kern_json(&fit->kernels, &j, "kernels");
    json_end(&j);
    fputc('\n', outfile_stream(f));
    return outfile_done(f, e);
}

static bool load_line(const struct cfg *map, struct measured_fit *fit, struct err *e)
{
    static const char *const keys[] = {"what",           "points",       "per_call_s",
                                       "per_unit_s",     "error_median", "left_out_median",
                                       "left_out_worst", "rings",        NULL};
    const double none = (double)NAN;
    int what;
    int64_t points;
    struct measured_line l = {0};
    if (!cfg_check_keys(map, keys, e) || !cfg_enum(map, "what", measured_names, &what, e) ||
        !cfg_int(map, "points", 0, INT32_MAX, &points, e) ||
        !cfg_bool_or(map, "rings", false, &l.rings, e) ||
        !cfg_qty(map, "per_call_s", QTY_NUMBER, &l.per_call, e) ||
        !cfg_qty(map, "per_unit_s", QTY_NUMBER, &l.per_unit, e) ||
        !cfg_qty_or(map, "error_median", QTY_NUMBER, none, &l.error_median, e) ||
        !cfg_qty_or(map, "left_out_median", QTY_NUMBER, none, &l.left_out_median, e) ||
        !cfg_qty_or(map, "left_out_worst", QTY_NUMBER, none, &l.left_out_worst, e))
        return false;
    l.points = (int)points;
    fit->line[what] = l;
    return true;
}

bool measured_load(const char *path, struct measured_fit *fit, struct arena *a, struct err *e)
{
    static const char *const keys[] = {"schema",  "provenance", "took_turns", "fitted",
                                       "cluster", "kernels",    NULL};
    const struct cfg *map = cfg_read_file(path, a, e), *fitted, *cluster, *kernels;
    if (!map)
        return false;
    if (strcmp(cfg_text_or(map, "schema", ""), FIT_SCHEMA) != 0)
        return err_set(e, ERR_INPUT, err_at_name(path),
                       "is not a fit (" FIT_SCHEMA "), which `shardwise calibrate ROWS -o` writes");
    if (!cfg_check_keys(map, keys, e) || !(fitted = cfg_need(map, "fitted", e)) ||
        !(cluster = cfg_need(map, "cluster", e)) || !(kernels = cfg_need(map, "kernels", e)))
        return false;
    int64_t took_turns;
    if (!cfg_int_or(map, "took_turns", 0, INT32_MAX, 0, &took_turns, e))
        return false;
    const struct hw_cluster *c = hw_cluster_read(cluster, a, e);
    const struct kern_profile *k = c ? kern_read(kernels, a, e) : NULL;
    if (!k)
        return false;
    *fit = (struct measured_fit){.kernels = *k, .cluster = *c, .took_turns = (int)took_turns};
    for (int i = 0; i < fitted->count; i++)
        if (!load_line(fitted->items[i], fit, e))
            return false;
    return true;
}

/* ---- files for --kernels and --cluster ---- */

static bool write_one(const char *prefix, const char *ending, const struct measured_fit *fit,
                      bool cluster, struct arena *a, struct err *e)
{
    struct outfile *f = outfile_open(arena_printf(a, "%s-%s.json", prefix, ending), a, e);
    if (!f)
        return false;
    struct json j = json_to(outfile_stream(f));
    if (cluster)
        hw_cluster_json(&fit->cluster, &j, NULL);
    else
        kern_json(&fit->kernels, &j, NULL);
    return outfile_done(f, e);
}

bool measured_write(const struct measured_fit *fit, const char *prefix, struct arena *a,
                    struct err *e)
{
    return write_one(prefix, "kernels", fit, false, a, e) &&
           write_one(prefix, "cluster", fit, true, a, e);
}
