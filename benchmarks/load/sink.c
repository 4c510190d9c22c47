/* The sink: a mail host that takes everything, forgets it and counts.
 *
 *   load sink PORT FILE
 *
 * The first eight octets of FILE are the number of messages taken so far (native order). Ends with standard input.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loop.h"
#include "report.h"

static volatile uint64_t *taken;

static void on_line(struct connection *c, char *line)
{
    if (!strncasecmp(line, "EHLO", 4))
        say(c, "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n");
    else if (!strncasecmp(line, "DATA", 4)) {
        say(c, "354 go ahead\r\n");
        multiline(c);
    } else if (!strncasecmp(line, "QUIT", 4)) {
        say(c, "221 bye\r\n");
        c->leaving = true;
    } else
        say(c, "250 ok\r\n");
}

static size_t on_block(struct connection *c, const char *data, size_t size)
{
    size_t used = multiline_end(c, data, size);
    if (!c->raw) {
        ++*taken;
        say(c, "250 taken\r\n");
    }
    return used;
}

static void on_lost(struct connection *c, const char *why) { (void)c, (void)why; }

static void on_opened(struct connection *c) { say(c, "220 sink.test ESMTP\r\n"); }

static const struct manner manner = {.line = on_line, .block = on_block, .lost = on_lost};

int sink(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    int fd = open(argv[1], O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *taken))
        give_up(argv[1]);
    taken = mmap(NULL, sizeof *taken, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (taken == MAP_FAILED)
        give_up("mmap");
    loop_start();
    listen_at(atoi(argv[0]), &manner, on_opened);
    watch_input();
    puts("{}");
    fflush(stdout);
    loop_run(0);
    return 0;
}
