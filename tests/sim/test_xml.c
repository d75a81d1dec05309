/* NCCL topology files: rates by NCCL's own constants, routes, and hostile documents. dgx.xml has
 * the form of a dump of half a DGX H100: two sockets, each with a switch, a GPU and a NIC. */
#include "sim/xml.h"

#include <gsl/gsl_test.h>
#include <stdio.h>
#include <string.h>

static double narrowest(struct wire *w, const struct topo *t, int from, int to, int *count)
{
    int edges[32];
    double least = 1e99;
    *count = wire_edges(w, from, to, edges, 32);
    for (int i = 0; i < *count; i++)
        least = t->edges[edges[i]].bytes_per_s < least ? t->edges[edges[i]].bytes_per_s : least;
    return least;
}

static void a_dump_becomes_wires_at_nccls_rates(void)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct xml_options o = {.servers = 3, .nvlink_latency_s = 2e-6};
    const struct topo *t = topo_of_nccl_file("tests/sim/dgx.xml", &o, a, &e);
    gsl_test(!t, "it reads %s", e.text);
    gsl_test_int(t->gpu_count, 6, "two GPUs on each of three servers");
    struct wire *w = wire_new(t);
    int hops;
    gsl_test_rel(narrowest(w, t, 0, 1, &hops), 18 * 20.6e9, 1e-12, "18 Hopper NVLinks");
    gsl_test_int(hops, 2, "by the NVSwitch");
    gsl_test_rel(narrowest(w, t, 0, 2, &hops), 48e9, 1e-12,
                 "PCIe 5 x16 is 48 GB/s, less than the 400 Gb/s NIC");
    gsl_test_int(hops, 8, "GPU, switch, card, NIC, network and back down");
    sim_time latency;
    wire_route(w, 0, 1, &latency);
    gsl_test(latency != sim_time_of(2e-6), "latency as asked");
    wire_free(w);
    arena_free(a);
}

static void refused(const char *text, const char *want)
{
    struct arena *a = arena_new();
    struct err e = {0};
    struct xml_options o = {.servers = 1};
    const struct topo *t = topo_of_nccl_text("t.xml", text, strlen(text), &o, a, &e);
    gsl_test(t || e.code != ERR_INPUT || !strstr(e.text, want), "%s", e.text);
    arena_free(a);
}

#define GPU(id, inner)                                                                             \
    "<pci busid='" id "' class='0x030200'><gpu dev='0' sm='90'>" inner "</gpu></pci>"
#define CPUS8         "<cpu/><cpu/><cpu/><cpu/><cpu/><cpu/><cpu/><cpu/>"
#define MANY_CPUS     CPUS8 CPUS8 CPUS8 CPUS8 CPUS8 CPUS8 CPUS8 CPUS8
#define SYSTEM(inner) "<system version='1'><cpu numaid='0'>" inner "</cpu></system>"

static void hostile_documents_are_refused_with_their_place(void)
{
    refused("", "no element found");
    refused("<system version='1'><cpu>", "no element found");
    refused("<system version='1'><cpu></system>", "t.xml:1:");
    refused("<!DOCTYPE system [<!ENTITY a 'b'>]><system version='1'/>", "entities are refused");
    refused("<!DOCTYPE lolz [<!ENTITY l 'l'><!ENTITY m '&l;&l;&l;&l;'>]><system>&m;</system>",
            "entities are refused");
    refused("<system version='1'>&a;</system>", "t.xml:1:");
    refused("<graphs version='1'/>", "<graphs> is not in NCCL's topology files");
    refused("<cpu/>", "is the outermost element");
    refused("<system version='1'><gpu/></system>", "<gpu> inside <system>");
    refused("<system version='2'/>", "version=\"2\"");
    refused("<system version='1'>hello</system>", "text between elements");
    refused("<system version='1'/>", "no GPU");
    refused("<system version='1'><cpu/><cpu/>" MANY_CPUS "</system>", "over 64 CPUs");
    refused(SYSTEM("<pci link_speed='fast'/>"), "link_speed=\"fast\"");
    refused(SYSTEM("<pci link_width='1e99'/>"), "link_width");
    refused(SYSTEM(GPU("a", "<nvlink target='b' count='4' tclass='0x030200'/>")),
            "a link in no path");
    refused(SYSTEM(GPU("a", "<nvlink target='b' count='0' tclass='0x068000'/>")), "count=\"0\"");
    refused(SYSTEM(GPU("a", "<nvlink target='b' count='4' tclass='0x068000'/>")),
            "nvswitch joins nothing");
    refused(SYSTEM("<pci><nic><net speed='0'/></nic></pci>"), "speed=\"0\"");
    refused(SYSTEM("<pci><nic><net/></nic></pci>"), "<net> needs speed");
}

static void depth_and_length_are_bounded(void)
{
    enum { DEEP = 100000 };
    struct arena *a = arena_new();
    char *text = arena_alloc(a, 5 * DEEP + 64, 1), *at = text;
    at += sprintf(at, "<system version='1'><cpu>");
    for (int i = 0; i < DEEP; i++, at += 5)
        memcpy(at, "<pci>", 5);
    refused(text, "nested over 24 deep");
    at = text + sprintf(text, "<system version='1'>");
    for (int i = 0; i < 70000; i++, at += 6)
        memcpy(at, "<cpu/>", 6);
    strcpy(at, "</system>");
    refused(text, "over 16384 elements");
    struct err e = {0};
    struct xml_options o = {.servers = 1};
    gsl_test(topo_of_nccl_text("t", text, XML_BYTES + 1, &o, a, &e) != NULL, "too long: %s",
             e.text);
    e = (struct err){0};
    gsl_test(topo_of_nccl_file("no/such.xml", &o, a, &e) || e.code != ERR_INPUT, "%s", e.text);
    arena_free(a);
}

/* A bridge behind a GPU: odd, but there is a way, and traffic takes it only when it must. */
static void a_gpu_forwards_only_when_nothing_else_does(void)
{
    struct arena *a = arena_new();
    struct topo *t = topo_new(a);
    struct err e = {0};
    int g[4], s = topo_add(t, TOPO_SWITCH, 0, "s");
    for (int i = 0; i < 4; i++)
        g[i] = topo_add(t, TOPO_GPU, 0, "gpu");
    topo_join(t, g[0], s, 1e9, 0), topo_join(t, g[1], s, 1e9, 0), topo_join(t, g[2], s, 1e9, 0);
    topo_join(t, g[0], g[1], 5e9, 0), topo_join(t, g[2], g[3], 1e9, 0);
    gsl_test(!topo_finish(t, err_at_name("t"), &e), "connected %s", e.text);
    struct wire *w = wire_new(t);
    gsl_test_int(wire_edges(w, 0, 1, NULL, 0), 1, "neighbours");
    gsl_test_int(wire_edges(w, 1, 2, NULL, 0), 2, "by the switch");
    gsl_test_int(wire_edges(w, 1, 3, NULL, 0), 3, "switch, then through GPU 2: the only way");
    wire_free(w);
    arena_free(a);
}

int main(void)
{
    a_gpu_forwards_only_when_nothing_else_does();
    a_dump_becomes_wires_at_nccls_rates();
    hostile_documents_are_refused_with_their_place();
    depth_and_length_are_bounded();
    return gsl_test_summary();
}
