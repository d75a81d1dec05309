/* Provenance: what every output begins with, so that it can be made again. */
#ifndef BASE_PROV_H
#define BASE_PROV_H

#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

#define SHARDWISE_NAME "shardwise"
extern const char shardwise_version[]; /* "0.1.0" */

struct prov; /* version, command line, seed, inputs with their hashes */

/* argv is copied: as the user wrote it, quoted for a shell, the program's own folder left out. */
struct prov *prov_new(struct arena *a, int argc, char **argv, uint64_t seed);

/* Adds an input file and the 64-bit FNV-1a hash of its bytes (a fingerprint, not a signature).
 * Adding a path twice changes nothing. What is not a regular file (a pipe) can be read only once:
 * it is named without a hash; who has its bytes can use prov_bytes. */
bool prov_input(struct prov *p, const char *path, struct err *e);
/* The same under another name: a preset's folder differs from machine to machine. */
bool prov_input_as(struct prov *p, const char *name, const char *path, struct err *e);
void prov_bytes(struct prov *p, const char *name, const void *bytes, size_t length);

void prov_comment(const struct prov *p,
                  FILE *out); /* lines that start with "# ", for text and CSV */
void prov_json(const struct prov *p,
               struct json *j); /* the member "provenance" of the open object */

/* FNV-1a, 64 bits (Fowler, Noll, Vo); start with hash = FNV_START. */
#define FNV_START 0xcbf29ce484222325u
uint64_t fnv_bytes(uint64_t hash, const void *bytes, size_t length);

#endif
