/* Hashes: the test vectors that the authors of FNV publish for FNV-1a, 64 bits. */
#include "base/prov.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "tests/base/check.h"
#include "tests/base/folder.h"

static void hashes_are_fnv_1a(void)
{
    static const struct {
        const char *text;
        uint64_t hash;
    } rows[] = {
        {"", 0xcbf29ce484222325u}, {"a", 0xaf63dc4c8601ec8cu}, {"foobar", 0x85944171f73967e8u}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        gsl_test(fnv_bytes(FNV_START, rows[i].text, strlen(rows[i].text)) != rows[i].hash, "'%s'",
                 rows[i].text);
    gsl_test(fnv_bytes(fnv_bytes(FNV_START, "foo", 3), "bar", 3) != rows[2].hash, "in two parts");
}

static char *comment(const struct prov *p)
{
    struct memory m;
    memory_open(&m);
    prov_comment(p, m.out);
    return memory_close(&m);
}

static void a_comment_has_version_command_seed_and_inputs(struct arena *a)
{
    const char *folder = folder_new(a), *path = folder_file(folder, "x.yaml", "foobar", a);
    const char *pipe = arena_printf(a, "%s/pipe", folder);
    char *argv[] = {"/opt/bin/shardwise",
                    "plan",
                    "--note",
                    "it's $HOME; two words",
                    "",
                    "a\nb\\",
                    "-o",
                    "x.json",
                    NULL};
    struct err e = {0};
    struct prov *p = prov_new(a, 8, argv, 18446744073709551615u);
    gsl_test(mkfifo(pipe, 0600) != 0, "a pipe");
    gsl_test(!prov_input(p, path, &e) || !prov_input(p, path, &e), "twice %s", e.text);
    gsl_test(!prov_input(p, pipe, &e), "a pipe is not waited for %s", e.text);
    prov_bytes(p, "inline", "a", 1);
    char *text = comment(p);
    check_text(text,
               arena_printf(a,
                            "# shardwise %s\n"
                            "# command: shardwise plan --note 'it'\\''s $HOME; two words' '' "
                            "$'a\\012b\\\\' -o x.json\n"
                            "# seed: 18446744073709551615\n"
                            "# input: %s fnv1a64=85944171f73967e8\n"
                            "# input: %s (not a regular file, not hashed)\n"
                            "# input: inline fnv1a64=af63dc4c8601ec8c\n",
                            shardwise_version, path, pipe),
               "comment");
    free(text);
    folder_remove(folder, a);
}

static void json_says_the_same(struct arena *a)
{
    char *argv[] = {"shardwise", "plan", NULL};
    struct prov *p = prov_new(a, 2, argv, 7), *large = prov_new(a, 0, argv, 9007199254740993u);
    struct memory m;
    prov_bytes(p, "in.yaml", "a", 1);
    memory_open(&m);
    struct json j = json_to(m.out);
    json_object(&j, NULL);
    prov_json(p, &j);
    json_end(&j);
    char *text = memory_close(&m);
    check_text(
        text,
        arena_printf(
            a,
            "{\n  \"provenance\": {\n    \"program\": \"shardwise\",\n    \"version\": \"%s\",\n"
            "    \"command\": \"shardwise plan\",\n    \"seed\": 7,\n    \"inputs\": [\n      {\n"
            "        \"path\": \"in.yaml\",\n        \"fnv1a64\": \"af63dc4c8601ec8c\"\n      }\n  "
            "  ]\n  }\n}\n",
            shardwise_version),
        "json");
    free(text);
    memory_open(&m);
    j = json_to(m.out);
    json_object(&j, NULL);
    prov_json(large, &j);
    json_end(&j);
    text = memory_close(&m);
    gsl_test(!strstr(text, "\"seed\": \"9007199254740993\""),
             "2^53 + 1 is a text, as doubles cannot hold it");
    free(text);
}

static void a_missing_input_is_an_error(struct arena *a)
{
    char *argv[] = {"shardwise", NULL};
    struct err e = {0};
    struct prov *p = prov_new(a, 1, argv, 1);
    gsl_test(prov_input(p, "no/such.yaml", &e), "no file");
    check_refused(&e, ERR_INPUT, "no/such.yaml: cannot be opened: No such file or directory");
    char *text = comment(p);
    gsl_test(strstr(text, "input") != NULL, "and it is not listed");
    free(text);
}

int main(void)
{
    struct arena *a = arena_new();
    hashes_are_fnv_1a();
    a_comment_has_version_command_seed_and_inputs(a);
    json_says_the_same(a);
    a_missing_input_is_an_error(a);
    arena_free(a);
    return gsl_test_summary();
}
