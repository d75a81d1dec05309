#define _GNU_SOURCE /* O_TMPFILE */
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* O_TMPFILE and /proc/self/fd are Linux's: a file without a name, which even SIGKILL cannot leave
 * behind. Where the file system has none (and in a test of that, OUTFILE_NAMED), the temporary has
 * a name beside the target. */
#if defined O_TMPFILE && !defined OUTFILE_NAMED
enum { UNNAMED = O_TMPFILE };
#else
enum { UNNAMED = 0 };
#endif

enum { NAMES = 1000 }; /* temporaries of this process beside one target */

struct outfile {
    const char *path; /* as the user wrote it, for messages */
    const char *
        target; /* renamed to; NULL for what is written directly: standard output, devices, pipes */
    char *temporary; /* its name beside the target, NULL while it has none */
    FILE *stream;    /* NULL once done */
    struct arena *arena;
};

static bool fail(const struct outfile *f, const char *what, int reason, struct err *e)
{
    return err_set(e, ERR_SYSTEM, err_at_name(f->path), "%s: %s", what, strerror(reason));
}

static char *temporary_name(const struct outfile *f, int n)
{
    return arena_printf(f->arena, "%s.%ld-%d.tmp", f->target, (long)getpid(), n);
}

/* The folder of `path`, "." if none is named. */
static const char *folder_of(const char *path, struct arena *a)
{
    const char *slash = strrchr(path, '/');
    return !slash ? "." : slash == path ? "/" : arena_strndup(a, path, (size_t)(slash - path));
}

static int open_unnamed(const struct outfile *f)
{
    if (UNNAMED == 0 || access("/proc/self/fd", X_OK) != 0)
        return -1;
    return open(folder_of(f->target, f->arena), UNNAMED | O_WRONLY | O_CLOEXEC, 0666);
}

static int open_named(struct outfile *f)
{
    int fd = -1;
    for (int n = 0; n < NAMES && fd < 0; n++) {
        f->temporary = temporary_name(f, n);
        fd = open(f->temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    if (fd < 0)
        f->temporary = NULL;
    return fd;
}

/* Where a rename has to go: through symbolic links, or the link itself would be replaced. */
static const char *follow_links(const char *path, struct arena *a)
{
    char *real = realpath(path, NULL);
    const char *target = arena_strdup(a, real ? real : path);
    free(real);
    return target;
}

/* The descriptor to write to, -1 with errno set. */
static int open_target(struct outfile *f)
{
    struct stat s;
    bool exists = stat(f->path, &s) == 0;
    if (exists && S_ISDIR(s.st_mode)) {
        errno = EISDIR;
        return -1;
    }
    if (exists &&
        !S_ISREG(
            s.st_mode)) /* a device or a pipe: replacing /dev/null would be worse than useless */
        return open(f->path, O_WRONLY | O_CLOEXEC);
    f->target = follow_links(f->path, f->arena);
    int fd = open_unnamed(f);
    return fd >= 0 ? fd : open_named(f);
}

struct outfile *outfile_open(const char *path, struct arena *a, struct err *e)
{
    struct outfile *f = ARENA_NEW(a, struct outfile);
    *f = (struct outfile){.path = arena_strdup(a, path), .arena = a};
    if (strcmp(path, "-") == 0) {
        f->path = "standard output";
        f->stream = stdout;
        return f;
    }
    int fd = open_target(f);
    f->stream = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f->stream)
        return f;
    fail(f, "cannot be written", errno, e);
    if (fd >= 0)
        close(fd);
    if (f->temporary)
        unlink(f->temporary);
    return NULL;
}

FILE *outfile_stream(struct outfile *f)
{
    return f->stream;
}

void outfile_drop(struct outfile *f)
{
    if (!f || !f->stream)
        return;
    if (f->stream != stdout)
        fclose(f->stream);
    f->stream = NULL;
    if (f->temporary)
        unlink(f->temporary);
}

/* Gives an unnamed temporary a name, for rename replaces an old target and link does not. */
static bool name_temporary(struct outfile *f)
{
    const char *fd_path = arena_printf(f->arena, "/proc/self/fd/%d", fileno(f->stream));
    for (int n = 0; n < NAMES && !f->temporary; n++) {
        char *name = temporary_name(f, n);
        if (linkat(AT_FDCWD, fd_path, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0)
            f->temporary = name;
        else if (errno != EEXIST)
            break;
    }
    return f->temporary != NULL;
}

/* All bytes reach the disk before the name does, or a crash could leave the new name on an empty
 * file. */
static bool publish(struct outfile *f, struct err *e)
{
    bool error_before = ferror(f->stream);
    if (fflush(f->stream) != 0 || error_before)
        return fail(f, "cannot be written", errno ? errno : EIO, e);
    if (!f->target)
        return true;
    if (fsync(fileno(f->stream)) != 0)
        return fail(f, "cannot be written", errno, e);
    if ((!f->temporary && !name_temporary(f)) || rename(f->temporary, f->target) != 0)
        return fail(f, "cannot be put in place", errno, e);
    f->temporary = NULL;
    return true;
}

bool outfile_done(struct outfile *f, struct err *e)
{
    errno = 0;
    bool ok = publish(f, e);
    outfile_drop(f);
    return ok;
}
