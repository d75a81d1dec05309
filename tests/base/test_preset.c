/* Folders made for the test; the shipped presets have tests of their own. */
#include "base/preset.h"

#include <sys/stat.h>

#include "base/nearest.h"
#include "tests/base/check.h"
#include "tests/base/folder.h"

static const char *make_presets(struct arena *a)
{
    const char *folder = folder_new(a);
    mkdir(arena_printf(a, "%s/widget", folder), 0700);
    folder_file(folder, "widget/hunyuanvideo-13b.yaml", "a: 1\n", a);
    folder_file(folder, "widget/Wan2.1-14b.yaml", "a: 1\n", a);
    folder_file(folder, "widget/README.md", "", a);
    folder_file(folder, "widget/.hidden.yaml", "", a);
    setenv("SHARDWISE_PRESETS", folder, 1);
    return folder;
}

static void names_are_found_without_case(struct arena *a)
{
    const char *folder = make_presets(a);
    struct err e = {0};
    check_text(preset_find("widget", "WAN2.1-14B", err_at_name("--w"), a, &e),
               arena_printf(a, "%s/widget/Wan2.1-14b.yaml", folder), "path");
    folder_remove(folder, a);
}

static void a_path_of_the_users_own_is_taken_as_it_is(struct arena *a)
{
    static const char *const paths[] = {"./h100", "/x/y", "my.yaml", "my.yml", "my.JSON", "my.csv"};
    struct err e = {0};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        check_text(preset_find("widget", paths[i], err_at_name("--w"), a, &e), paths[i], "path");
}

static void a_miss_names_the_nearest(struct arena *a)
{
    const char *folder = make_presets(a);
    struct err e = {0};
    gsl_test(preset_find("widget", "hunyan", err_at_name("--widget"), a, &e) != NULL, "hunyan");
    check_refused(&e, ERR_INPUT,
                  "--widget: no widget 'hunyan'; did you mean 'hunyuanvideo-13b'? `shardwise show "
                  "widgets` lists them");
    e = (struct err){0};
    gsl_test(preset_find("widget", "..", err_at_name("--widget"), a, &e) != NULL, "..");
    check_refused(&e, ERR_INPUT, "--widget: no widget '..'; `shardwise show widgets` lists them");
    e = (struct err){0};
    gsl_test(preset_find("nosuch", "x", err_at_name("--widget"), a, &e) != NULL, "an empty kind");
    check_refused(&e, ERR_INPUT, "--widget: no nosuch 'x'; `shardwise show nosuchs` lists them");
    folder_remove(folder, a);
}

static void a_list_is_sorted_and_ends_in_null(struct arena *a)
{
    const char *folder = make_presets(a);
    struct err e = {0};
    const char **names = preset_list("widget", a, &e);
    check_text(names[0], "Wan2.1-14b", "first");
    check_text(names[1], "hunyuanvideo-13b", "second");
    gsl_test(names[2] != NULL, "end");
    gsl_test(preset_list("nosuch", a, &e)[0] != NULL, "an empty list");
    folder_remove(folder, a);
}

static void nearest_is_the_least_edited(void)
{
    static const char *const names[] = {"h100",      "h200",    "b200", "hunyuanvideo-13b",
                                        "bandwidth", "latency", NULL};
    static const struct {
        const char *text, *near;
    } rows[] = {
        {"h10", "h100"},
        {"H100", "h100"},
        {"h20", "h200"},
        {"bandwith", "bandwidth"},
        {"badnwidth", "bandwidth"},
        {"hunyuan", "hunyuanvideo-13b"},
        {"latencey", "latency"},
        {"hunyan", "hunyuanvideo-13b"},
        {"h200-141gb", "h200"},
    };
    static const char *const far[] = {
        "", "x", "colour", "zzzz",
        "a very long text that is over the sixty four bytes of the limit!!"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_text(nearest_name(rows[i].text, names), rows[i].near, rows[i].text);
    for (size_t i = 0; i < sizeof far / sizeof far[0]; i++)
        gsl_test(nearest_name(far[i], names) != NULL, "nothing is near '%s'", far[i]);
}

int main(void)
{
    struct arena *a = arena_new();
    names_are_found_without_case(a);
    a_path_of_the_users_own_is_taken_as_it_is(a);
    a_miss_names_the_nearest(a);
    a_list_is_sorted_and_ends_in_null(a);
    nearest_is_the_least_edited();
    arena_free(a);
    return gsl_test_summary();
}
