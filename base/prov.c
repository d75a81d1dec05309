#include "base/prov.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/utf8.h"

const char shardwise_version[] = SHARDWISE_VERSION;

struct input {
    struct input *next;
    const char *name;
    bool hashed; /* false for what can be read only once, such as a pipe */
    uint64_t hash;
};

struct prov {
    struct arena *arena;
    const char *command;
    uint64_t seed;
    struct input *first, **last;
};

uint64_t fnv_bytes(uint64_t hash, const void *bytes, size_t length)
{
    const unsigned char *b = bytes;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ b[i]) * 0x100000001b3u;
    return hash;
}

static bool is_bare(const char *arg)
{
    return *arg &&
           arg[strspn(
               arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%")] ==
               '\0';
}

/* The bytes of `arg` as a shell reads them back, on one line: plain, 'quoted', or with \ooo for
 * control characters as $'...' has it. `out` has room for 4 bytes for each of arg and 4 more. */
static char *arg_quote(const char *arg, char *out)
{
    bool control = false;
    for (const char *c = arg; *c; c++)
        control |= (unsigned char)*c < 0x20 || *c == 0x7f;
    out += sprintf(out, "%s", control ? "$'" : "'");
    for (const char *c = arg; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            out += sprintf(out, "\\%03o", (unsigned)*c);
        else if (*c == '\'' || (control && *c == '\\'))
            out += sprintf(out, control ? "\\%c" : "'\\%c'", *c);
        else
            *out++ = *c;
    *out++ = '\'';
    return out;
}

/* The program's folder is left out: it differs from machine to machine and changes nothing. */
static const char *command_line(struct arena *a, int argc, char **argv)
{
    size_t room = 1;
    for (int i = 0; i < argc; i++)
        room += 4 * strlen(argv[i]) + 5;
    char *text = arena_alloc(a, room, 1), *out = text;
    for (int i = 0; i < argc; i++) {
        const char *slash = i == 0 ? strrchr(argv[i], '/') : NULL,
                   *arg = slash ? slash + 1 : argv[i];
        out += sprintf(out, "%s%s", i ? " " : "", is_bare(arg) ? arg : "");
        if (!is_bare(arg))
            out = arg_quote(arg, out);
    }
    *out = '\0';
    return text;
}

struct prov *prov_new(struct arena *a, int argc, char **argv, uint64_t seed)
{
    struct prov *p = ARENA_NEW(a, struct prov);
    *p = (struct prov){.arena = a, .command = command_line(a, argc, argv), .seed = seed};
    p->last = &p->first;
    return p;
}

static bool has_input(const struct prov *p, const char *name)
{
    for (const struct input *i = p->first; i; i = i->next)
        if (strcmp(i->name, name) == 0)
            return true;
    return false;
}

static void input_add(struct prov *p, const char *name, bool hashed, uint64_t hash)
{
    struct input *i = ARENA_NEW(p->arena, struct input);
    *i = (struct input){.name = arena_strdup(p->arena, name), .hashed = hashed, .hash = hash};
    *p->last = i;
    p->last = &i->next;
}

static bool file_hash(const char *path, uint64_t *hash, struct err *e)
{
    FILE *in = fopen(path, "rb");
    if (!in)
        return err_open(e, err_at_name(path));
    unsigned char buffer[16 * 1024];
    uint64_t h = FNV_START;
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, in)) > 0;)
        h = fnv_bytes(h, buffer, n);
    bool ok = !ferror(in);
    if (!ok)
        err_set(e, ERR_SYSTEM, err_at_name(path), "cannot be read: %s", strerror(errno));
    fclose(in);
    if (ok)
        *hash = h;
    return ok;
}

bool prov_input(struct prov *p, const char *path, struct err *e)
{
    return prov_input_as(p, path, path, e);
}

bool prov_input_as(struct prov *p, const char *name, const char *path, struct err *e)
{
    if (has_input(p, name))
        return true;
    struct stat s;
    if (stat(path, &s) == 0 &&
        !S_ISREG(s.st_mode)) { /* reading it again would eat or wait for data */
        input_add(p, name, false, 0);
        return true;
    }
    uint64_t hash;
    if (!file_hash(path, &hash, e))
        return false;
    input_add(p, name, true, hash);
    return true;
}

void prov_bytes(struct prov *p, const char *name, const void *bytes, size_t length)
{
    if (!has_input(p, name))
        input_add(p, name, true, fnv_bytes(FNV_START, bytes, length));
}

void prov_comment(const struct prov *p, FILE *out)
{
    fprintf(out, "# " SHARDWISE_NAME " %s\n# command: %s\n# seed: %" PRIu64 "\n", shardwise_version,
            p->command, p->seed);
    for (const struct input *i = p->first; i; i = i->next) {
        fputs("# input: ", out);
        utf8_put(i->name, out);
        if (i->hashed)
            fprintf(out, " fnv1a64=%016" PRIx64 "\n", i->hash);
        else
            fputs(" (not a regular file, not hashed)\n", out);
    }
}

/* A number while every reader of JSON keeps it exact (2^53, doubles), a text above. */
static void json_seed(struct json *j, uint64_t seed)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, seed);
    if (seed <= (uint64_t)1 << 53)
        json_int(j, "seed", (int64_t)seed);
    else
        json_text(j, "seed", text);
}

void prov_json(const struct prov *p, struct json *j)
{
    char hash[24];
    json_object(j, "provenance");
    json_text(j, "program", SHARDWISE_NAME);
    json_text(j, "version", shardwise_version);
    json_text(j, "command", p->command);
    json_seed(j, p->seed);
    json_array(j, "inputs");
    for (const struct input *i = p->first; i; i = i->next) {
        json_object(j, NULL);
        json_text(j, "path", i->name);
        snprintf(hash, sizeof hash, "%016" PRIx64, i->hash);
        json_text(j, "fnv1a64", i->hashed ? hash : NULL);
        json_end(j);
    }
    json_end(j);
    json_end(j);
}
