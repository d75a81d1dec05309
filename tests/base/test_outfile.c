/* What is in the folder is looked at with opendir, not asked of the module. */
#define _GNU_SOURCE /* O_TMPFILE */
#include "base/outfile.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/base/check.h"
#include "tests/base/folder.h"

static void it_appears_when_it_is_done(struct arena *a)
{
    const char *folder = folder_new(a), *path = arena_printf(a, "%s/plan.json", folder);
    struct err e = {0};
    struct outfile *f = outfile_open(path, a, &e);
    gsl_test(!f, "opens %s", e.text);
    fputs("new", outfile_stream(f));
    gsl_test(file_text(path, a) != NULL, "nothing is there before");
    gsl_test(!outfile_done(f, &e), "done %s", e.text);
    check_text(file_text(path, a), "new", "content");
    gsl_test(folder_entries(folder) != 1, "and nothing beside it");
    outfile_drop(f);
    check_text(file_text(path, a), "new", "dropping what is done changes nothing");
    folder_remove(folder, a);
}

static void an_old_file_stays_whole_until_then(struct arena *a)
{
    const char *folder = folder_new(a), *path = folder_file(folder, "plan.json", "old", a);
    struct err e = {0};
    struct outfile *f = outfile_open(path, a, &e);
    fputs("half", outfile_stream(f));
    fflush(outfile_stream(f));
    check_text(file_text(path, a), "old", "content while the new one is written");
    outfile_drop(f);
    check_text(file_text(path, a), "old", "content after a drop");
    gsl_test(folder_entries(folder) != 1, "a drop leaves nothing beside it");
    f = outfile_open(path, a, &e);
    fputs("new", outfile_stream(f));
    gsl_test(!outfile_done(f, &e), "done %s", e.text);
    check_text(file_text(path, a), "new", "content when done");
    folder_remove(folder, a);
}

static void the_mode_is_what_the_umask_says(struct arena *a)
{
    const char *folder = folder_new(a), *path = arena_printf(a, "%s/plan.json", folder);
    struct err e = {0};
    struct stat s;
    mode_t old = umask(022);
    struct outfile *f = outfile_open(path, a, &e);
    gsl_test(!outfile_done(f, &e) || stat(path, &s) != 0 || (s.st_mode & 0777) != 0644,
             "rw-r--r-- under umask 022");
    umask(old);
    folder_remove(folder, a);
}

/* Whether this build and this file system have files without a name. */
static bool has_unnamed(const char *folder)
{
#ifdef OUTFILE_NAMED
    (void)folder;
    return false;
#else
    int fd = open(folder, O_TMPFILE | O_WRONLY, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
#endif
}

static void a_killed_write_leaves_the_target_as_it_was(struct arena *a)
{
    const char *folder = folder_new(a), *path = arena_printf(a, "%s/plan.json", folder);
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct err e = {0};
        struct outfile *f = outfile_open(path, a, &e);
        fputs("half", outfile_stream(f));
        fflush(outfile_stream(f));
        raise(SIGKILL);
    }
    gsl_test(waitpid(child, &status, 0) != child || !WIFSIGNALED(status), "the child was killed");
    gsl_test(file_text(path, a) != NULL, "no target");
    gsl_test(has_unnamed(folder) && folder_entries(folder) != 0,
             "and no temporary, where files can be without a name");
    folder_remove(folder, a);
}

static void what_cannot_be_written_is_said(struct arena *a)
{
    const char *folder = folder_new(a), *path = arena_printf(a, "%s/no/plan.json", folder);
    struct err e = {0};
    gsl_test(outfile_open(path, a, &e) != NULL, "no such folder");
    check_refused(&e, ERR_SYSTEM,
                  arena_printf(a, "%s: cannot be written: No such file or directory", path));
    e = (struct err){0};
    gsl_test(outfile_open(folder, a, &e) != NULL, "a folder");
    check_refused(&e, ERR_SYSTEM, arena_printf(a, "%s: cannot be written: Is a directory", folder));
    if (getuid() != 0) { /* root may write anywhere */
        path = arena_printf(a, "%s/plan.json", folder);
        e = (struct err){0};
        chmod(folder, 0500);
        gsl_test(outfile_open(path, a, &e) != NULL, "a folder without write permission");
        check_refused(&e, ERR_SYSTEM,
                      arena_printf(a, "%s: cannot be written: Permission denied", path));
        chmod(folder, 0700);
    }
    gsl_test(folder_entries(folder) != 0, "nothing is left");
    folder_remove(folder, a);
}

static void a_full_disk_is_an_error(struct arena *a)
{
    struct err e = {0};
    struct outfile *f = outfile_open("/dev/full", a, &e);
    gsl_test(!f, "opens %s", e.text);
    fputs("x", outfile_stream(f));
    gsl_test(outfile_done(f, &e), "/dev/full");
    check_refused(&e, ERR_SYSTEM, "/dev/full: cannot be written: No space left on device");
    e = (struct err){0};
    f = outfile_open("/dev/full", a, &e);
    for (int i = 0; i < 100000;
         i++) /* the error comes long before the end, and must not be forgotten */
        fputs("0123456789", outfile_stream(f));
    gsl_test(outfile_done(f, &e), "/dev/full, 1 MB");
    gsl_test(e.code != ERR_SYSTEM, "%s", e.text);
}

static void devices_are_written_and_not_replaced(struct arena *a)
{
    struct err e = {0};
    struct stat s;
    struct outfile *f = outfile_open("/dev/null", a, &e);
    fputs("x", outfile_stream(f));
    gsl_test(!outfile_done(f, &e), "done %s", e.text);
    gsl_test(stat("/dev/null", &s) != 0 || !S_ISCHR(s.st_mode), "/dev/null is still a device");
}

static void a_link_stays_a_link(struct arena *a)
{
    const char *folder = folder_new(a), *path = folder_file(folder, "plan.json", "old", a);
    const char *link = arena_printf(a, "%s/latest", folder);
    struct err e = {0};
    struct stat s;
    gsl_test(symlink("plan.json", link) != 0, "a link");
    struct outfile *f = outfile_open(link, a, &e);
    fputs("new", outfile_stream(f));
    gsl_test(!outfile_done(f, &e), "done %s", e.text);
    check_text(file_text(path, a), "new", "what it points to");
    gsl_test(lstat(link, &s) != 0 || !S_ISLNK(s.st_mode), "still a link");
    folder_remove(folder, a);
}

static void a_dash_is_standard_output(struct arena *a)
{
    struct err e = {0};
    struct outfile *f = outfile_open("-", a, &e);
    gsl_test(outfile_stream(f) != stdout, "stdout");
    gsl_test(!outfile_done(f, &e), "done %s", e.text);
    gsl_test(printf(" ") < 0, "and it is open still");
}

int main(void)
{
    struct arena *a = arena_new();
    it_appears_when_it_is_done(a);
    an_old_file_stays_whole_until_then(a);
    the_mode_is_what_the_umask_says(a);
    a_killed_write_leaves_the_target_as_it_was(a);
    what_cannot_be_written_is_said(a);
    a_full_disk_is_an_error(a);
    devices_are_written_and_not_replaced(a);
    a_link_stays_a_link(a);
    a_dash_is_standard_output(a);
    outfile_drop(NULL);
    arena_free(a);
    return gsl_test_summary();
}
