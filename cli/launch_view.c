#include "cli/launch_view.h"

#include "base/table.h"

static const char *conf_text(const struct plan *p, struct arena *a)
{
    const struct cp_conf *first = &p->blocks[0].conf;
    for (int b = 1; b < p->block_count; b++)
        if (p->blocks[b].conf.strategy != first->strategy)
            return "each block its own";
    return arena_printf(a, "%s %dx%d", cp_strategies[first->strategy].name, first->head_groups,
                        first->seq_groups);
}

void launch_view(const struct launch *l, const struct plan_found *f, int top, FILE *out,
                 struct arena *a)
{
    static const struct table_col cols[] = {{"configuration", "configuration", TABLE_STR, 0},
                                            {"step_s", "step", TABLE_QTY, QTY_SECONDS},
                                            {"over_best", "over best", TABLE_QTY, QTY_RATIO},
                                            {"memory_bytes", "memory", TABLE_QTY, QTY_BYTES}};
    struct table *t = table_new(a, cols, sizeof cols / sizeof *cols);
    for (int i = 0; i < f->kind_count && i < top; i++) {
        const struct plan *p = f->kinds[i];
        table_str(t, conf_text(p, a));
        table_num(t, p->step_s);
        table_num(t, p->step_s / f->plan->step_s - 1);
        table_num(t, p->memory_peak.total);
    }
    fprintf(out, "\nWhat %s can run with CP %d: best of %d\n", l->name, f->plan->cp, f->kind_count);
    table_print(t, TABLE_TEXT, out);
    fprintf(out, "\nSettings: %s\n", launch_settings(l, f->plan, a));
}

void launch_note(const struct plan *p, FILE *out)
{
    int sparse = launch_sparse_blocks(p);
    if (sparse > 0)
        fprintf(out,
                "shardwise: note: %d of %d blocks run sparse attention in this plan; settings say "
                "how data moves, not which kernels run\n",
                sparse, p->block_count);
}
