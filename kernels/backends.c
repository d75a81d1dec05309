/* The backends of this build, and the checks that all of them share. */
#include "kernels/kern.h"

#include <stdio.h>

#include "kernels/cpu/cpu.h"

#ifdef SHARDWISE_HAVE_CUDA
extern const struct kern_backend kern_cuda;
#endif

const struct kern_backend *const kern_backends[] = {
#ifdef SHARDWISE_HAVE_CUDA
    &kern_cuda,
#endif
    &kern_cpu,
    &kern_reference,
    NULL,
};

const struct kern_backend *kern_backend_of(const char *name, struct err *e)
{
    char known[256] = "";
    for (int i = 0; kern_backends[i]; i++) {
        const struct kern_backend *b = kern_backends[i];
        if ((!name || strcmp(b->name, name) == 0) && b->available())
            return b;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s%s", i ? ", " : "", b->name,
                 b->available() ? "" : " (not on this machine)");
    }
    err_set(e, ERR_INPUT, err_at_name("--backend"), "'%s': this build has %s", name ? name : "",
            known);
    return NULL;
}

static bool bad(struct err *e, int head, const char *what, long long value, const char *want)
{
    char at[32];
    snprintf(at, sizeof at, "head %d", head);
    return err_set(e, ERR_INPUT, err_at_name(at), "%s: %lld, want %s", what, value, want);
}

static bool keys_check(const struct kern_head *h, int i, struct err *e)
{
    const struct kern_keys *k = &h->keys;
    if (!k->list && !k->bitmap)
        return true;
    if (k->group < 1)
        return bad(e, i, "keys.group", (long long)k->group, "at least 1");
    if (!k->list && k->bitmap_words < kern_words(h->kv_rows))
        return bad(e, i, "keys.bitmap_words", (long long)k->bitmap_words,
                   "a bit for every key row");
    if (k->list && k->list_stride < 0)
        return bad(e, i, "keys.list_stride", (long long)k->list_stride, "0 or more");
    if (k->list && !k->count && (k->list_count < 0 || k->list_count > k->list_stride))
        return bad(e, i, "keys.list_count", k->list_count, "0 to list_stride");
    if (k->list && !k->count && k->list_count > h->kv_rows)
        return bad(e, i, "keys.list_count", k->list_count, "at most the number of key rows");
    return true;
}

static bool head_check(const struct kern_head *h, int i, bool backward, struct err *e)
{
    if (h->q_rows < 0 || h->kv_rows < 0 || h->q_rows > INT32_MAX || h->kv_rows > INT32_MAX)
        return bad(e, i, "rows", (long long)(h->q_rows < h->kv_rows ? h->q_rows : h->kv_rows),
                   "0 to 2^31 - 1");
    if (h->q_rows > 0 && (!h->q || !h->lse || (!h->o && !h->o32)))
        return bad(e, i, "missing arrays among q, lse, o and o32", 1, "none");
    if (h->q_rows > 0 && h->kv_rows > 0 && (!h->k || !h->v))
        return bad(e, i, "missing arrays among k and v", 1, "none");
    if (backward && h->q_rows > 0 && (!h->d_o || !h->dq || (h->kv_rows > 0 && (!h->dk || !h->dv))))
        return bad(e, i, "missing arrays among d_o, dq, dk and dv", 1, "none");
    return keys_check(h, i, e);
}

static bool heads_there(int count, const void *heads, const char *what, struct err *e)
{
    return (count >= 0 && (count == 0 || heads)) ||
           err_set(e, ERR_INPUT, err_at_name(what), "%d heads at %p, want 0 or more, and where",
                   count, heads);
}

bool kern_attention_check(const struct kern_attention *a, bool backward, struct err *e)
{
    if (a->dim < KERN_DIM_STEP || a->dim > KERN_DIM_MAX || a->dim % KERN_DIM_STEP != 0)
        return err_set(e, ERR_INPUT, err_at_name("attention"),
                       "head dimension %d, want a multiple of %d up to %d", a->dim, KERN_DIM_STEP,
                       KERN_DIM_MAX);
    if (!isfinite(a->scale))
        return err_set(e, ERR_INPUT, err_at_name("attention"), "scale %g, want a number",
                       (double)a->scale);
    if (!heads_there(a->head_count, a->heads, "attention", e))
        return false;
    for (int i = 0; i < a->head_count; i++)
        if (!head_check(&a->heads[i], i, backward, e))
            return false;
    return true;
}

bool kern_select_check(const struct kern_select *s, struct err *e)
{
    if (s->rank < 1 || s->rank > KERN_RANK_MAX)
        return err_set(e, ERR_INPUT, err_at_name("select"), "rank %d, want 1 to %d", s->rank,
                       KERN_RANK_MAX);
    if (!heads_there(s->head_count, s->heads, "select", e))
        return false;
    for (int i = 0; i < s->head_count; i++) {
        const struct kern_select_head *h = &s->heads[i];
        if (h->keys < 0 || h->keys > INT32_MAX || h->groups < 0)
            return bad(e, i, "keys", (long long)h->keys, "0 to 2^31 - 1");
        if (h->keep < 0 || h->keep > h->keys)
            return bad(e, i, "keep", (long long)h->keep, "0 to the number of keys");
        if (h->bitmap_words < kern_words(h->keys))
            return bad(e, i, "bitmap_words", (long long)h->bitmap_words, "a bit for every key");
    }
    return true;
}

bool kern_linear_check(const struct kern_linear *l, int count, struct err *e)
{
    for (int i = 0; i < count; i++) {
        if (l[i].in < KERN_DIM_STEP || l[i].in % KERN_DIM_STEP || l[i].out < KERN_DIM_STEP ||
            l[i].out % KERN_DIM_STEP)
            return err_set(e, ERR_INPUT, err_at_name("linear"),
                           "%d inputs, %d outputs: want multiples of %d", l[i].in, l[i].out,
                           KERN_DIM_STEP);
        if (l[i].rows < 0 || (l[i].rows > 0 && (!l[i].x || !l[i].w || !l[i].y)))
            return err_set(e, ERR_INPUT, err_at_name("linear"),
                           "%lld rows, want 0 or more with all arrays", (long long)l[i].rows);
    }
    return true;
}

static bool list_check(const struct kern_head *h, int head, int64_t group, struct err *e)
{
    const struct kern_keys *k = &h->keys;
    const int32_t *list = k->list + group * k->list_stride;
    int64_t n = k->count ? k->count[group] : k->list_count;
    if (n < 0 || n > k->list_stride)
        return bad(e, head, "keys.count", (long long)n, "0 to list_stride");
    for (int64_t i = 0; i < n; i++)
        if (list[i] < 0 || list[i] >= h->kv_rows || (i > 0 && list[i] <= list[i - 1])) {
            char at[80];
            snprintf(at, sizeof at, "head %d, group %lld, entry %lld", head, (long long)group,
                     (long long)i);
            return err_set(e, ERR_INPUT, err_at_name(at),
                           "key %d: want strictly ascending rows below %lld", list[i],
                           (long long)h->kv_rows);
        }
    return true;
}

bool kern_lists_check(const struct kern_attention *a, struct err *e)
{
    for (int i = 0; i < a->head_count; i++) {
        const struct kern_head *h = &a->heads[i];
        int64_t groups = h->keys.list ? kern_groups(h->q_rows, h->keys.group) : 0;
        for (int64_t g = 0; g < groups; g++)
            if (!list_check(h, i, g, e))
                return false;
    }
    return true;
}
