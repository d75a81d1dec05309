/* A folder of a test's own under $TMPDIR, and what lies in it. */
#ifndef TESTS_BASE_FOLDER_H
#define TESTS_BASE_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"

static inline const char *folder_new(struct arena *a)
{
    const char *base = getenv("TMPDIR");
    char *path = arena_printf(a, "%s/shardwise-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(path)) {
        perror(path);
        exit(1);
    }
    return path;
}

static inline const char *folder_file(const char *folder, const char *name, const char *text,
                                      struct arena *a)
{
    const char *path = arena_printf(a, "%s/%s", folder, name);
    FILE *out = fopen(path, "w");
    if (!out || fputs(text, out) == EOF || fclose(out) != 0) {
        perror(path);
        exit(1);
    }
    return path;
}

static inline int folder_entries(const char *folder)
{
    DIR *d = opendir(folder);
    int count = -2; /* "." and ".." */
    while (d && readdir(d))
        count++;
    if (d)
        closedir(d);
    return count;
}

static inline const char *file_text(const char *path, struct arena *a)
{
    char buffer[4096] = "";
    FILE *in = fopen(path, "r");
    size_t n = in ? fread(buffer, 1, sizeof buffer - 1, in) : 0;
    if (in)
        fclose(in);
    return in ? arena_strndup(a, buffer, n) : NULL;
}

/* Removes the folder with the files and folders in it. */
static inline void folder_remove(const char *folder, struct arena *a)
{
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        const char *path = arena_printf(a, "%s/%s", folder, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlink(path) != 0)
            folder_remove(path, a);
    }
    if (d)
        closedir(d);
    rmdir(folder);
}

#endif
