/* The wires of a cluster as a directed graph: GPUs, NVSwitches, PCIe, NICs and network switches;
 * and the routes that traffic takes. Filled by topo_of_cluster (a preset) or topo_read_nccl
 * (sim/xml.h). */
#ifndef SIM_TOPO_H
#define SIM_TOPO_H

#include "base/arena.h"
#include "base/err.h"
#include "model/hw.h"
#include "sim/net.h"

enum topo_kind { TOPO_GPU, TOPO_NVSWITCH, TOPO_PCI, TOPO_CPU, TOPO_NIC, TOPO_SWITCH, TOPO_KINDS };

struct topo_node {
    const char *name; /* "node3/gpu2" */
    enum topo_kind kind;
    int host; /* server it belongs to; -1 for switches between servers */
};

struct topo_edge { /* one direction */
    int from, to;
    double bytes_per_s, latency_s;
};

struct topo {
    struct arena *arena;
    int node_count, edge_count, gpu_count, node_room, edge_room;
    struct topo_node *nodes;
    struct topo_edge *edges;
    int *gpus;                /* node of GPU i */
    int *in_start, *in_edges; /* set by topo_finish: edges into each node, by edge number */
    bool pxn; /* traffic to another rail goes over NVLink to the sender's GPU on that rail (NCCL's
                 PXN) */
};

struct topo *topo_new(struct arena *a);
int topo_add(struct topo *t, enum topo_kind kind, int host,
             const char *name); /* its number; the name is copied */
void topo_join(struct topo *t, int x, int y, double bytes_per_s,
               double latency_s); /* both directions */
void topo_edge(struct topo *t, int from, int to, double bytes_per_s, double latency_s);

/* Call once after the last edge. ERR_INPUT at `at`: an edge of zero, negative or infinite rate, a
 * GPU that another GPU cannot reach, a switch that leads nowhere. */
bool topo_finish(struct topo *t, struct err_at at, struct err *e);

/* The network between servers. Zeroes are an ideal switch that only the NICs limit. */
struct topo_fabric {
    int leaf_nodes; /* servers under one leaf switch (of one rail if `rails`); 0: one switch for all
                     */
    bool rails;     /* NIC k of every server hangs on leaf k (rail-optimised) */
    bool pxn;
    bool host;  /* with the host's memory: each GPU (and its NIC) under a PCIe switch, one for the
                 * GPUs of  a NIC, and those under the CPU */
    int spines; /* uplinks of a leaf, chosen by destination; 0 counts as 1 */
    double
        oversubscription; /* NIC bandwidth below a leaf over its uplink bandwidth; 0 counts as 1 */
    double hop_s;         /* latency of each switch-to-switch hop */
};

/* The wires of a preset, rates times their efficiency. GPU i is on server i / gpus_per_node. */
struct topo *topo_of_cluster(const struct hw_cluster *c, const struct topo_fabric *f,
                             struct arena *a, struct err_at at, struct err *e);

/* A network over a topology. Edges that always carry the same traffic, such as those of a NIC of
 * one GPU, are one link of the net, the slowest of them. Routes are found when first used: the
 * route is the one of fewest edges, then of the widest narrowest edge, then spread by destination;
 * it passes through no third GPU (but see pxn). One thread at a time; a topology may be shared by
 * many. */
struct wire;

struct wire *wire_new(const struct topo *t);
void wire_free(struct wire *w); /* accepts NULL */
struct net *wire_net(struct wire *w);

/* Of an edge of the topology: a new rate (0: down), bytes carried, the share of its rate in use
 * (net_load). */
void wire_rate_set(struct wire *w, sim_time now, int edge, double bytes_per_s);
double wire_carried(const struct wire *w, int edge);
double wire_load(const struct wire *w, int edge);

/* The route from GPU to another GPU, for net_flow; the latency of its edges is added up in
 * *latency. */
int wire_route(struct wire *w, int from_gpu, int to_gpu, sim_time *latency);

/* A route from a GPU to its image in the next of many identical servers, folded onto its own: out
 * through its own ports and in through its own ports. For traffic between replicas of which only
 * one is simulated. */
int wire_loop(struct wire *w, int gpu, sim_time *latency);

/* The route between a GPU and the nearest CPU of its server; -1 when there is none. */
int wire_host(struct wire *w, int gpu, bool to_host);
bool topo_has_host(const struct topo *t); /* every GPU has both */

/* The edges of wire_route's route, for reports; count returned, at most `room` written. */
int wire_edges(struct wire *w, int from_gpu, int to_gpu, int *edges, int room);

#endif
