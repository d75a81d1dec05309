/* A server's wires from NCCL's own topology file (NCCL_TOPO_DUMP_FILE writes it, NCCL_TOPO_FILE
 * reads it). The file tells of one server (or one NVLink domain); `servers` copies are joined by
 * their NICs through one ideal switch.
 *
 * Read with expat, as a strict subset: elements system, cpu, pci, pcilink, gpu, nvlink, c2c, nic,
 * net; other attributes than those used are ignored. Refused: a document type or entities, other
 * elements, text, nesting over XML_DEPTH, more than XML_ELEMENTS elements, files over XML_BYTES, an
 * NVLink whose other end is not in the file. */
#ifndef SIM_XML_H
#define SIM_XML_H

#include "sim/topo.h"

enum { XML_DEPTH = 24, XML_ELEMENTS = 16384, XML_CPUS = 64, XML_BYTES = 8 * 1024 * 1024 };

struct xml_options {
    int servers;             /* at least 1 */
    double nvlink_latency_s; /* the file has none */
    double efficiency;       /* share of the links' rates that is reached; 0 counts as 1 */
};

/* Rates are NCCL's (its topo.h): NVLink count x 20.6 GB/s on Hopper, 20 on Ampere, 40.1 on
 * Blackwell; PCIe by generation and width; between CPUs 40, 22 or 10 GB/s on Intel, 16 on AMD; NICs
 * speed / 8000 GB/s. Memory in `a`. */
struct topo *topo_of_nccl_text(const char *name, const char *text, size_t length,
                               const struct xml_options *o, struct arena *a, struct err *e);
struct topo *topo_of_nccl_file(const char *path, const struct xml_options *o, struct arena *a,
                               struct err *e);

#endif
