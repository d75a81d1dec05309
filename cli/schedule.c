#include "cli/schedule.h"

double schedule_mean_keep(const struct sparsity *s)
{
    double sum = 0;
    for (int b = 0; b < s->blocks; b++)
        for (int h = 0; h < s->heads; h++)
            sum += sparsity_keep(s, b, h);
    return sum / ((double)s->blocks * s->heads);
}

#ifdef SHARDWISE_TRACES
bool schedule_read(const struct cli *c, struct profile *p, struct err *e)
{
    static const char *const forms[] = {"schedule", "trace",         "keep",
                                        "sparsity", "head-sparsity", NULL};
    const struct args *g = c->args;
    args_one_of(g, forms, false, e);
    if (e->code != ERR_NONE ||
        !profile_parse(args_text(g, "schedule"), args_at(g, "schedule"), c->a, p, e))
        return false;
    if (p->kind == PROFILE_OWN)
        return err_set(e, ERR_INPUT, args_at(g, "schedule"),
                       "'own' is for patterns; want dsv, webvid, videogen, anneal, levels or "
                       "constant");
    p->noise = 0;
    return true;
}

const struct sparsity *schedule_at(const struct cli *c, const struct profile *p,
                                   const struct sparsity *given, double step)
{
    struct sparsity *s = ARENA_NEW(c->a, struct sparsity);
    double *keep = ARENA_ARRAY(c->a, double, given->blocks * given->heads);
    for (int b = 0; b < given->blocks; b++)
        for (int h = 0; h < given->heads; h++)
            keep[b * given->heads + h] =
                profile_keep(p, b, given->blocks, h, given->heads, (int64_t)step, 0);
    *s = *given;
    s->name = args_text(c->args, "schedule");
    s->keep = keep;
    return s;
}
#endif
