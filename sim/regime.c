#include "sim/regime.h"

#include <math.h>

#include "model/calib.h"

static int servers_of(int n, const int *hosts)
{
    int count = 1;
    for (int i = 1; i < n; i++)
        count +=
            hosts[i] != hosts[i - 1]; /* members of a server are neighbours, or alternate evenly */
    for (int i = 1; i < n; i++)
        if (hosts[i] < hosts[i - 1])
            return 0; /* alternating: sequence groups across servers */
    return count;
}

/* Wire seconds of an equal exchange alone: the busier of a member's two ports. */
static double wire_s(const struct hw_cluster *c, enum coll_op op, int n, int servers, double sent)
{
    double per = (double)n / servers, near, far;
    if (op == COLL_SEND_RECV) { /* a hop: NVLink, or the NIC where it leaves the server */
        near = servers == 1 ? 1 : 0;
        far = servers > 1 ? 1 : 0;
    } else if (op == COLL_ALLTOALL) {
        near = (per - 1) / (n - 1);
        far = (n - per) / (n - 1);
    } else { /* rings: one a member of a server */
        near = servers == 1 ? 1 : (per - 1) / per;
        far = servers == 1 ? 0 : 1 / per;
    }
    return sent * fmax(near / hw_nvlink_bytes_per_s(c), far / hw_nic_bytes_per_s(c));
}

/* The cluster's own profile answers for the cluster's own links; one that was asked for, as it is.
 */
static double exchange_s(const struct regime_source *s, const struct coll_query *q)
{
    return (s->net == s->cluster->net ? calib_collective(s->cluster, q)
                                      : prof_collective(s->net, q))
        .time.value_s;
}

static struct regime by_profile(const struct regime_source *s, enum coll_op op, int n, int servers,
                                double sent, int calls)
{
    const struct hw_cluster *c = s->cluster;
    bool hop = op == COLL_SEND_RECV;
    struct coll_query q = {.op = op,
                           .type = COLL_HALF,
                           .gpus = hop ? 2 : n,
                           .nodes = hop ? (servers > 1 ? 2 : 1) : servers,
                           .nic_bytes_per_s = c->nic.bytes_per_s / c->gpus_per_nic};
    q.bytes = fmax(1, hop ? sent : sent * n / (n - 1) / (op == COLL_ALL_REDUCE ? 2 : 1));
    double whole = exchange_s(s, &q);
    q.bytes = 1;
    double least = fmin(exchange_s(s, &q), whole), wire = wire_s(c, op, n, servers, sent);
    return (struct regime){.extra_s = calls * least,
                           .scale = wire > 0 ? fmax(1e-6, (whole - least) / wire) : 1};
}

struct regime regime_of(const struct regime_source *s, enum coll_op op, const struct coll *shape,
                        const int *hosts, double bytes, int calls)
{
    int n = shape->members, servers = servers_of(n, hosts);
    double extra;
    if (s->net && !s->nccl && n > 1 && bytes > 0 && servers > 0 && n % servers == 0)
        return by_profile(s, op, n, servers, bytes / calls, calls);
    if (!s->nccl || n < 2)
        return (struct regime){.calls = calls, .scale = 1};
    double rate = hosts[0] != hosts[n - 1] ? hw_nic_bytes_per_s(s->cluster)
                                           : hw_nvlink_bytes_per_s(s->cluster);
    const struct coll_protocol *p = coll_protocol_best(shape, bytes / calls, rate, &extra);
    return (struct regime){.extra_s = calls * extra, .scale = 1 / p->efficiency};
}
