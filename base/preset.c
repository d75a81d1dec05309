#include "base/preset.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/nearest.h"

enum { FOLDERS = 4 };

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcasecmp(text + n - m, end) == 0;
}

static bool is_path(const char *name)
{
    static const char *const ends[] = {".yaml", ".yml", ".json", ".csv", ".h5", ".hdf5"};
    bool is = strchr(name, '/') != NULL;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        is = is || ends_with(name, ends[i]);
    return is;
}

/* ../share/shardwise/presets beside the program; NULL where the system does not say where that is.
 */
static const char *beside_program(struct arena *a)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0)
        return NULL;
    path[length] = '\0';
    *strrchr(path, '/') = '\0';
    return arena_printf(a, "%s/../share/shardwise/presets", path);
}

/* The folders to look into, in order; the user's may be missing from the environment. */
static int folders(const char *out[FOLDERS], struct arena *a)
{
    int count = 0;
    const char *own = getenv("SHARDWISE_PRESETS"), *beside = beside_program(a);
    if (own && *own)
        out[count++] = own;
    if (beside)
        out[count++] = beside;
    out[count++] = SHARDWISE_SOURCE_PRESETS;
    out[count++] = SHARDWISE_DATA_PRESETS;
    return count;
}

struct names {
    const char **name, **path;
    int count, room;
};

static bool has_name(const struct names *n, const char *name)
{
    for (int i = 0; i < n->count; i++)
        if (strcasecmp(n->name[i], name) == 0)
            return true;
    return false;
}

static void names_add(struct names *n, const char *name, const char *path, struct arena *a)
{
    if (n->count + 1 >= n->room) { /* one more for the NULL at the end */
        struct names larger = {.count = n->count, .room = n->room ? 2 * n->room : 64};
        larger.name = ARENA_ARRAY(a, const char *, larger.room);
        larger.path = ARENA_ARRAY(a, const char *, larger.room);
        for (int i = 0; i < n->count; i++) {
            larger.name[i] = n->name[i];
            larger.path[i] = n->path[i];
        }
        *n = larger;
    }
    n->name[n->count] = name;
    n->path[n->count++] = path;
}

/* Presets are YAML files, or CSV tables where rows are what they hold. */
static int is_preset(const struct dirent *d)
{
    return d->d_name[0] != '.' && (ends_with(d->d_name, ".yaml") || ends_with(d->d_name, ".csv"));
}

static int by_file(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Adds the presets of folder/kind that no earlier folder had. A folder that is not there adds none.
 */
static bool folder_read(const char *folder, const char *kind, struct names *n, struct arena *a,
                        struct err *e)
{
    const char *path = arena_printf(a, "%s/%s", folder, kind);
    struct dirent **list = NULL;
    int count = scandir(path, &list, is_preset, by_file);
    if (count < 0 && errno != ENOENT && errno != ENOTDIR)
        return err_set(e, ERR_SYSTEM, err_at_name(path), "cannot be listed: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        const char *file = list[i]->d_name,
                   *name = arena_strndup(a, file, (size_t)(strrchr(file, '.') - file));
        if (!has_name(n, name))
            names_add(n, name, arena_printf(a, "%s/%s", path, file), a);
        free(list[i]);
    }
    free(list);
    return true;
}

static bool names_read(const char *kind, struct names *n, struct arena *a, struct err *e)
{
    const char *in[FOLDERS];
    int count = folders(in, a);
    *n = (struct names){0};
    for (int i = 0; i < count; i++)
        if (!folder_read(in[i], kind, n, a, e))
            return false;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **preset_list(const char *kind, struct arena *a, struct err *e)
{
    struct names n;
    if (!names_read(kind, &n, a, e))
        return NULL;
    if (n.count == 0)
        return ARENA_ARRAY(a, const char *, 1);
    qsort(n.name, (size_t)n.count, sizeof *n.name, by_name);
    return n.name;
}

static void refuse(const char *kind, const char *name, struct err_at at, struct arena *a,
                   struct err *e)
{
    const char **known =
        preset_list(kind, a, e); /* sorted, so that the same name is near on every machine */
    if (!known)
        return;
    const char *near = nearest_name(name, known);
    const char *many = strcmp(kind, "sparsity") == 0 ? "sparsities" : arena_printf(a, "%ss", kind);
    err_set(e, ERR_INPUT, at, "no %s '%.80s'%s%s%s `shardwise show %s` lists them", kind, name,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : ";", many);
}

const char *preset_find(const char *kind, const char *name, struct err_at at, struct arena *a,
                        struct err *e)
{
    struct names n;
    if (is_path(name))
        return arena_strdup(a, name);
    if (!names_read(kind, &n, a, e))
        return NULL;
    for (int i = 0; i < n.count; i++)
        if (strcasecmp(n.name[i], name) == 0)
            return n.path[i];
    refuse(kind, name, at, a, e);
    return NULL;
}

const char *preset_beside(const char *name, const char *file, struct arena *a)
{
    const char *slash = file ? strrchr(file, '/') : NULL;
    if (!is_path(name) || *name == '/' || !slash)
        return name;
    const char *beside = arena_printf(a, "%.*s/%s", (int)(slash - file), file, name);
    return access(beside, F_OK) == 0 ? beside : name;
}
