/* load smtp|handshakes|pop3|idle|sink ARGUMENTS: see the file of each. */
#include <stdio.h>
#include <string.h>

#include "report.h"

static const struct {
    const char *name;
    int (*run)(int, char **);
} commands[] = {
    {"smtp", smtp_load}, {"handshakes", handshake_load}, {"pop3", pop3_load}, {"idle", idle_load}, {"sink", sink},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 2, argv + 2);
    fprintf(stderr, "usage: load smtp|handshakes|pop3|idle|sink ARGUMENTS\n");
    return 2;
}
