/* Flows on links: fluid traffic that shares every link max-min fairly, with exact rates.
 *
 * A flow has a route (links that it uses all at once) and bytes. At every moment the rates are the
 * max-min fair ones (Bertsekas and Gallager, Data Networks, section 6.5.2): no flow can get more
 * without taking from one that has no more than it. They change only when a flow starts or ends or
 * a link's rate is set, and only in the connected component (flows joined by shared links) where
 * that happens; nothing else is recomputed.
 *
 * Starts of one instant are collected and solved together by the next net_next or net_end, so a
 * collective of n flows costs one solution. Times are whole picoseconds: a flow whose end lies
 * within 1 ps of now ends now. Results do not depend on how links, routes or flows are numbered.
 * One thread at a time per net; no globals. */
#ifndef SIM_NET_H
#define SIM_NET_H

#include "sim/queue.h"

struct net;

struct net *net_new(void);
void net_free(struct net *n); /* accepts NULL */

/* A link of `bytes_per_s` >= 0; returns its number, from 0. A rate of 0 is a link that is down: its
 * flows wait. */
int net_link(struct net *n, double bytes_per_s);
void net_link_set(struct net *n, sim_time now, int link, double bytes_per_s);

/* A route over 1 or more different links; returns its number, from 0. */
int net_route(struct net *n, const int *links, int count);

/* Starts `bytes` >= 0 on a route at `now`, which never goes back between calls. */
void net_flow(struct net *n, sim_time now, int route, double bytes, uint64_t tag);

/* When the next flow ends; SIM_NEVER if none will. */
sim_time net_next(struct net *n);

/* Takes one flow that has ended at or before `now`; false when there is none. `now` may not pass
 * net_next. */
bool net_end(struct net *n, sim_time now, uint64_t *tag);

/* A flow with at most `share` of its bytes left when another flow of its component ends, ends with
 * it: fewer solutions for many different sizes, at an error of at most that share of the flow's own
 * duration. 0, the default, is exact. */
void net_merge(struct net *n, double share);

/* Bytes of flows that have ended, by link; what is still on the way; starts and ends so far;
 * solutions so far. */
double net_carried(const struct net *n, int link);
double net_link_rate(const struct net *n, int link); /* bytes/s */
int net_links(const struct net *n);
int net_active(const struct net *n);
uint64_t net_events(const struct net *n);
uint64_t net_solutions(const struct net *n);
size_t net_bytes(const struct net *n); /* memory held */

/* Share of a link's rate that is in use since the last net_next; 0 for a link that is down. */
double net_load(const struct net *n, int link);

#endif
