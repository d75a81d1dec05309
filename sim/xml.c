#include "sim/xml.h"

#include <errno.h>
#include <expat.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- elements ---- */

enum tag {
    TAG_SYSTEM,
    TAG_CPU,
    TAG_PCI,
    TAG_PCILINK,
    TAG_GPU,
    TAG_NVLINK,
    TAG_C2C,
    TAG_NIC,
    TAG_NET,
    TAGS
};
static const char *const tag_names[TAGS] = {"system", "cpu", "pci", "pcilink", "gpu",
                                            "nvlink", "c2c", "nic", "net"};

/* Which element may stand in which: bit i of inside[t] allows tag i as the parent. */
static const unsigned inside[TAGS] = {[TAG_CPU] = 1u << TAG_SYSTEM,
                                      [TAG_PCI] = 1u << TAG_CPU | 1u << TAG_PCI,
                                      [TAG_PCILINK] = 1u << TAG_PCI,
                                      [TAG_GPU] = 1u << TAG_PCI | 1u << TAG_CPU,
                                      [TAG_NVLINK] = 1u << TAG_GPU | 1u << TAG_CPU | 1u << TAG_PCI,
                                      [TAG_C2C] = 1u << TAG_GPU,
                                      [TAG_NIC] = 1u << TAG_PCI | 1u << TAG_CPU,
                                      [TAG_NET] = 1u << TAG_NIC};

struct element {
    enum tag tag;
    int parent, line, column;
    const char **attributes; /* name, value, ..., NULL */
    int node;                /* in the topology, of the server at hand */
};

struct reader {
    const char *name;
    XML_Parser parser;
    struct arena *a;
    struct err *e;
    struct element *elements;
    int count, room, depth;
    int open[XML_DEPTH + 1];
};

static struct err_at here(const struct reader *r)
{
    return (struct err_at){r->name, (int)XML_GetCurrentLineNumber(r->parser),
                           (int)XML_GetCurrentColumnNumber(r->parser) + 1};
}

static void stop(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void stop(struct reader *r, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    err_set(r->e, ERR_INPUT, here(r), "%s", text);
    XML_StopParser(r->parser, XML_FALSE);
}

static int tag_of(const char *name)
{
    for (int i = 0; i < TAGS; i++)
        if (strcmp(name, tag_names[i]) == 0)
            return i;
    return -1;
}

static const char **copy_attributes(struct reader *r, const char **from)
{
    int count = 0;
    while (from[count])
        count++;
    const char **to = ARENA_ARRAY(r->a, const char *, count + 1);
    for (int i = 0; i < count; i++)
        to[i] = arena_strdup(r->a, from[i]);
    return to;
}

static bool may_open(struct reader *r, const char *name, int tag)
{
    if (tag < 0)
        stop(r,
             "<%.40s> is not in NCCL's topology files; known are system, cpu, pci, pcilink, gpu, "
             "nvlink, c2c, nic, net",
             name);
    else if (r->depth == 0 && tag != TAG_SYSTEM)
        stop(r, "<%s> is the outermost element; a topology begins with <system version=\"1\">",
             tag_names[tag]);
    else if (r->depth >= XML_DEPTH)
        stop(r, "elements are nested over %d deep", XML_DEPTH);
    else if (r->count >= XML_ELEMENTS)
        stop(r, "over %d elements", XML_ELEMENTS);
    else if (r->depth > 0 && !(inside[tag] >> r->elements[r->open[r->depth - 1]].tag & 1))
        stop(r, "<%s> inside <%s>", tag_names[tag],
             tag_names[r->elements[r->open[r->depth - 1]].tag]);
    else
        return true;
    return false;
}

static void XMLCALL on_start(void *user, const XML_Char *name, const XML_Char **attributes)
{
    struct reader *r = user;
    int tag = tag_of(name);
    if (r->e->code || !may_open(r, name, tag))
        return;
    if (r->count == r->room) {
        r->room = r->room ? 2 * r->room : 64;
        struct element *more = ARENA_ARRAY(r->a, struct element, r->room);
        for (int i = 0; i < r->count; i++)
            more[i] = r->elements[i];
        r->elements = more;
    }
    struct err_at at = here(r);
    r->elements[r->count] = (struct element){.tag = (enum tag)tag,
                                             .parent = r->depth ? r->open[r->depth - 1] : -1,
                                             .line = at.line,
                                             .column = at.column,
                                             .attributes = copy_attributes(r, attributes),
                                             .node = -1};
    r->open[r->depth++] = r->count++;
}

static void XMLCALL on_end(void *user, const XML_Char *name)
{
    struct reader *r = user;
    (void)name;
    r->depth--;
}

static void XMLCALL on_text(void *user, const XML_Char *text, int length)
{
    struct reader *r = user;
    for (int i = 0; i < length && !r->e->code; i++)
        if (!strchr(" \t\r\n", text[i]))
            stop(r, "text between elements; a topology has attributes only");
}

static void XMLCALL on_doctype(void *user, const XML_Char *name, const XML_Char *system,
                               const XML_Char *public, int own)
{
    (void)name, (void)system, (void)public, (void)own;
    stop(user, "a document type; topologies have none, and entities are refused");
}

static bool parse(struct reader *r, const char *text, size_t length)
{
    if (length > XML_BYTES)
        return err_set(r->e, ERR_INPUT, err_at_name(r->name),
                       "%zu bytes; a topology has at most %d", length, XML_BYTES);
    r->parser = XML_ParserCreate(NULL);
    XML_SetUserData(r->parser, r);
    XML_SetElementHandler(r->parser, on_start, on_end);
    XML_SetCharacterDataHandler(r->parser, on_text);
    XML_SetStartDoctypeDeclHandler(r->parser, on_doctype);
    if (XML_Parse(r->parser, text, (int)length, XML_TRUE) != XML_STATUS_OK && !r->e->code)
        err_set(r->e, ERR_INPUT, here(r), "not well-formed XML: %s",
                XML_ErrorString(XML_GetErrorCode(r->parser)));
    XML_ParserFree(r->parser);
    return !r->e->code;
}

/* ---- attributes ---- */

static const char *attribute(const struct element *x, const char *name)
{
    for (int i = 0; x->attributes[i]; i += 2)
        if (strcmp(x->attributes[i], name) == 0)
            return x->attributes[i + 1];
    return NULL;
}

static struct err_at place(const struct reader *r, const struct element *x)
{
    return (struct err_at){r->name, x->line, x->column};
}

/* A number from `least` to `most`; `fallback` when the attribute is absent or empty, an error if
 * that is NaN. */
static bool number(const struct reader *r, const struct element *x, const char *name, double least,
                   double most, double fallback, double *out)
{
    const char *text = attribute(x, name);
    char *end;
    if (!text || !*text) {
        *out = fallback;
        return !isnan(fallback) ||
               err_set(r->e, ERR_INPUT, place(r, x), "<%s> needs %s", tag_names[x->tag], name);
    }
    double v = strtod(text, &end);
    if (*end || !(v >= least && v <= most))
        return err_set(r->e, ERR_INPUT, place(r, x), "%s=\"%.40s\": want a number from %g to %g",
                       name, text, least, most);
    *out = v;
    return true;
}

/* Bytes/s of a PCIe link, NCCL's way: 100 Mb/s a lane by generation, x width / 80 GB/s. */
static bool pci_rate(const struct reader *r, const struct element *x, double *out)
{
    static const struct {
        double gt_per_s, per_lane;
    } speeds[] = {{2.5, 15}, {5, 30}, {8, 60}, {16, 120}, {32, 240}, {64, 480}};
    const char *text = attribute(x, "link_speed");
    double gt = 8, width;
    if (text && *text) {
        char *end;
        gt = strtod(text, &end);
        if (end == text)
            gt = -1;
    }
    if (!number(r, x, "link_width", 0, 64, 16, &width))
        return false;
    for (size_t i = 0; i < sizeof speeds / sizeof *speeds; i++)
        if (fabs(gt - speeds[i].gt_per_s) < 0.1) {
            *out = speeds[i].per_lane * (width > 0 ? width : 16) / 80 * 1e9;
            return true;
        }
    return err_set(r->e, ERR_INPUT, place(r, x),
                   "link_speed=\"%.40s\": want one such as \"32.0 GT/s PCIe\"", text);
}

static bool nvlink_rate(const struct reader *r, const struct element *x, const struct element *gpu,
                        double *out)
{
    static const struct {
        int sm;
        double gbyte_per_s;
    } rates[] = {{100, 40.1}, {90, 20.6}, {86, 12}, {80, 20}, {70, 20}, {60, 18}};
    double sm, count;
    if (!number(r, gpu, "sm", 60, 999, NAN, &sm) || !number(r, x, "count", 1, 1000, NAN, &count))
        return false;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        if (sm >= rates[i].sm) {
            *out = count * rates[i].gbyte_per_s * 1e9;
            return true;
        }
    return false;
}

/* Bytes/s between two CPU sockets of this kind. */
static double cpu_rate(const struct element *cpu)
{
    const char *vendor = attribute(cpu, "vendor"), *model = attribute(cpu, "modelid");
    int id = model ? atoi(model) : 0;
    if (vendor && strcmp(vendor, "AuthenticAMD") == 0)
        return 16e9;
    if (vendor && strcmp(vendor, "GenuineIntel") == 0)
        return id >= 207 ? 40e9 : id >= 143 ? 22e9 : 10e9; /* Emerald, Sapphire Rapids; Skylake */
    return 6e9;
}

/* ---- from elements to wires ---- */

struct build {
    const struct reader *r;
    const struct xml_options *o;
    struct topo *t;
    int host, network, nvswitch; /* nodes; -1 none yet */
    double share;
};

static int add_node(struct build *b, enum topo_kind kind, const struct element *x, const char *what,
                    const char *which)
{
    const char *id = attribute(x, which);
    const char *name = arena_printf(b->t->arena, "node%d/%s%.40s", b->host, what, id ? id : "");
    return topo_add(b->t, kind, b->host, name);
}

static struct element *parent_of(const struct build *b, const struct element *x)
{
    return &b->r->elements[x->parent];
}

static struct element *child_of(const struct build *b, const struct element *x, enum tag tag)
{
    int me = (int)(x - b->r->elements);
    for (int i = me + 1; i < b->r->count && b->r->elements[i].parent >= me; i++)
        if (b->r->elements[i].parent == me && b->r->elements[i].tag == tag)
            return &b->r->elements[i];
    return NULL;
}

/* A pci element is a bridge, or what it holds: a GPU or a NIC. */
static bool add_pci(struct build *b, struct element *x)
{
    double rate = 0;
    struct element *gpu = child_of(b, x, TAG_GPU);
    if (!pci_rate(b->r, x, &rate))
        return false;
    if (gpu)
        x->node = gpu->node = add_node(b, TOPO_GPU, x, "gpu-", "busid");
    else
        x->node = add_node(b, TOPO_PCI, x, "pci-", "busid");
    topo_join(b->t, x->node, parent_of(b, x)->node, rate * b->share, 0);
    return true;
}

static bool add_net(struct build *b, struct element *x)
{
    double mbit, us;
    struct element *card = parent_of(b, parent_of(b, x));
    if (!number(b->r, x, "speed", 1e-3, 1e9, NAN, &mbit) ||
        !number(b->r, x, "latency", 0, 1e6, 0, &us))
        return false;
    x->node = add_node(b, TOPO_NIC, x, "net", "dev");
    double rate = mbit / 8000 * 1e9 * b->share;
    topo_join(b->t, x->node, card->node, 1e13, 0); /* the card's PCIe link above it is the limit */
    if (b->network >= 0) {
        topo_edge(b->t, x->node, b->network, rate, us * 1e-6);
        topo_edge(b->t, b->network, x->node, rate, 0);
    }
    return true;
}

static bool add_nodes(struct build *b)
{
    for (int i = 0; i < b->r->count; i++) {
        struct element *x = &b->r->elements[i];
        x->node = x->tag == TAG_GPU || x->tag == TAG_NIC ? parent_of(b, x)->node : -1;
        if (x->tag == TAG_CPU)
            x->node = add_node(b, TOPO_CPU, x, "cpu", "numaid");
        if ((x->tag == TAG_PCI && !add_pci(b, x)) || (x->tag == TAG_NET && !add_net(b, x)))
            return false;
        if (x->tag == TAG_GPU && parent_of(b, x)->tag != TAG_PCI)
            return err_set(b->r->e, ERR_INPUT, place(b->r, x), "<gpu> outside <pci>");
    }
    return true;
}

static bool join_cpus(struct build *b)
{
    const struct element *cpus[XML_CPUS];
    int count = 0;
    for (int i = 0; i < b->r->count; i++) {
        const struct element *x = &b->r->elements[i];
        if (x->tag != TAG_CPU)
            continue;
        if (count == XML_CPUS)
            return err_set(b->r->e, ERR_INPUT, place(b->r, x), "over %d CPUs in a server",
                           XML_CPUS);
        for (int k = 0; k < count; k++)
            topo_join(b->t, cpus[k]->node, x->node, cpu_rate(x) * b->share, 0);
        cpus[count++] = x;
    }
    return true;
}

/* NVSwitches are one node, as NCCL takes them; else the target is another GPU by bus id. */
static bool add_nvlink(struct build *b, const struct element *x)
{
    const struct element *gpu = parent_of(b, x);
    const char *target = attribute(x, "target"), *class = attribute(x, "tclass");
    double rate = 0;
    if (gpu->tag != TAG_GPU)
        return true; /* as seen from the other end */
    if (!nvlink_rate(b->r, x, gpu, &rate))
        return false;
    if (class && strncmp(class, "0x0680", 6) == 0) {
        if (b->nvswitch < 0)
            b->nvswitch = topo_add(b->t, TOPO_NVSWITCH, b->host,
                                   arena_printf(b->t->arena, "node%d/nvswitch", b->host));
        topo_edge(b->t, gpu->node, b->nvswitch, rate * b->share, b->o->nvlink_latency_s);
        topo_edge(b->t, b->nvswitch, gpu->node, rate * b->share, 0);
        return true;
    }
    for (int i = 0; target && i < b->r->count; i++) {
        const struct element *y = &b->r->elements[i];
        const char *id = y->tag == TAG_PCI ? attribute(y, "busid") : NULL;
        if (id && strcmp(id, target) == 0 && y->node != gpu->node) {
            topo_edge(b->t, gpu->node, y->node, rate * b->share, b->o->nvlink_latency_s);
            return true;
        }
    }
    return err_set(b->r->e, ERR_INPUT, place(b->r, x),
                   "nvlink target=\"%.40s\" is not another device of the file: a link in no path",
                   target ? target : "");
}

static bool add_server(struct build *b)
{
    b->nvswitch = -1;
    if (!add_nodes(b) || !join_cpus(b))
        return false;
    for (int i = 0; i < b->r->count; i++)
        if (b->r->elements[i].tag == TAG_NVLINK && !add_nvlink(b, &b->r->elements[i]))
            return false;
    return true;
}

static struct topo *build_all(const struct reader *r, const struct xml_options *o, struct arena *a)
{
    const char *version = r->count ? attribute(&r->elements[0], "version") : NULL;
    if (!version || strcmp(version, "1") != 0) {
        err_set(r->e, ERR_INPUT, place(r, &r->elements[0]), "version=\"%.40s\": want \"1\"",
                version ? version : "");
        return NULL;
    }
    if ((double)r->count * o->servers > 4e6) {
        err_set(r->e, ERR_INPUT, err_at_name(r->name), "%d elements on %d servers: over 4 million",
                r->count, o->servers);
        return NULL;
    }
    struct build b = {.r = r,
                      .o = o,
                      .t = topo_new(a),
                      .network = -1,
                      .share = o->efficiency > 0 ? o->efficiency : 1};
    if (o->servers > 1)
        b.network = topo_add(b.t, TOPO_SWITCH, -1, "network");
    for (b.host = 0; b.host < o->servers; b.host++)
        if (!add_server(&b))
            return NULL;
    return topo_finish(b.t, err_at_name(r->name), r->e) ? b.t : NULL;
}

struct topo *topo_of_nccl_text(const char *name, const char *text, size_t length,
                               const struct xml_options *o, struct arena *a, struct err *e)
{
    struct reader r = {.name = name, .a = a, .e = e};
    return parse(&r, text, length) ? build_all(&r, o, a) : NULL;
}

struct topo *topo_of_nccl_file(const char *path, const struct xml_options *o, struct arena *a,
                               struct err *e)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        err_open(e, err_at_name(path));
        return NULL;
    }
    char *text = arena_alloc(a, XML_BYTES + 1, 1);
    size_t length = fread(text, 1, XML_BYTES + 1, f);
    bool failed = ferror(f);
    fclose(f);
    if (failed) {
        err_set(e, ERR_SYSTEM, err_at_name(path), "cannot read: %s", strerror(errno));
        return NULL;
    }
    return topo_of_nccl_text(path, text, length, o, a, e);
}
