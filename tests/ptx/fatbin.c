/* PTX out of a fat binary, registers out of a compiler's report. */
#include "tests/ptx/fatbin.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRAPPER = 0x466243B1, KIND_PTX = 1 };
static const uint32_t data_magic = 0xBA55ED50u;

struct data_header {
    uint32_t magic;
    uint16_t version, header_bytes;
    uint64_t bytes;
};

struct entry_header {
    uint16_t kind, version;
    uint32_t header_bytes;
    uint64_t bytes;
};

static const char *find(const char *text, size_t bytes, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= bytes; i++)
        if (memcmp(text + i, word, n) == 0)
            return text + i;
    return NULL;
}

/* "sm_90a" of ".target sm_90a"; false where that is not among the first lines. */
static bool target_of(const char *text, size_t bytes, char target[16])
{
    size_t head = bytes < 4096 ? bytes : 4096;
    const char *at = find(text, head, ".target");
    char line[64] = "";
    if (!at)
        return false;
    size_t left = (size_t)(text + head - at);
    memcpy(line, at, left < sizeof line - 1 ? left : sizeof line - 1);
    return sscanf(line, ".target %15[a-z0-9_]", target) == 1;
}

/* How well the target fits the device; 0: not at all. */
static int fit(const char *target, int sm)
{
    int number = 0;
    char letter = 0;
    if (sscanf(target, "sm_%d%c", &number, &letter) < 1)
        return 0;
    if (letter)
        return letter == 'a' && number == sm ? 2 * number + 1 : 0;
    return number <= sm ? 2 * number : 0;
}

bool fatbin_ptx(const struct fatbin *f, int sm, const char **text, size_t *bytes, char target[16],
                struct err *e)
{
    struct data_header h;
    if (f->magic != WRAPPER)
        return err_set(e, ERR_INPUT, err_at_name("fat binary"), "magic %x, want %x",
                       (unsigned)f->magic, (unsigned)WRAPPER);
    memcpy(&h, f->data, sizeof h);
    if (h.magic != data_magic || h.header_bytes < sizeof h)
        return err_set(e, ERR_INPUT, err_at_name("fat binary"), "magic %x, want %x", h.magic,
                       data_magic);
    const char *at = (const char *)f->data + h.header_bytes, *end = at + h.bytes;
    int best = 0;
    while ((size_t)(end - at) >= sizeof(struct entry_header)) {
        struct entry_header x;
        char name[16];
        memcpy(&x, at, sizeof x);
        if (x.header_bytes < sizeof x || x.header_bytes > (size_t)(end - at) ||
            x.bytes > (size_t)(end - at) - x.header_bytes)
            break;
        const char *payload = at + x.header_bytes;
        if (x.kind == KIND_PTX && !target_of(payload, x.bytes, name))
            return err_set(e, ERR_INPUT, err_at_name("fat binary"),
                           "its PTX cannot be read; was nvcc given --no-compress?");
        if (x.kind == KIND_PTX && fit(name, sm) > best) {
            best = fit(name, sm);
            *text = payload;
            *bytes = strnlen(payload, x.bytes); /* zeros fill up to a multiple of 8 */
            memcpy(target, name, sizeof name);
        }
        at = payload + x.bytes;
    }
    return best > 0 || err_set(e, ERR_DEVICE, err_at_name("fat binary"),
                               "no PTX in it for compute capability %d.%d", sm / 10, sm % 10);
}

int fatbin_registers(const char *report, const char *kernel, const char *target)
{
    char want[4096];
    snprintf(want, sizeof want, "'%s' for '%s'", kernel, target);
    const char *at = strstr(report, want), *used = at ? strstr(at, "Used ") : NULL;
    return used ? atoi(used + 5) : 0;
}
