#include "base/arena.h"

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/base/check.h"

static void memory_is_zeroed_aligned_and_apart(void)
{
    struct arena *a = arena_new();
    unsigned char *p[200];
    bool zero = true, aligned = true, apart = true;
    for (int i = 0; i < 200; i++) {
        p[i] = arena_alloc(a, (size_t)i * 37, 1);
        for (int k = 0; k < i * 37; k++)
            zero &= p[i][k] == 0;
        aligned &= (uintptr_t)p[i] % _Alignof(max_align_t) == 0;
        memset(p[i], i, (size_t)i * 37);
    }
    for (int i = 0; i < 200; i++)
        for (int k = 0; k < i * 37; k++)
            apart &= p[i][k] == i;
    gsl_test(!zero, "zeroed");
    gsl_test(!aligned, "aligned for any type");
    gsl_test(!apart, "each keeps its bytes");
    arena_free(a);
    arena_free(NULL);
}

static void a_reset_arena_is_used_again(void)
{
    struct arena *a = arena_new();
    for (int round = 0; round < 1000; round++) {
        unsigned char *p = arena_alloc(a, 100000, 1);
        gsl_test(round == 999 && p[99999] != 0, "zeroed again");
        memset(p, 1, 100000);
        arena_reset(a);
    }
    gsl_test(arena_bytes(a) > 200000, "1000 rounds of 100 kB hold %zu bytes", arena_bytes(a));
    arena_free(a);
}

static void large_pieces_do_not_waste(void)
{
    struct arena *a = arena_new();
    for (int i = 0; i < 10; i++)
        arena_alloc(a, 10 * 1000 * 1000, 1);
    gsl_test(arena_bytes(a) > 101 * 1000 * 1000, "10 pieces of 10 MB take %zu bytes",
             arena_bytes(a));
    arena_free(a);
}

static void texts_are_copied(void)
{
    struct arena *a = arena_new();
    char text[] = "hello";
    const char *copy = arena_strdup(a, text), *part = arena_strndup(a, text, 2);
    memset(text, 'x', 5);
    check_text(copy, "hello", "copy");
    check_text(part, "he", "part");
    check_text(arena_printf(a, "%d-%s", 7, "a"), "7-a", "printed");
    check_text(arena_printf(a, "%01000d", 7) + 995, "00007", "printed, long");
    arena_free(a);
}

static int status_of(void (*act)(void))
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(99);
        act();
        _exit(0);
    }
    waitpid(child, &status, 0);
    return status;
}

/* 2^33 * 2^33 bytes are 2^66, which is 4 in 64 bits. */
static void overflow(void)
{
    arena_alloc(arena_new(), (size_t)1 << 33, (size_t)1 << 33);
}

static void nearly_everything(void)
{
    arena_alloc(arena_new(), SIZE_MAX, 1);
}

static void a_size_that_overflows_ends_the_program(void)
{
    int status = status_of(overflow);
    gsl_test(!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT, "2^33 * 2^33 bytes");
    status = status_of(nearly_everything);
    gsl_test(!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT, "2^64 - 1 bytes and a header");
}

static void a_widened_array_keeps_what_it_had(void)
{
    struct arena *a = arena_new();
    int *items = NULL, count = 0, room = 0;
    for (; count < 1000; count++) {
        items = arena_widen(a, items, count, &room, sizeof *items);
        items[count] = 7 * count;
    }
    int wrong = 0;
    for (int i = 0; i < count; i++)
        wrong += items[i] != 7 * i;
    gsl_test_int(wrong, 0, "a thousand numbers");
    gsl_test_int(room, 1024, "64 doubled four times");
    arena_free(a);
}

int main(void)
{
    a_widened_array_keeps_what_it_had();
    memory_is_zeroed_aligned_and_apart();
    a_reset_arena_is_used_again();
    large_pieces_do_not_waste();
    texts_are_copied();
    a_size_that_overflows_ends_the_program();
    return gsl_test_summary();
}
