#include "planner/budget.h"

#include "base/qty.h"

void budget_bounds(double from, double to, int count, double *bounds)
{
    for (int k = 0; k <= count; k++) {
        double share = (double)k / count;
        bounds[k] = from + (to - from) * share * share;
    }
}

struct interval budget_gpu_s(const struct budget_stage *s, int count, double batch)
{
    struct interval sum = {0};
    for (int i = 0; i < count; i++) {
        double samples = (s[i].to - s[i].from) * batch;
        sum.value_s += samples * s[i].gpu_s_sample.value_s;
        sum.low_s += samples * s[i].gpu_s_sample.low_s;
        sum.high_s += samples * s[i].gpu_s_sample.high_s;
    }
    return sum;
}

bool budget_wall_s(double work_s, int gpus, int stages, const struct budget_extra *x,
                   double *wall_s, struct err *e)
{
    double saves = x->save_every_s > 0 ? x->save_s / x->save_every_s : 0;
    double busy = work_s * (1 + x->overhead) * (1 + saves) + x->replan_s * (stages - 1);
    double lost_s = x->restart_s + x->save_every_s / 2;
    double lost = x->gpu_mtbf_s > 0 ? gpus / x->gpu_mtbf_s * lost_s : 0;
    if (lost >= 1)
        return err_set(e, ERR_INFEASIBLE, err_at_name(NULL),
                       "the run never ends: %d GPUs fail every %s, and each failure costs %s", gpus,
                       qty_text(x->gpu_mtbf_s / gpus, QTY_SECONDS, QTY_BUF),
                       qty_text(lost_s, QTY_SECONDS, QTY_BUF));
    *wall_s = busy / (1 - lost);
    return true;
}
