/* SMTP load: sessions that send message after message, or do no more than STARTTLS.
 *
 *   load smtp PORT SESSIONS MESSAGES OCTETS RECIPIENTS DOMAIN
 *   load handshakes PORT SESSIONS COUNT
 *
 * A session stays open for as many messages as there are; commands are not pipelined, so that every server has to
 * answer every one of them by itself. Recipients are u00, u01 … u99 at the domain, in turn. The sessions are opened
 * a few at a time, each when another one has been greeted: a burst beyond a server's backlog would measure the
 * kernel's timers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "report.h"

enum { MAILBOXES = 100, AT_ONCE = 4, PATIENCE = 60 };
enum state { GREETING, HELLO, STARTTLS, MAIL, RCPT, DATA, CONTENT, QUIT };
static const char *const names[] = {"greeting", "EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "content", "QUIT"};

struct session {
    enum state state;
    int recipients; /* named so far */
    long number;    /* of its message */
    double begun;
};

static struct {
    int port, sessions, recipients;
    long messages;
    const char *domain;
    bool handshakes;
} order;
static struct report report;
static long started, opened;
static char *content;
static size_t content_size;

static void open_session(void);

static void make_content(long octets)
{
    /* Lines of 76 octets and CRLF, then the dot. */
    content = malloc(octets + 128);
    while ((long)content_size < octets) {
        for (int i = 0; i < 76; i++, content_size++)
            content[content_size] = 'a' + (i * 7 + content_size) % 26;
        content[content_size++] = '\r';
        content[content_size++] = '\n';
    }
    memcpy(content + content_size, ".\r\n", 3);
    content_size += 3;
}

static void quit(struct connection *c)
{
    struct session *s = c->mine;
    s->state = QUIT;
    c->leaving = true;
    say(c, "QUIT\r\n");
}

static void next_message(struct connection *c)
{
    struct session *s = c->mine;
    if (order.handshakes || started == order.messages) {
        quit(c);
        return;
    }
    s->number = started++;
    s->recipients = 0;
    s->begun = now();
    s->state = MAIL;
    say(c, "MAIL FROM:<sender@client.test>\r\n");
}

static void next_recipient(struct connection *c)
{
    struct session *s = c->mine;
    if (s->recipients == order.recipients) {
        s->state = DATA;
        say(c, "DATA\r\n");
        return;
    }
    s->state = RCPT;
    say(c, "RCPT TO:<u%02d@%s>\r\n", (int)((s->number * order.recipients + s->recipients++) % MAILBOXES), order.domain);
}

static void send_content(struct connection *c)
{
    struct session *s = c->mine;
    s->state = CONTENT;
    say(c,
        "From: <sender@client.test>\r\nTo: <u00@%s>\r\nSubject: message %ld\r\n"
        "Date: Mon, 06 Jan 2025 10:00:00 +0000\r\nMessage-ID: <%ld.%.0f@client.test>\r\n\r\n",
        order.domain, s->number, s->number, report.begun * 1e6);
    say_shared(c, content, content_size);
}

static int expected(enum state state)
{
    return state == GREETING || state == STARTTLS ? 220 : state == DATA ? 354 : state == QUIT ? 221 : 250;
}

static void greeted(void)
{
    if (opened < order.sessions)
        open_session();
}

static void on_line(struct connection *c, char *line)
{
    struct session *s = c->mine;
    if (strlen(line) > 3 && line[3] == '-')
        return;
    if (atoi(line) != expected(s->state)) {
        report_failure(&report, names[s->state], line);
        c->leaving = true;
        hang_up(c, NULL);
        return;
    }
    switch (s->state) {
    case GREETING:
        greeted();
        s->state = HELLO;
        say(c, "EHLO client.test\r\n");
        break;
    case HELLO:
        if (order.handshakes && !c->tls) {
            s->state = STARTTLS;
            say(c, "STARTTLS\r\n");
        } else
            next_message(c);
        break;
    case STARTTLS:
        secure(c);
        break;
    case MAIL:
    case RCPT:
        next_recipient(c);
        break;
    case DATA:
        send_content(c);
        break;
    case CONTENT:
        report.done++;
        report_time(&report, now() - s->begun);
        loop_moved();
        next_message(c);
        break;
    case QUIT:
        hang_up(c, NULL);
        break;
    }
}

static void on_secured(struct connection *c)
{
    struct session *s = c->mine;
    s->state = HELLO;
    say(c, "EHLO client.test\r\n");
}

static void on_lost(struct connection *c, const char *why)
{
    struct session *s = c->mine;
    if (why)
        report_failure(&report, names[s->state], why);
    else if (order.handshakes && s->state == QUIT) {
        report.done++;
        report_time(&report, now() - s->begun);
        loop_moved();
    }
    free(s);
    if (order.handshakes && opened < order.messages && !report.failed)
        open_session();
}

static const struct manner manner = {.line = on_line, .secured = on_secured, .lost = on_lost};

static void open_session(void)
{
    struct session *s = calloc(1, sizeof *s);
    s->begun = now();
    opened++;
    connect_to(order.port, &manner, s);
}

static int run(void)
{
    loop_start();
    report_start(&report);
    for (int i = 0; i < AT_ONCE && i < order.sessions; i++)
        open_session();
    bool finished = loop_run(PATIENCE);
    if (finished && report.done < order.messages)
        report_failure(&report, "sessions ended early", "");
    return report_end(&report, finished);
}

int smtp_load(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    order.port = atoi(argv[0]);
    order.sessions = atoi(argv[1]);
    order.messages = atol(argv[2]);
    make_content(atol(argv[3]));
    order.recipients = atoi(argv[4]);
    order.domain = argv[5];
    return run();
}

int handshake_load(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    order.port = atoi(argv[0]);
    order.sessions = atoi(argv[1]);
    order.messages = atol(argv[2]);
    order.handshakes = true;
    return run();
}
