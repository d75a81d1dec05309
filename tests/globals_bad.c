/* What tests/globals.sh has to find, and two constants that it may not name. */
int globals_count(void);
extern int globals_shared;
extern const char *const globals_names[];

int globals_shared;
static _Thread_local int per_thread = 3;
const char *const globals_names[] = {"a", "b"};
static const int squares[] = {0, 1, 4, 9};

int globals_count(void)
{
    static int calls;
    return ++calls + squares[globals_shared++ & 3] + per_thread++;
}
